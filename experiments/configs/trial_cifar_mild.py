"""Which tuned method learns ResNet-20 on CIFAR-10 fastest under mild load?

    python -m experiments.configs.trial_cifar_mild --data-dir ../shared/tfds

CIFAR-10 at 16x16, Dirichlet 0.3, 100 devices, 10 a round, 300 rounds, availability from a quarter to one, redrawn three
times a round; tuned by trial_tune_cifar, a table searched for each seed, 4 seeds.

Expected: not run yet (0 of its seeds) and not estimated. The dry run of trial_tune_digits had not ended after 7 min, on
2 CPU cores that did other work as well.
"""

import dataclasses

from distreal_jax.commands.compare import main
from distreal_jax.experiment import run_command
from experiments.configs.trial_cifar_harsh import CONFIG as TRIAL_CIFAR_HARSH

CONFIG = dataclasses.replace(
    TRIAL_CIFAR_HARSH,
    world=dataclasses.replace(TRIAL_CIFAR_HARSH.world, availability="redrawn:0.25,1,3"),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
