"""With which settings does each way of turning knobs learn fastest with the small CNN on digits?

    python -m experiments.configs.trial_tune_knobs_speed

As trial_tune_knobs, but trials are scored by their mean accuracy over time; the methods that were behind there are left out.

Expected: DISTREAL 0.858, partial work 0.853, SALF 0.849, adaptive batch 0.846 on the validation split, means of four seeds;
about 20 min in three parts, on 2 CPU cores that did other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.tune import main
from distreal_jax.experiment import OutputSettings, run_command
from experiments.configs.trial_tune_knobs import CONFIG as FOR_THE_END

CONFIG = dataclasses.replace(
    FOR_THE_END,
    goal="area",
    methods="partial_work,adaptive_batch,salf,distreal,distreal[idle=train]",
    output=OutputSettings(out=Path("runs/trial_tune_knobs_speed")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
