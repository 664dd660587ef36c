"""Does a short training of ResNet-20, whose shapes differ, order dropout vectors as real federations do?

    python -m experiments.configs.proxy_study_resnet20

Digits: 16 vectors, four costs in four shapes each, trained for real in federations of 30 rounds at constant availability, 3
seeds. The proxy of 400 mini-batches of 8 measures them 4 times: by four devices that are averaged, and by one device.

Expected (rank correlation with the outcome, at equal cost in brackets; 95 % over vectors): 0.96 [0.80, 1.00] (0.91 [0.55,
1.00]) for four devices, 0.96 [0.79, 1.00] (0.78 [-0.13, 1.00]) for one device, whose measurements agree better with each
other (0.87 against 0.81). Pairs of one cost are in the outcome's order in 88 % for both. Two seeds of the federation itself
agree by 0.96 (0.84). 18 min on 2 CPU cores, 2026-11-25.
"""

from distreal_jax.commands.proxy_study import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.search.progress import ProgressSettings

CONFIG = Options(
    shapes="0,inside,1,-0.5",
    levels=4,
    lowest=0.09,
    seeds="0-2",
    execution="masked",
    world=WorldSettings("digits", model="resnet20", availability="constant:1"),
    training=TrainingSettings(rounds=30),
    progress=ProgressSettings(rounds=1, devices=4, steps=100, batch_size=8, held_out=500, sizes=1),
    record=RecordSettings(eval_every=5),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
