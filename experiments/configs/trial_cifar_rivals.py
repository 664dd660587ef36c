"""Is DISTREAL ahead of HeteroFL and a small network with ResNet-20 on CIFAR-10 under harsh load?

    python -m experiments.configs.trial_cifar_rivals --data-dir ../shared/tfds --out runs/trial_cifar_rivals

As trial_cifar_harsh, with HeteroFL and a small network in place of partial work and SALF. All have the settings that
DISTREAL was tuned to by trial_tune_cifar: a learning rate of 0.1, mini-batches of 8, equal weights. HeteroFL and the small
network were not tuned. The last method has HeteroFL's sub-networks, of which a device chooses before each mini-batch, as in
DISTREAL. No device waits; 3 seeds.

Expected: HeteroFL 0.525, deciding before each mini-batch 0.524, a small network 0.485, DISTREAL 0.468; over time 0.447,
0.441, 0.442 and 0.382. About 180 min, on 2 CPU cores that do other work as well.
"""

import dataclasses

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from experiments.configs.trial_cifar_harsh import CONFIG as TRIAL_CIFAR_HARSH

SETTING = "CIFAR-10 at 16x16, ResNet-20: 5 to 50 %, DISTREAL's settings for all"
CONFIG = dataclasses.replace(
    TRIAL_CIFAR_HARSH,
    methods="distreal[idle=train,pace=best,by_steps=true],heterofl[idle=train],small_network[idle=train],"
    "heterofl[decided=step,idle=train]",
    reference="distreal[idle=train,pace=best,by_steps=true]",
    seeds="0-2",
    tuned=None,
    training=TrainingSettings(rounds=200, batch_size=8, steps=25, client_weights="equal"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
