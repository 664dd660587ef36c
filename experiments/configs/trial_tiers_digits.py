"""Which tuned method is ahead under the load of HeteroFL's own experiments?

    python -m experiments.configs.trial_tiers_digits

ResNet-20 on digits, Dirichlet 0.3, five tiers for ever, whose budgets are the MACs of widths 1, 1/2, 1/4, 1/8 and 1/16
(Diao et al.); the settings of trial_tune_digits, a table searched for each seed, 5 seeds.

Expected: not run yet (0 of its seeds). By --dry-run 90 min, on 2 CPU cores of a busy machine, 2026-11-26.
"""

import dataclasses

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_digits import CONFIG as TRIAL_DIGITS

CONFIG = dataclasses.replace(
    TRIAL_DIGITS,
    seeds="0-4",
    world=dataclasses.replace(TRIAL_DIGITS.world, availability="tiers:1,0.25,0.0625,0.015625,0.004"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
