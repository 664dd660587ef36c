"""Is one search over every knob at least as good as each knob alone, with small_cnn on Fashion-MNIST, all of them tuned?

    python -m experiments.configs.trial_fashion_knobs --data-dir ../shared/tfds --out runs/trial_fashion_knobs

Fashion-MNIST, Dirichlet 0.3, 100 devices, 10 a round, 60 rounds, availability from a fiftieth to a fifth of a round's MACs;
tuned by trial_tune_fashion_knobs, with its table, 10 seeds.

Expected: SALF 0.808, partial work and adaptive batch, which are the same as tuned, 0.807, DISTREAL 0.805; no difference is
beyond chance; 20 min on 2 CPU cores that did other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from experiments.configs.trial_tune_fashion_knobs import COMPARED
from experiments.configs.trial_tune_fashion_knobs import CONFIG as TUNING

SETTING = "Fashion-MNIST, small CNN: 2 to 20 %"
CONFIG = Options(
    methods=f"{COMPARED},distreal",
    reference="distreal[idle=train,pace=best]",
    seeds="0-9",
    table=TUNING.table,
    tuned=Path("runs/trial_tune_fashion_knobs/tuned.json"),
    targets="0.65,0.7,0.75",
    world=dataclasses.replace(TUNING.world, validation=0.0),
    training=TUNING.training,
    record=TUNING.record,
)

if __name__ == "__main__":
    run_command(main, CONFIG)
