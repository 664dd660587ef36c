"""Is DISTREAL that keeps the first filters of each layer level with HeteroFL on a natural partition?

    python -m experiments.configs.trial_writers_nested --data-dir ../shared/data --out runs/trial_writers_nested

As trial_writers, with the methods and settings of trial_tune_writers_nested, 5 seeds.

Expected: HeteroFL 0.967 with 11 % of the MACs, DISTREAL 0.963 with 15 %; 8 min, on 2 CPU cores that did other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_tune_writers_nested import CONFIG as TUNING
from experiments.configs.trial_writers import CONFIG as EVERY_KNOB

SETTING = "MNIST by writer, small CNN: 2 to 20 %, first filters alone"
CONFIG = dataclasses.replace(
    EVERY_KNOB,
    methods=TUNING.methods,
    reference="distreal[filters=first,idle=train]",
    table=TUNING.table,
    tuned=Path("runs/trial_tune_writers_nested/tuned.json"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
