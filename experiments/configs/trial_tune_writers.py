"""With which settings is each method at its best on a natural partition, one device for each writer?

    python -m experiments.configs.trial_tune_writers --data-dir ../shared/data

MNIST by writer, small_cnn, 539 devices, 10 a round, availability from a fiftieth to a fifth; 8 trials of each method in 40
rounds, seeds of its own (1000). DISTREAL chooses from the table of trial_tune_fashion_knobs, searched on Fashion-MNIST;
its trials begin at pace=best, which tuning chose in most other parts.

Expected: HeteroFL 0.955, the others 0.950 to 0.952 on the validation split, DISTREAL at pace=present; 22 min, on 2 CPU cores
that did other work as well.
"""

from pathlib import Path

from distreal_jax.commands.tune import Options, main
from distreal_jax.experiment import OutputSettings, run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    methods="partial_work,salf,adaptive_batch,distreal[idle=train,pace=best],heterofl[idle=train]",
    trials=8,
    seeds="1000",
    table="runs/small_cnn_every_knob/table.json",
    world=WorldSettings(
        "mnist_writers", model="small_cnn", partition="natural", devices=0, availability="redrawn:0.02,0.2,3", validation=0.1
    ),
    training=TrainingSettings(rounds=40),
    record=RecordSettings(eval_every=4),
    output=OutputSettings(out=Path("runs/trial_tune_writers")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
