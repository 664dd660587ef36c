"""Which tuned method learns ResNet-20 on digits fastest, with ten seeds?

    python -m experiments.configs.trial_digits

Digits, Dirichlet 0.3, availability from a twentieth to a half; tuned by trial_tune_digits, a table searched for each
seed, 10 seeds.

Expected: not run yet (0 of its seeds). By --dry-run 3.3 h, of which 35 min compiling, on 2 CPU cores of a busy machine,
2026-11-26.
"""

from pathlib import Path

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    methods="distreal,distreal_uniform,heterofl,fjord,fedrolex,small_network,small_ensemble,partial_work,adaptive_batch,full_resources",
    seeds="0-9",
    table="runs/trial_table_digits_{seed}/table.json",
    tuned=Path("runs/trial_tune_digits/tuned.json"),
    world=WorldSettings("digits", model="resnet20", availability="redrawn:0.05,0.5,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=3),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
