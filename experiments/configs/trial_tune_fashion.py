"""With which settings is each method at its best with small_cnn on Fashion-MNIST?

    python -m experiments.configs.trial_tune_fashion --data-dir ../shared/tfds

Fashion-MNIST, Dirichlet 0.3, harsh load, 16 trials of each method in 60 rounds, seeds of its own (1000).

Expected: not run yet (0 of its seeds). By --dry-run at most 4.1 h, of which 22 min compiling, on 2 CPU cores of a busy
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
    seeds="1000",
    table="small_cnn",
    world=WorldSettings("fashion_mnist", model="small_cnn", availability="redrawn:0.02,0.2,3", validation=0.1),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
    output=OutputSettings(out=Path("runs/trial_tune_fashion")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
