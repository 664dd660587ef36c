r"""With which settings is each method at its best with the small CNN on digits?

    python experiments/search.py --search.population 24 --search.generations 8 --progress.rounds 8 --progress.devices 4 \
        --progress.held-out 400 --progress.sizes 1 --out runs/trial_table_digits_cnn
    python -m experiments.configs.trial_tune_digits_cnn

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round, harsh load, 8 trials of each method in 24 rounds, seeds of its
own (1000). A search by two short rounds in place of eight found a table in which nothing between 4 and 14 % of the cost
was worth its MACs, and DISTREAL, tuned with it, came to 0.62.

Expected: partial work at 0.98, DISTREAL at 0.79 on the validation split; 26 min, on 2 CPU cores that did other work as
well.
"""

from pathlib import Path

from distreal_jax.commands.tune import Options, main
from distreal_jax.experiment import OutputSettings, run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    methods="partial_work,distreal,distreal_uniform,heterofl,small_network,full_resources,fedrolex",
    trials=8,
    execution="masked",
    seeds="1000",
    table="runs/trial_table_digits_cnn/table.json",
    world=WorldSettings("digits", model="digits_cnn", availability="redrawn:0.02,0.2,3", validation=0.2),
    training=TrainingSettings(rounds=24),
    record=RecordSettings(eval_every=2),
    output=OutputSettings(out=Path("runs/trial_tune_digits_cnn")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
