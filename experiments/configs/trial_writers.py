"""Does the order of tuned methods hold on a natural partition, one device for each writer?

    python -m experiments.configs.trial_writers --data-dir ../shared/data

MNIST by writer, harsh load; the settings of trial_tune_fashion, 5 seeds.

Expected: not run yet (0 of its seeds). By --dry-run 43 min, on 2 CPU cores of a busy machine, 2026-11-26.
"""

from pathlib import Path

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    methods="distreal,distreal_uniform,heterofl,fjord,fedrolex,small_network,small_ensemble,partial_work,adaptive_batch,full_resources",
    seeds="0-4",
    table="small_cnn",
    tuned=Path("runs/trial_tune_fashion/tuned.json"),
    world=WorldSettings(
        "mnist_writers", model="small_cnn", partition="natural", devices=0, availability="redrawn:0.02,0.2,3"
    ),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
