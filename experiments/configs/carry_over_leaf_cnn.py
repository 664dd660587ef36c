"""Does the LEAF CNN's table carry over: to another data set, to later training, to devices whose data differ?

    python -m experiments.configs.carry_over_leaf_cnn --data-dir ../shared/tfds

The shipped table, searched on Fashion-MNIST, beside vectors of one rate of the same costs, measured on Fashion-MNIST with
fresh seeds, on MNIST by writer, after 300 mini-batches, and on devices with their own data (Dirichlet 0.3). 3 seeds.

Expected (difference of the area below the table to that below one rate, 95 % over seeds): -0.013 [-0.022, -0.005] as
searched, +0.015 [+0.010, +0.024] on MNIST writers, +0.002 [0.000, +0.005] later, +0.001 [-0.007, +0.013] with devices' own
data: nothing that is sure, as single entries are off by up to 0.08. 7 min on 2 CPU cores, 2026-11-24.
"""

from distreal_jax.commands.carry_over import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.search.progress import ProgressSettings

CONFIG = Options(
    table="leaf_cnn",
    other_dataset="mnist_writers",
    repeats=2,
    seeds="1-3",
    world=WorldSettings("fashion_mnist", model="leaf_cnn"),
    progress=ProgressSettings(held_out=500, sizes=2),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
