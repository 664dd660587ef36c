"""Does dropping filters cost final accuracy where most devices can train most of the network?

    python -m experiments.configs.fashion_mnist_mild --data-dir ../shared/tfds

Fashion-MNIST, Dirichlet 0.3, 100 devices, 10 a round, availability uniform in [0.1, 1] and redrawn three times a round, the
strongest methods, 5 seeds.

Expected (final accuracy, 95 % over seeds): full resources 0.837 ± 0.005, partial work 0.812 ± 0.009, DISTREAL with one rate
for all layers 0.803 ± 0.009, DISTREAL 0.802 ± 0.011, small network 0.793 ± 0.010, HeteroFL 0.680 ± 0.094. 15 min on
2 CPU cores that did other work as well, 2026-11-23.
"""

from distreal_jax.experiment import run_command
from distreal_jax.fleet.federation import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings
from experiments.compare import Options, main

CONFIG = Options(
    seeds="0-4",
    methods="distreal,distreal_uniform,small_network,heterofl,partial_work,partial_batch,full_resources",
    world=WorldSettings("fashion_mnist", model="small_cnn", availability="redrawn:0.1,1,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=6),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
