"""Does a network of another kind, DenseNet-40-BC, order tuned methods as ResNet-20 does?

    python -m experiments.configs.trial_densenet_digits

Digits, Dirichlet 0.3, harsh load; the settings of trial_tune_digits, with one rate for all layers in place of a table, 4
seeds.

Expected: not run yet (0 of its seeds). By --dry-run 54 min, on 2 CPU cores of a busy machine, 2026-11-26.
"""

from pathlib import Path

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    methods="distreal_uniform,heterofl,small_network,partial_work,full_resources",
    seeds="0-3",
    tuned=Path("runs/trial_tune_digits/tuned.json"),
    world=WorldSettings("digits", model="densenet40", availability="redrawn:0.05,0.5,3"),
    training=TrainingSettings(rounds=40),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
