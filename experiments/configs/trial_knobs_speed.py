"""Which knobs learn fastest, if each method is tuned for its mean accuracy over time?

    python -m experiments.configs.trial_knobs_speed

As trial_knobs, with the settings of trial_tune_knobs_speed; 10 seeds.

Expected: not run yet; about 15 min on 2 CPU cores, 2026-11-26.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_knobs import CONFIG as FOR_THE_END

CONFIG = dataclasses.replace(
    FOR_THE_END,
    methods="partial_work,adaptive_batch,salf,distreal,distreal[idle=train]",
    tuned=Path("runs/trial_tune_knobs_speed/tuned.json"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
