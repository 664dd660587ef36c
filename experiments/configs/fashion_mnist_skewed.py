"""Do the answers of fashion_mnist_harsh hold where most devices have one or two classes?

    python -m experiments.configs.fashion_mnist_skewed --data-dir ../shared/tfds

Fashion-MNIST, Dirichlet 0.1, harsh load, the strongest methods, 5 seeds.

Expected (final accuracy, 95 % over seeds): full resources 0.795 ± 0.021, adaptive_batch 0.756 ± 0.024, small network
0.692 ± 0.030, partial work 0.657 ± 0.018, one rate for all layers 0.620 ± 0.043, DISTREAL 0.603 ± 0.033, FedRolex
0.598 ± 0.032. They do not: DISTREAL falls behind partial work. 6 min on 2 CPU cores, 2026-11-23.
"""

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    seeds="0-4",
    methods="distreal,distreal_uniform,small_network,fedrolex,partial_work,adaptive_batch,full_resources",
    world=WorldSettings("fashion_mnist", model="small_cnn", partition="dirichlet:0.1", availability="redrawn:0.02,0.2,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
