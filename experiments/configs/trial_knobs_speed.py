"""Which knobs learn fastest, if each method is tuned for its mean accuracy over time?

    python -m experiments.configs.trial_knobs_speed

As trial_knobs, with the settings of trial_tune_knobs_speed; 10 seeds.

Expected (mean accuracy over time, 10 seeds): DISTREAL and partial work 0.871, SALF 0.870, adaptive batch 0.852; at the end
0.958, 0.960, 0.960 and 0.955; 5 min, on 2 CPU cores.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_knobs import CONFIG as FOR_THE_END
from experiments.configs.trial_tune_knobs_speed import CONFIG as TUNING

SETTING = "Digits, small CNN: 2 to 20 %, tuned for the mean over time"
CONFIG = dataclasses.replace(
    FOR_THE_END,
    methods=TUNING.methods,
    tuned=Path("runs/trial_tune_knobs_speed/tuned.json"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
