"""With which settings is each way of dropping filters at its best, if no device waits?

    python -m experiments.configs.trial_tune_filters_idle

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round, harsh load, 16 trials of each method in 24 rounds, seeds of its
own (1000, and 1001 to 1003 for the finalists). Every device trains on until the deadline. DISTREAL chooses from the shipped
table of filters alone, and is tuned twice: from pace=best and from pace=present.

Expected (validation accuracy, means of four seeds): DISTREAL 0.948 and 0.952, partial work 0.948, HeteroFL 0.945, small
network and ensemble 0.934, FjORD 0.894, FedRolex 0.856, Federated Dropout 0.850, one rate 0.830; 108 min beside other jobs,
on 2 CPU cores.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.tune import main
from distreal_jax.experiment import OutputSettings, run_command
from experiments.configs.trial_tune_digits_cnn import CONFIG as FILTERS

COMPARED = (
    "distreal[idle=train,pace=best],heterofl[idle=train],fjord[idle=train],fedrolex[idle=train],federated_dropout[idle=train],"
    "small_network[idle=train],small_ensemble[idle=train],distreal_uniform[idle=train],partial_work"
)
CONFIG = dataclasses.replace(
    FILTERS,
    final_seeds="1001-1003",
    trials=16,
    methods=f"{COMPARED},distreal[idle=train]",
    table="digits_cnn",
    output=OutputSettings(out=Path("runs/trial_tune_filters_idle")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
