"""With which settings is each method at its best with ResNet-20 on digits?

    python -m experiments.configs.trial_tune_digits

Digits, ResNet-20, Dirichlet 0.3, harsh load, 16 trials of each method in 60 rounds, seeds of its own (1000 and 1001).

Expected: not run yet (0 of its seeds). By --dry-run at most 34 h, of which 45 min compiling, on 2 CPU cores of a busy
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
    trials=16,
    execution="masked",
    seeds="1000,1001",
    table="runs/trial_table_digits_0/table.json",
    world=WorldSettings("digits", model="resnet20", availability="redrawn:0.05,0.5,3", validation=0.2),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=3),
    output=OutputSettings(out=Path("runs/trial_tune_digits")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
