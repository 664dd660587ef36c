"""Does the order of tuned methods hold on a natural partition, one device for each writer?

    python -m experiments.configs.trial_writers --data-dir ../shared/data --out runs/trial_writers

MNIST by writer, small_cnn, 539 devices, 10 a round, 60 rounds, availability from a fiftieth to a fifth; tuned by
trial_tune_writers, with its table, 5 seeds.

Expected: HeteroFL 0.967 with 11 % of the MACs, SALF 0.962, adaptive batch 0.960, DISTREAL and partial work 0.959; 20 min, on
2 CPU cores that did other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from experiments.configs.trial_tune_writers import CONFIG as TUNING

SETTING = "MNIST by writer, small CNN: 2 to 20 %"
CONFIG = Options(
    methods=TUNING.methods,
    reference="distreal[idle=train,pace=best]",
    seeds="0-4",
    table=TUNING.table,
    tuned=Path("runs/trial_tune_writers/tuned.json"),
    world=dataclasses.replace(TUNING.world, validation=0.0),
    training=TrainingSettings(rounds=60),
    record=TUNING.record,
)

if __name__ == "__main__":
    run_command(main, CONFIG)
