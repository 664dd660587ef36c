r"""With which settings is each method at its best with DenseNet-40-BC on digits?

    python experiments/search.py --dataset digits --model densenet40 --search.population 16 --search.generations 5 \
        --progress.rounds 1 --progress.devices 1 --progress.steps 200 --progress.batch-size 8 --progress.held-out 400 \
        --progress.sizes 2 --search.knobs filters examples depth step --out runs/densenet40_every_knob
    python -m experiments.configs.trial_tune_densenet_digits

Digits, Dirichlet 0.3, 100 devices, 10 a round, availability from a twentieth to a half; 6 trials of each method in 40
rounds, seeds of its own (1000). DISTREAL chooses from the table of the first command, which comes with the package; its
trials begin at pace=best, which tuning chose in most other parts.

Expected: SALF 0.991, partial work 0.987, DISTREAL 0.986 on the validation split; 7 min of search and 46 min of tuning, on 2
CPU cores that did other work as well.
"""

from pathlib import Path

from distreal_jax.commands.tune import Options, main
from distreal_jax.experiment import OutputSettings, run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    methods="partial_work,salf,distreal[idle=train,pace=best]",
    trials=6,
    execution="masked",
    seeds="1000",
    table="densenet40_digits_every_knob",
    world=WorldSettings("digits", model="densenet40", availability="redrawn:0.05,0.5,3", validation=0.2),
    training=TrainingSettings(rounds=40),
    record=RecordSettings(eval_every=4),
    output=OutputSettings(out=Path("runs/trial_tune_densenet_digits")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
