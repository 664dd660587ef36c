"""Does dropping filters cost final accuracy where most devices can train most of the network?

    python -m experiments.configs.fashion_mnist_mild --data-dir ../shared/tfds

Fashion-MNIST, Dirichlet 0.3, 100 devices, 10 a round, availability uniform in [0.1, 1] and redrawn three times a round, all
methods, 5 seeds.

Expected: not known yet, no full run was made. About 40 min on 2 CPU cores, by an estimate.
"""

from distreal_jax.experiment import run_command
from distreal_jax.fleet.federation import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.methods import METHODS
from distreal_jax.record.recorded_run import RecordSettings
from experiments.compare import Options, main

CONFIG = Options(
    seeds="0-4",
    target=0.75,
    methods=",".join(METHODS),
    world=WorldSettings("fashion_mnist", model="small_cnn", availability="redrawn:0.1,1,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
