"""Which method is best at which mean availability and rate of change, and where does dropping filters pay?

    python -m experiments.configs.map_of_loads --data-dir ../shared/tfds

Fashion-MNIST, Dirichlet 0.3, 100 devices, 10 a round, 60 rounds; accuracy is the mean of rounds 30, 45 and 60. Availability
uniform around means from 0.03 to 0.6, redrawn 0.1, 1 or 10 times a round; 5 seeds in each cell.

Expected: adaptive_batch is best in every cell, but level with the small network at 0.03. DISTREAL minus partial work: +0.32
to +0.34 at 0.03, level at 0.1 (-0.02 to +0.03), -0.02 to -0.01 at 0.3 and 0.6; fast changes help it by up to 0.03. About
25 min on 2 CPU cores, 2026-11-23.

All with 20 examples a mini-batch. With smaller ones partial work also learns at 0.03, and adaptive_batch has no advantage.
"""

from distreal_jax.commands.map import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    means="0.03,0.1,0.3,0.6",
    rates="0.1,1,10",
    methods="distreal,partial_work,adaptive_batch,small_network",
    seeds="0-4",
    world=WorldSettings("fashion_mnist", model="small_cnn"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=15),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
