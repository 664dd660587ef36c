"""With which settings are HeteroFL and a small network at their best with ResNet-20 on CIFAR-10?

    python -m experiments.configs.trial_tune_cifar_rivals --data-dir ../shared/tfds

As trial_tune_cifar, but 6 trials of each method, which begin where the three methods of that tuning ended: mini-batches of
8, a learning rate of 0.1, equal weights.

Expected: not run yet. By the time of trial_tune_cifar, about 30 min, on 2 CPU cores.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.tune import main
from distreal_jax.experiment import OutputSettings, run_command
from distreal_jax.fleet.training import TrainingSettings
from experiments.configs.trial_tune_cifar import CONFIG as TUNING

CONFIG = dataclasses.replace(
    TUNING,
    methods="heterofl[idle=train],small_network[idle=train]",
    trials=6,
    training=TrainingSettings(rounds=60, batch_size=8, steps=25, client_weights="equal"),
    output=OutputSettings(out=Path("runs/trial_tune_cifar_rivals")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
