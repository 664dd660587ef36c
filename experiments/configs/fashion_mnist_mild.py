"""Does dropping filters cost final accuracy where most devices can train most of the network?

    python -m experiments.configs.fashion_mnist_mild --data-dir ../shared/tfds

Fashion-MNIST, Dirichlet 0.3, 100 devices, 10 a round, availability uniform in [0.1, 1] and redrawn three times a round, the
strongest methods, 5 seeds.

Expected (final accuracy, 95 % over seeds): full resources 0.841 ± 0.006, adaptive_batch 0.828 ± 0.008, partial work
0.816 ± 0.009, DISTREAL with one rate for all layers 0.809 ± 0.010, DISTREAL 0.808 ± 0.013, small network 0.801 ± 0.013,
HeteroFL 0.676 ± 0.080. 10 min on 2 CPU cores, 2026-11-23.
"""

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    seeds="0-4",
    methods="distreal,distreal_uniform,small_network,heterofl,partial_work,adaptive_batch,full_resources",
    world=WorldSettings("fashion_mnist", model="small_cnn", availability="redrawn:0.1,1,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=6),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
