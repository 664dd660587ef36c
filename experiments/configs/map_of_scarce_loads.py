"""What serves where a device can hardly do one mini-batch of the full network in a round?

    python -m experiments.configs.map_of_scarce_loads --out runs/map_of_scarce_loads

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round, 24 rounds. Availability uniform around means of 0.003, 0.01 and
0.03 of a round's MACs, redrawn once a round: at 0.003 a round has time for half an example with the full network. 12
trials of each method in each cell, then 5 seeds. DISTREAL chooses from the shipped table of filters, nested ones (the
first k of each layer) or random ones.

Expected: at 0.003 and 0.01 methods that keep the first filters end at 0.72 to 0.89, those that train the full network at
0.10 to 0.78; at 0.03 all end at 0.88 to 0.91; 60 min, on 2 CPU cores that did other work as well.
"""

import dataclasses

from distreal_jax.commands.map import main
from distreal_jax.experiment import run_command
from experiments.configs.map_of_knobs import CONFIG as KNOBS

CONFIG = dataclasses.replace(
    KNOBS,
    final_seeds="",
    trials=12,
    means="0.003,0.01,0.03",
    rates="1",
    seeds="0-4",
    methods="distreal[filters=first,idle=train],distreal_uniform[filters=first,idle=train],distreal[idle=train],"
    "heterofl[idle=train],small_network[idle=train],partial_work,adaptive_batch,salf",
    table="digits_cnn",
)

if __name__ == "__main__":
    run_command(main, CONFIG)
