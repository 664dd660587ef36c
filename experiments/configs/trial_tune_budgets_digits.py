"""With which settings is each method at its best under fixed budgets of an eighth, a quarter and a half of the network?

    python -m experiments.configs.trial_tune_budgets_digits

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round, three tiers for ever, as in later code of DISTREAL's group; 12
trials of each method in 24 rounds, seeds of its own (1000). DISTREAL chooses from the shipped table of every knob.

Expected: not run yet. By --dry-run at most 30 min, on 2 CPU cores, 2026-11-26.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.tune import main
from distreal_jax.experiment import OutputSettings, run_command
from experiments.configs.trial_tune_tiers_digits import CONFIG as TIERS

CONFIG = dataclasses.replace(
    TIERS,
    world=dataclasses.replace(TIERS.world, availability="tiers:0.5,0.25,0.125"),
    output=OutputSettings(out=Path("runs/trial_tune_budgets_digits")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
