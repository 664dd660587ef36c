"""Is DISTREAL ahead of HeteroFL and a small network with ResNet-20 on CIFAR-10 at its own size?

    python -m experiments.configs.trial_cifar32_rivals --data-dir ../shared/tfds --out runs/trial_cifar32_rivals

As trial_cifar_rivals at 32x32, with partial work and SALF, and with the shipped table of this network, which drops filters
alone. All have the settings that DISTREAL was tuned to at 16x16: a learning rate of 0.1, mini-batches of 8, equal weights.
Nothing was tuned at 32x32. No device waits; 4 seeds.

Expected: not run yet, 0 figures; 10 min on a GPU with 16 CPU cores.
"""

import dataclasses

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_cifar_rivals import CONFIG as AT_16

SETTING = "CIFAR-10 at 32x32, ResNet-20: 5 to 50 %, DISTREAL's settings for all"
CONFIG = dataclasses.replace(
    AT_16,
    methods="distreal[idle=train,pace=best,by_steps=true],heterofl[idle=train],small_network[idle=train],"
    "partial_work[by_steps=true],salf",
    seeds="0-3",
    table="resnet20",
    execution="masked",
    world=dataclasses.replace(AT_16.world, shrink=1),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
