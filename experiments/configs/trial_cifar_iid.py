"""Does the order of tuned methods hold where all devices have data of one kind?

    python -m experiments.configs.trial_cifar_iid --data-dir ../shared/tfds

As trial_cifar_harsh, but iid, with the strongest rivals of each kind, 4 seeds.

Expected: not run yet (0 of its seeds). By --dry-run 312 min, on 2 CPU cores of a busy machine, 2026-11-26.
"""

import dataclasses

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_cifar_harsh import CONFIG as TRIAL_CIFAR_HARSH

CONFIG = dataclasses.replace(
    TRIAL_CIFAR_HARSH,
    methods="distreal,heterofl,fedrolex,small_network,partial_work,full_resources",
    world=dataclasses.replace(TRIAL_CIFAR_HARSH.world, partition="iid"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
