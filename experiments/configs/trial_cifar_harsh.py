"""Which tuned method learns ResNet-20 on CIFAR-10 fastest under harsh load?

    python -m experiments.configs.trial_cifar_harsh --data-dir ../shared/tfds --out runs/trial_cifar_harsh

CIFAR-10 at 16x16, Dirichlet 0.3, 100 devices, 10 a round, 200 rounds, availability from a twentieth to a half, redrawn
three times a round; tuned by trial_tune_cifar, with its table, 4 seeds.

Expected: DISTREAL and SALF 0.469, partial work 0.463, no difference beyond chance; 34 min, on 2 CPU cores that did other
work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from experiments.configs.trial_tune_cifar import CONFIG as TUNING

SETTING = "CIFAR-10 at 16x16, ResNet-20: 5 to 50 %"
CONFIG = Options(
    methods=TUNING.methods,
    reference="distreal[idle=train,pace=best]",
    seeds="0-3",
    table=TUNING.table,
    tuned=Path("runs/trial_tune_cifar/tuned.json"),
    world=dataclasses.replace(TUNING.world, validation=0.0),
    training=TrainingSettings(rounds=200),
    record=TUNING.record,
)

if __name__ == "__main__":
    run_command(main, CONFIG)
