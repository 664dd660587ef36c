"""Does a network of another kind, DenseNet-40-BC, order tuned methods as ResNet-20 does?

    python -m experiments.configs.trial_densenet_digits --out runs/trial_densenet_digits

Digits, Dirichlet 0.3, 100 devices, 10 a round, 40 rounds, availability from a twentieth to a half; tuned by
trial_tune_densenet_digits, with its table, 4 seeds.

Expected: DISTREAL 0.988, partial work and SALF 0.987, no difference beyond chance; 22 min, on 2 CPU cores that did other
work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from experiments.configs.trial_tune_densenet_digits import CONFIG as TUNING

SETTING = "Digits, DenseNet-40-BC: 5 to 50 %"
CONFIG = Options(
    methods=TUNING.methods,
    reference="distreal[idle=train,pace=best]",
    seeds="0-3",
    execution=TUNING.execution,
    table=TUNING.table,
    tuned=Path("runs/trial_tune_densenet_digits/tuned.json"),
    world=dataclasses.replace(TUNING.world, validation=0.0),
    training=TUNING.training,
    record=TUNING.record,
)

if __name__ == "__main__":
    run_command(main, CONFIG)
