"""Which tuned method is ahead under fixed budgets of an eighth, a quarter and a half of the network?

    python -m experiments.configs.trial_budgets_digits --out runs/trial_budgets_digits

Digits, digits_cnn, Dirichlet 0.3, three tiers for ever, as in later code of DISTREAL's group; tuned by
trial_tune_budgets_digits, the shipped table of every knob, 10 seeds.

Expected: DISTREAL 0.973, partial work 0.970, adaptive batch 0.968, SALF 0.959, small network 0.958, HeteroFL 0.933, FjORD
0.905; 12 min, on 2 CPU cores that did other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_tiers_digits import CONFIG as TIERS
from experiments.configs.trial_tune_budgets_digits import CONFIG as TUNING

SETTING = "Digits, small CNN: 12, 25 and 50 % for ever"
CONFIG = dataclasses.replace(
    TIERS,
    tuned=Path("runs/trial_tune_budgets_digits/tuned.json"),
    world=dataclasses.replace(TIERS.world, availability=TUNING.world.availability),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
