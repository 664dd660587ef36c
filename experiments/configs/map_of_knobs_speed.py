"""And which method learns fastest at which load, if each is tuned for that?

    python -m experiments.configs.map_of_knobs_speed --out runs/map_of_knobs_speed

As map_of_knobs at one rate of change, but with 12 trials and one seed of tuning, which are scored by the mean of accuracy
over time; 10 seeds. DISTREAL is tuned twice: from pace=best and from pace=present.

Expected: over time 0.845 on average, not told apart from partial work, adaptive batch and SALF, and 0.026 ahead of itself
from the usual pace; in final accuracy 0.004 behind SALF. About 45 min, on 2 CPU cores that do other work as well.
"""

import dataclasses

from distreal_jax.commands.map import main
from distreal_jax.experiment import run_command
from experiments.configs.map_of_knobs import CONFIG as FOR_THE_END

SETTING = "Digits, small CNN: mean of three loads, tuned for the mean over time"
CONFIG = dataclasses.replace(
    FOR_THE_END,
    final_seeds="",
    trials=12,
    methods="distreal[idle=train,pace=best],partial_work,adaptive_batch,salf,distreal[idle=train]",
    rates="1",
    goal="area",
)

if __name__ == "__main__":
    run_command(main, CONFIG)
