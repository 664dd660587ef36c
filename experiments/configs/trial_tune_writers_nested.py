"""With which settings is DISTREAL at its best on a natural partition, if it keeps the first filters of each layer?

    python -m experiments.configs.trial_tune_writers_nested --data-dir ../shared/data

As trial_tune_writers, but DISTREAL chooses from the shipped table of filters alone, keeps the first of each layer instead of
random ones, and delivers the largest sub-network that was trained, as HeteroFL does; seeds of its own (1000).

Expected: HeteroFL 0.949, DISTREAL 0.946 on the validation split; 26 min, on 2 CPU cores that did other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.tune import main
from distreal_jax.experiment import OutputSettings, run_command
from experiments.configs.trial_tune_writers import CONFIG as EVERY_KNOB

CONFIG = dataclasses.replace(
    EVERY_KNOB,
    methods="distreal[filters=first,idle=train],heterofl[idle=train]",
    table="small_cnn",
    output=OutputSettings(out=Path("runs/trial_tune_writers_nested")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
