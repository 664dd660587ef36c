"""Which tuned method is ahead under fixed budgets of an eighth, a quarter and a half of the network?

    python -m experiments.configs.trial_budgets_digits

ResNet-20 on digits, Dirichlet 0.3, three tiers for ever, as in later code of DISTREAL's group; the settings of
trial_tune_digits, a table searched for each seed, 5 seeds.

Expected: not run yet (0 of its seeds). By --dry-run 108 min, on 2 CPU cores of a busy machine, 2026-11-26.
"""

import dataclasses

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_digits import CONFIG as TRIAL_DIGITS

CONFIG = dataclasses.replace(
    TRIAL_DIGITS,
    seeds="0-4",
    world=dataclasses.replace(TRIAL_DIGITS.world, availability="tiers:0.5,0.25,0.125"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
