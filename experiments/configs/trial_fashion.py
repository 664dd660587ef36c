"""Which tuned method learns fastest where devices have a fiftieth to a fifth of what the full network takes?

    python -m experiments.configs.trial_fashion --data-dir ../shared/tfds

Fashion-MNIST, Dirichlet 0.3, 100 devices, 10 a round, harsh load; tuned by trial_tune_fashion, 10 seeds.

Expected: not run yet (0 of its seeds). By --dry-run 81 min, of which 18 min compiling, on 2 CPU cores of a busy machine,
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
    table="small_cnn",
    tuned=Path("runs/trial_tune_fashion/tuned.json"),
    targets="0.65,0.7,0.75",
    world=WorldSettings("fashion_mnist", model="small_cnn", availability="redrawn:0.02,0.2,3"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
