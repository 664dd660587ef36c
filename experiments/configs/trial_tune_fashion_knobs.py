r"""With which settings is each way of turning knobs at its best with small_cnn on Fashion-MNIST?

    python experiments/search.py --dataset fashion_mnist --data-dir ../shared/tfds --model small_cnn --search.population 32 \
        --search.generations 10 --progress.rounds 8 --progress.devices 4 --progress.held-out 1000 --progress.sizes 1 \
        --progress.snapshots 0 300 --search.knobs filters examples depth step --out runs/small_cnn_every_knob
    python -m experiments.configs.trial_tune_fashion_knobs --data-dir ../shared/tfds

Fashion-MNIST, Dirichlet 0.3, 100 devices, 10 a round, harsh load, 16 trials of each method in 60 rounds, seeds of its own
(1000, and 1001 to 1003 for the finalists). DISTREAL chooses from the table of the first command, which takes 8 min, and is
tuned from three starts.

Expected: SALF 0.808, partial work and adaptive batch 0.806, DISTREAL 0.805 from each start on the validation split, means of
four seeds; 94 min, on 2 CPU cores that did other work as well.
"""

from pathlib import Path

from distreal_jax.commands.tune import Options, main
from distreal_jax.experiment import OutputSettings, run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

COMPARED = "partial_work,adaptive_batch,salf,distreal[idle=train,pace=best]"
CONFIG = Options(
    methods=f"{COMPARED},distreal,distreal[idle=train]",
    trials=16,
    execution="masked",
    seeds="1000",
    final_seeds="1001-1003",
    table="runs/small_cnn_every_knob/table.json",
    world=WorldSettings("fashion_mnist", model="small_cnn", availability="redrawn:0.02,0.2,3", validation=0.1),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
    output=OutputSettings(out=Path("runs/trial_tune_fashion_knobs")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
