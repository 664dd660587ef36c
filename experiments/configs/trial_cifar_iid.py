"""Does the order of tuned methods hold where all devices have data of one kind?

    python -m experiments.configs.trial_cifar_iid --data-dir ../shared/tfds --out runs/trial_cifar_iid

As trial_cifar_harsh, but iid; the settings are those that were tuned with Dirichlet 0.3, 3 seeds.

Expected: SALF 0.527, DISTREAL 0.521, partial work 0.520; 33 min, on 2 CPU cores that did other work as well.
"""

import dataclasses

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_cifar_harsh import CONFIG as TRIAL_CIFAR_HARSH

SETTING = "CIFAR-10 at 16x16, ResNet-20: 5 to 50 %, iid"
CONFIG = dataclasses.replace(
    TRIAL_CIFAR_HARSH,
    seeds="0-2",
    world=dataclasses.replace(TRIAL_CIFAR_HARSH.world, partition="iid"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
