"""Which tuned method is ahead under five tiers for ever, as in HeteroFL?

    python -m experiments.configs.trial_tiers_digits --out runs/trial_tiers_digits

Digits, digits_cnn, Dirichlet 0.3, five tiers for ever, whose budgets are the squares of widths 1, 1/2, 1/4, 1/8 and
1/16 (Diao et al.); tuned by trial_tune_tiers_digits, the shipped table of every knob, 10 seeds.

Expected: adaptive batch 0.952, SALF 0.948, DISTREAL 0.945, partial work 0.939, HeteroFL 0.917, FjORD 0.901, small network
0.876; 12 min, on 2 CPU cores that did other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_knobs import CONFIG as KNOBS
from experiments.configs.trial_tune_tiers_digits import COMPARED
from experiments.configs.trial_tune_tiers_digits import CONFIG as TUNING

SETTING = "Digits, small CNN: five tiers for ever, as in HeteroFL"
CONFIG = dataclasses.replace(
    KNOBS,
    methods=COMPARED,
    reference="distreal[idle=train,pace=best]",
    seeds="0-9",
    tuned=Path("runs/trial_tune_tiers_digits/tuned.json"),
    world=dataclasses.replace(KNOBS.world, availability=TUNING.world.availability),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
