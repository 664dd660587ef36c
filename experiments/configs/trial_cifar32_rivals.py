"""Is DISTREAL ahead of HeteroFL, partial work and SALF with ResNet-20 on CIFAR-10 at its own size?

    python -m experiments.configs.trial_cifar32_rivals --data-dir ../shared/tfds --out runs/trial_cifar32_rivals

As trial_cifar_rivals at 32x32 in 160 rounds, with partial work and SALF in place of the small network, and with the shipped
table of this network, which drops filters alone. All have the settings that DISTREAL was tuned to at 16x16: a learning rate
of 0.1, mini-batches of 8, equal weights; DISTREAL and partial work weight by steps as well. Nothing was tuned at 32x32.
Masked execution: on a GPU one program for all filters side by side is faster than one for each vector. No device waits; 3
seeds.

Expected: HeteroFL 0.599, SALF 0.488, partial work 0.480, DISTREAL 0.474; over time 0.486, 0.388, 0.382 and 0.380. 7 min on
one NVIDIA H200 with 16 CPU cores, all 12 runs at the same time (12 processes with --share).
"""

import dataclasses

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_cifar_rivals import CONFIG as AT_16

SETTING = "CIFAR-10 at 32x32, ResNet-20: 5 to 50 %, dropped filters alone, settings of 16x16"
CONFIG = dataclasses.replace(
    AT_16,
    methods="heterofl[idle=train],distreal[idle=train,pace=best,by_steps=true],partial_work[by_steps=true],salf",
    seeds="0-2",
    table="resnet20",
    execution="masked",
    world=dataclasses.replace(AT_16.world, shrink=1),
    training=dataclasses.replace(AT_16.training, rounds=160),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
