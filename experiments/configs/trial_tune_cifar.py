r"""With which settings is each method at its best with ResNet-20 on CIFAR-10?

    python experiments/search.py --dataset cifar10 --data-dir ../shared/tfds --shrink 2 --model resnet20 \
        --search.population 16 --search.generations 5 --progress.rounds 1 --progress.devices 1 --progress.steps 400 \
        --progress.batch-size 20 --progress.held-out 1000 --progress.sizes 2 \
        --search.knobs filters examples depth step --out runs/resnet20_cifar16_every_knob
    python -m experiments.configs.trial_tune_cifar --data-dir ../shared/tfds

CIFAR-10 at 16x16, ResNet-20, Dirichlet 0.3, 100 devices, 10 a round, availability from a twentieth to a half, 12 trials
of each method in 60 rounds, seeds of its own (1000). DISTREAL chooses from the table of the first
command, which comes with the package (searched again on 2026-11-27; the figures are of the one before); its trials begin
at pace=best, which tuning chose in most other parts.

Expected: DISTREAL 0.348, partial work 0.347, SALF 0.345 on the validation split, all with the settings of partial work; the
search took about 70 min in two parts and tuning 40 min, on 2 CPU cores that did other work as well.
"""

from pathlib import Path

from distreal_jax.commands.tune import Options, main
from distreal_jax.experiment import OutputSettings, run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

CONFIG = Options(
    methods="partial_work,salf,distreal[idle=train,pace=best]",
    trials=12,
    seeds="1000",
    table="resnet20_cifar16_every_knob",
    world=WorldSettings("cifar10", model="resnet20", availability="redrawn:0.05,0.5,3", shrink=2, validation=0.1),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=10),
    output=OutputSettings(out=Path("runs/trial_tune_cifar")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
