"""Does the order of fashion_mnist_harsh hold when training goes on for longer?

    python -m experiments.configs.fashion_mnist_longer --data-dir ../shared/tfds

The same world, 200 rounds instead of 60, the strongest methods, 5 seeds.

Expected: not known yet, no full run was made. About 15 min on 2 CPU cores, by an estimate.
"""

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    seeds="0-4",
    methods="distreal,distreal_uniform,small_network,partial_work,adaptive_batch,full_resources",
    world=WorldSettings("fashion_mnist", model="small_cnn", availability="redrawn:0.02,0.2,3"),
    training=TrainingSettings(rounds=200),
    record=RecordSettings(eval_every=10),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
