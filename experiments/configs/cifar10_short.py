"""What does a short run of ResNet-20 on CIFAR-10 say, as far as two CPU cores go?

    python -m experiments.configs.cifar10_short --data-dir ../shared/tfds

20 devices, 5 a round, 5 mini-batches of 10, 30 rounds: the first 750 client-steps of a training that takes a hundred times
as many, so that accuracies are those of its beginning. Mild load, 4 seeds, of which two have been run. DISTREAL has one
rate for all layers: when it ran, no table of ResNet-20 had been searched.

Expected (final accuracy, means of two seeds, too few for an interval; 13 min on 2 CPU cores, 2026-11-23): full resources
0.230, partial work 0.230, adaptive_batch 0.224, small network 0.202, DISTREAL with one rate 0.183. Withdrawn as a
comparison: two seeds, one learning rate, and only the beginning of a training.
"""

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    seeds="0-3",
    methods="distreal_uniform,small_network,partial_work,adaptive_batch,full_resources",
    world=WorldSettings("cifar10", model="resnet20", devices=20, availability="redrawn:0.1,1,3"),
    training=TrainingSettings(rounds=30, devices_per_round=5, steps=5, batch_size=10),
    record=RecordSettings(eval_every=15),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
