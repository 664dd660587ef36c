"""Is dropping filters before each mini-batch ahead of other ways of dropping them, if no device waits?

    python -m experiments.configs.trial_filters_idle

As trial_digits_cnn, but every device trains on until the deadline; 16 trials for each method by trial_tune_filters_idle, the
shipped table of filters alone, 10 seeds. The ensemble is left out: as tuned, it has one member and is the small network.

Expected: partial work 0.960, DISTREAL 0.953, small network 0.948, HeteroFL 0.945, FjORD 0.913, Federated Dropout 0.874,
FedRolex 0.865, one rate 0.827; over time DISTREAL 0.858, partial work 0.802; 19 min beside other jobs, on 2 CPU cores.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_digits_cnn import CONFIG as FILTERS
from experiments.configs.trial_tune_filters_idle import COMPARED

SETTING = "Digits, small CNN: 2 to 20 %, dropped filters alone"
CONFIG = dataclasses.replace(
    FILTERS,
    methods=COMPARED.replace("small_ensemble[idle=train],", ""),
    reference="distreal[idle=train,pace=best]",
    table="digits_cnn",
    tuned=Path("runs/trial_tune_filters_idle/tuned.json"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
