"""With which settings is each method at its best with ResNet-20 on CIFAR-10?

    python -m experiments.configs.trial_tune_cifar --data-dir ../shared/tfds

CIFAR-10 at 16x16, ResNet-20, Dirichlet 0.3, harsh load, 12 trials of each method in 100 rounds, seeds of its own (1000).

Expected: not run yet (0 of its seeds). By --dry-run at most 16 h, of which 70 min compiling, on 2 CPU cores of a busy
machine, 2026-11-26.
"""

from pathlib import Path

from distreal_jax.commands.tune import Options, main
from distreal_jax.experiment import OutputSettings, run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    methods="distreal,distreal_uniform,heterofl,fjord,fedrolex,small_network,small_ensemble,partial_work,adaptive_batch,full_resources",
    trials=12,
    seeds="1000",
    table="runs/trial_table_cifar10_0/table.json",
    world=WorldSettings("cifar10", model="resnet20", availability="redrawn:0.05,0.5,3", shrink=2, validation=0.1),
    training=TrainingSettings(rounds=100),
    record=RecordSettings(eval_every=5),
    output=OutputSettings(out=Path("runs/trial_tune_cifar")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
