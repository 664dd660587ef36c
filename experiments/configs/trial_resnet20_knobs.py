"""Is one search over every knob at least as good as each knob alone, with ResNet-20 on digits, all of them tuned?

    python -m experiments.configs.trial_resnet20_knobs --out runs/trial_resnet20_knobs

Digits, Dirichlet 0.3, 100 devices, 10 a round, 60 rounds, availability from a twentieth to a half of a round's MACs; tuned
by trial_tune_resnet20_knobs, with its table, 10 seeds.

Expected: DISTREAL and SALF at 0.981, partial work at 0.977, no difference beyond chance; 40 min, on 2 CPU cores that did
other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from experiments.configs.trial_tune_resnet20_knobs import CONFIG as TUNING

SETTING = "Digits, ResNet-20: 5 to 50 %"
CONFIG = Options(
    methods=TUNING.methods,
    reference="distreal[idle=train]",
    seeds="0-9",
    execution=TUNING.execution,
    table=TUNING.table,
    tuned=Path("runs/trial_tune_resnet20_knobs/tuned.json"),
    world=dataclasses.replace(TUNING.world, validation=0.0),
    training=TUNING.training,
    record=TUNING.record,
)

if __name__ == "__main__":
    run_command(main, CONFIG)
