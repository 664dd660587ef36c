"""Which tuned method is ahead under fixed budgets of an eighth, a quarter and a half of the network?

    python -m experiments.configs.trial_budgets_digits --out runs/trial_budgets_digits

Digits, digits_cnn, Dirichlet 0.3, three tiers for ever, as in later code of DISTREAL's group; tuned by
trial_tune_budgets_digits, the shipped table of every knob, 10 seeds.

Expected: not run yet. By --dry-run 15 min, on 2 CPU cores, 2026-11-26.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_tiers_digits import CONFIG as TIERS
from experiments.configs.trial_tune_budgets_digits import CONFIG as TUNING

CONFIG = dataclasses.replace(
    TIERS,
    tuned=Path("runs/trial_tune_budgets_digits/tuned.json"),
    world=dataclasses.replace(TIERS.world, availability=TUNING.world.availability),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
