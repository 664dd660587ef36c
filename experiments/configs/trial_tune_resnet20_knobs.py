r"""With which settings is each way of turning knobs at its best with ResNet-20 on digits?

    python experiments/search.py --dataset digits --model resnet20 --search.population 24 --search.generations 8 \
        --progress.rounds 1 --progress.devices 1 --progress.steps 400 --progress.batch-size 8 --progress.held-out 500 \
        --progress.sizes 2 --search.knobs filters examples depth step --out runs/resnet20_every_knob
    python -m experiments.configs.trial_tune_resnet20_knobs

Digits, ResNet-20, Dirichlet 0.3, 100 devices, 10 a round, availability from a twentieth to a half; 12 trials of each method
in 60 rounds, seeds of its own (1000). DISTREAL chooses from the table of the first command, which takes 47 min.

Expected: SALF and partial work at 0.99, DISTREAL in idle time at 0.98 on the validation split; 35 min, on 2 CPU cores that
did other work as well.
"""

from pathlib import Path

from distreal_jax.commands.tune import Options, main
from distreal_jax.experiment import OutputSettings, run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    methods="partial_work,salf,distreal[idle=train]",
    trials=12,
    execution="masked",
    seeds="1000",
    table="resnet20_digits_every_knob",
    world=WorldSettings("digits", model="resnet20", availability="redrawn:0.05,0.5,3", validation=0.2),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=3),
    output=OutputSettings(out=Path("runs/trial_tune_resnet20_knobs")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
