"""Is one search over every knob of a device at least as good as each knob alone, all of them tuned?

    python -m experiments.configs.trial_knobs

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round, availability from a fiftieth to a fifth of a round's MACs; tuned
by trial_tune_knobs, the shipped table of all knobs, 10 seeds.

Expected: in final accuracy DISTREAL (0.949) is level with SALF and 0.011 behind partial work and adaptive batch, CoCoFL and
TimelyFL are 0.11 behind it; over time 0.058 ahead of partial work, 0.007 behind SALF; 10 min, on 2 CPU cores that did other
work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_digits_cnn import CONFIG as FILTERS
from experiments.configs.trial_tune_knobs import CONFIG as TUNING

SETTING = "Digits, small CNN: 2 to 20 % of a round's work"
CONFIG = dataclasses.replace(
    FILTERS,
    methods=TUNING.methods,
    reference="distreal[idle=train]",
    table="digits_cnn_every_knob",
    tuned=Path("runs/trial_tune_knobs/tuned.json"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
