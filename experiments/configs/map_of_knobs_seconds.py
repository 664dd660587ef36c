r"""And in measured seconds of a CPU core, where narrow networks and small mini-batches cost more than their MACs?

    python experiments/search.py --dataset digits --model digits_cnn --cost seconds:core --search.population 32 \
        --search.generations 10 --progress.rounds 8 --progress.devices 4 --progress.held-out 400 --progress.sizes 1 \
        --search.knobs filters examples depth step --out runs/digits_cnn_every_knob_seconds
    python -m experiments.configs.map_of_knobs_seconds --out runs/map_of_knobs_seconds

As map_of_knobs, but with 12 trials and one seed of tuning, from pace=present, at one rate of change and in another unit: the
table is searched by seconds, a round offers the seconds of ten mini-batches of 20 with the full network, and every step
costs what was measured on this machine; 10 seeds.

Expected: in final accuracy behind none beyond chance, level with partial work and SALF on average, ahead of adaptive batch
by 0.019; over time ahead of partial work by 0.021 and adaptive batch by 0.059; 30 min, on 2 CPU cores that did other work as
well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.map import main
from distreal_jax.experiment import run_command
from experiments.configs.map_of_knobs import CONFIG as BY_MACS

SETTING = "Digits, small CNN: mean of three loads, in measured seconds"
CONFIG = dataclasses.replace(
    BY_MACS,
    final_seeds="",
    trials=12,
    methods="distreal[idle=train],partial_work,adaptive_batch,salf",
    rates="1",
    table="runs/digits_cnn_every_knob_seconds/table.json",
    seconds=Path("runs/core.json"),
    world=dataclasses.replace(BY_MACS.world, cost="seconds:core"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
