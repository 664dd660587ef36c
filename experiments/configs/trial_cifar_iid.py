"""Does the order of tuned methods hold where all devices have data of one kind?

    python -m experiments.configs.trial_cifar_iid --data-dir ../shared/tfds

As trial_cifar_harsh, but iid, with the strongest rivals of each kind, 4 seeds.

Expected: not run yet (0 of its seeds), and to be estimated by --dry-run; more than 7 min on 2 CPU cores in any case.
"""

from pathlib import Path

from distreal_jax.experiment import run_command
from distreal_jax.fleet.federation import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings
from experiments.compare import Options, main

CONFIG = Options(
    methods="distreal,heterofl,fedrolex,small_network,partial_work,full_resources",
    seeds="0-3",
    table="runs/trial_table_cifar10_{seed}/table.json",
    tuned=Path("runs/trial_tune_cifar/tuned.json"),
    world=WorldSettings("cifar10", model="resnet20", partition="iid", availability="redrawn:0.05,0.5,3", shrink=2),
    training=TrainingSettings(rounds=300),
    record=RecordSettings(eval_every=10),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
