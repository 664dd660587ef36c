"""Is a rate for each layer better than one rate in a network whose layers differ in what they cost?

    python -m experiments.configs.leaf_cnn_harsh --data-dir ../shared/tfds

The LEAF CNN, 82 % of whose MACs are in its second convolution, and the table that was searched for it. Fashion-MNIST,
Dirichlet 0.3, harsh load as in fashion_mnist_harsh, 5 seeds.

Expected (final accuracy, 95 % over seeds): DISTREAL 0.716 ± 0.028, with one rate for all layers 0.732 ± 0.014; +0.016
[-0.009, +0.031] for one rate, +0.005 [-0.011, +0.018] in the mean over time. So they are level, although the search's short
training puts the table above one rate (docs/pictures/front.png). 7 min on 2 CPU cores, 2026-11-23 and 24.
"""

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    seeds="0-4",
    methods="distreal,distreal_uniform",
    world=WorldSettings("fashion_mnist", model="leaf_cnn", availability="redrawn:0.02,0.2,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
