"""With which settings is each method at its best under five tiers for ever, as in HeteroFL?

    python -m experiments.configs.trial_tune_tiers_digits

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round, five tiers for ever, whose budgets are the squares of widths 1,
1/2, 1/4, 1/8 and 1/16 (Diao et al.); 12 trials of each method in 24 rounds, seeds of its own (1000, and 1001 to 1003 for the
finalists). DISTREAL chooses from the shipped table of every knob, and is tuned twice: from pace=best and from pace=present.

Expected: adaptive batch 0.955, SALF 0.948, DISTREAL 0.938, partial work 0.931, FjORD 0.905, HeteroFL 0.902, small network
0.872 on the validation split, means of four seeds; about 40 min, on 2 CPU cores that did other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.tune import main
from distreal_jax.experiment import OutputSettings, run_command
from experiments.configs.trial_tune_knobs import CONFIG as KNOBS

COMPARED = (
    "distreal[idle=train,pace=best],heterofl[idle=train],fjord[idle=train],small_network[idle=train],partial_work,"
    "adaptive_batch,salf"
)
CONFIG = dataclasses.replace(
    KNOBS,
    final_seeds="1001-1003",
    trials=12,
    methods=f"{COMPARED},distreal[idle=train]",
    world=dataclasses.replace(KNOBS.world, availability="tiers:1,0.25,0.0625,0.015625,0.004"),
    output=OutputSettings(out=Path("runs/trial_tune_tiers_digits")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
