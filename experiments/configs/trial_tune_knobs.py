"""With which settings is each way of turning knobs at its best with the small CNN on digits?

    python -m experiments.configs.trial_tune_knobs

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round, harsh load, 16 trials of each method in 24 rounds, seeds of its
own (1000); three more decide between the best three and the usual settings. DISTREAL chooses from the shipped table, which
was searched over all knobs.

Expected: adaptive batch at 0.956, SALF 0.953, partial work and DISTREAL 0.948, CoCoFL and TimelyFL 0.83 on the validation
split, means of four seeds; about 17 min, on 2 CPU cores that did other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.tune import main
from distreal_jax.experiment import OutputSettings, run_command
from experiments.configs.trial_tune_digits_cnn import CONFIG as FILTERS

CONFIG = dataclasses.replace(
    FILTERS,
    trials=16,
    final_seeds="1001-1003",
    methods="partial_work,adaptive_batch,cocofl,timelyfl,salf,distreal,distreal[idle=train]",
    table="digits_cnn_every_knob",
    output=OutputSettings(out=Path("runs/trial_tune_knobs")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
