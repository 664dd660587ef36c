r"""Which tuned method learns ResNet-20 on CIFAR-10 fastest under mild load?

    python -m experiments.configs.trial_cifar_mild --data-dir ../shared/tfds \
        --tuned docs/results/trial_tune_cifar/tuned.json --out runs/trial_cifar_mild

As trial_cifar_harsh, but availability from a quarter to one, with the settings that were tuned under harsh load; 3 seeds.

Expected: DISTREAL 0.533, SALF 0.533, partial work 0.531; 50 min, on 2 CPU cores that did other work as well.
"""

import dataclasses

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_cifar_harsh import CONFIG as TRIAL_CIFAR_HARSH

SETTING = "CIFAR-10 at 16x16, ResNet-20: 25 to 100 %"
CONFIG = dataclasses.replace(
    TRIAL_CIFAR_HARSH,
    seeds="0-2",
    world=dataclasses.replace(TRIAL_CIFAR_HARSH.world, availability="redrawn:0.25,1,3"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
