"""With which settings is each method at its best with the small CNN on digits, if devices wait after their last mini-batch?

    python -m experiments.configs.trial_tune_digits_cnn

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round, harsh load, 16 trials of each method in 24 rounds, seeds of its
own (1000). DISTREAL chooses from the shipped table of filters alone.

Expected: partial work and DISTREAL at 0.97, a small network at 0.95, HeteroFL at 0.93 on the validation split; 52 min, on
2 CPU cores that did other work as well.
"""

from pathlib import Path

from distreal_jax.commands.tune import Options, main
from distreal_jax.experiment import OutputSettings, run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    methods="distreal,heterofl,fjord,fedrolex,federated_dropout,small_network,small_ensemble,distreal_uniform,partial_work,"
    "full_resources",
    trials=16,
    execution="masked",
    seeds="1000",
    table="digits_cnn",
    world=WorldSettings("digits", model="digits_cnn", availability="redrawn:0.02,0.2,3", validation=0.2),
    training=TrainingSettings(rounds=24),
    record=RecordSettings(eval_every=2),
    output=OutputSettings(out=Path("runs/trial_tune_digits_cnn")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
