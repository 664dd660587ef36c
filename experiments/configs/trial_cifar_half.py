"""What does ResNet-20 of half the width reach on CIFAR-10 under harsh load, as the network of all devices?

    python -m experiments.configs.trial_cifar_half --data-dir ../shared/tfds --out runs/trial_cifar_half

As trial_cifar_rivals, with the network that HeteroFL delivers there, on its own: 25 % of the MACs. A device has the same
resources, so a round's work is 99 mini-batches of 8 in place of 25. Devices do partial work, which needs no table. Settings
are those of trial_cifar_rivals, none is tuned for this network. No device waits; 3 seeds.

Expected: 0.520, where HeteroFL has 0.525 and DISTREAL with the whole network 0.468; over time 0.434. About 30 min, on 2 CPU
cores that do other work as well.
"""

import dataclasses

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_cifar_rivals import CONFIG as RIVALS

CONFIG = dataclasses.replace(
    RIVALS,
    methods="partial_work[by_steps=true]",
    reference=None,
    table=None,
    world=dataclasses.replace(RIVALS.world, model="experiments.networks.narrow_resnet20:HalfResNet20"),
    training=dataclasses.replace(RIVALS.training, steps=99),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
