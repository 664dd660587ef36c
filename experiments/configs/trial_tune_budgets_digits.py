"""With which settings is each method at its best under fixed budgets of an eighth, a quarter and a half of the network?

    python -m experiments.configs.trial_tune_budgets_digits

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round, three tiers for ever, as in later code of DISTREAL's group; 12
trials of each method in 24 rounds, seeds of its own (1000, and 1001 to 1003 for the finalists). DISTREAL chooses from the
shipped table of every knob, and is tuned twice: from pace=best and from pace=present.

Expected: adaptive batch 0.971, DISTREAL 0.970 (from pace=present 0.965), partial work 0.969, SALF 0.961, small network
0.954, HeteroFL 0.924, FjORD 0.909 on the validation split, means of four seeds; about 45 min, on 2 CPU cores that did other
work as well.
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
