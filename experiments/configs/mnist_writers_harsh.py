"""Do the answers hold on a natural partition, one device for each writer?

    python -m experiments.configs.mnist_writers_harsh --data-dir ../shared/data

MNIST by writer, all its writers, 10 a round, harsh load, the table that was searched on Fashion-MNIST, 5 seeds.

Expected (final accuracy, 95 % over seeds): full resources 0.972 ± 0.001, adaptive_batch 0.955 ± 0.002, small network
0.914 ± 0.016, partial work 0.904 ± 0.013, DISTREAL 0.890 ± 0.006, one rate for all layers 0.889 ± 0.006, FedRolex
0.879 ± 0.009. They hold, except that partial work is ahead of DISTREAL. 7 min on 2 CPU cores, 2026-11-23.
"""

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    seeds="0-4",
    methods="distreal,distreal_uniform,small_network,fedrolex,partial_work,adaptive_batch,full_resources",
    world=WorldSettings(
        "mnist_writers", model="small_cnn", partition="natural", devices=0, availability="redrawn:0.02,0.2,3"
    ),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
