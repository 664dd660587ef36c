"""Which tuned method learns the small CNN on digits fastest, where devices have a fiftieth to a fifth of a round's MACs?

    python -m experiments.configs.trial_digits_cnn

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round; tuned by trial_tune_digits_cnn, one table for all seeds, 10
seeds. The ensemble is left out: as it was tuned, it has one member and is the small network.

Expected: DISTREAL and partial work at 0.960, a small network at 0.941, HeteroFL 0.929, FjORD 0.897, FedRolex 0.828; over
time DISTREAL 0.842, partial work 0.802; 42 min for 10 seeds, on 2 CPU cores that did other work as well.
"""

from pathlib import Path

from distreal_jax.commands.compare import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings
from experiments.configs.trial_tune_digits_cnn import CONFIG as TUNING

SETTING = "Digits, small CNN: 2 to 20 %, dropped filters alone, devices wait"
CONFIG = Options(
    methods=TUNING.methods.replace("small_ensemble,", ""),
    seeds="0-9",
    execution="masked",
    table=TUNING.table,
    tuned=Path("runs/trial_tune_digits_cnn/tuned.json"),
    targets="0.7,0.8,0.9",
    world=WorldSettings("digits", model="digits_cnn", availability="redrawn:0.02,0.2,3"),
    training=TrainingSettings(rounds=24),
    record=RecordSettings(eval_every=2),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
