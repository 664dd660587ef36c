"""At which load is one search over every knob at least as good as each knob alone, with ResNet-20, all tuned at that load?

    python -m experiments.configs.map_of_resnet20 --out runs/map_of_resnet20

Digits, ResNet-20, Dirichlet 0.3, 100 devices, 10 a round, 60 rounds. Availability uniform around a mean of 0.1, redrawn once
a round; 10 trials of each method, then 4 seeds. DISTREAL chooses from the table of trial_tune_resnet20_knobs, trains on in
idle time, and begins at pace=best, which tuning chose in most other parts.

Expected: in final accuracy 0.977, not told apart from SALF (0.978), partial work (0.971) and adaptive batch (0.965); over
time ahead of adaptive batch by 0.034 and behind SALF by 0.025; 90 min beside two other jobs, on 2 CPU cores.
"""

import dataclasses

from distreal_jax.commands.map import main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings
from experiments.configs.map_of_knobs import CONFIG as KNOBS

SETTING = "Digits, ResNet-20: 10 % on average"
CONFIG = dataclasses.replace(
    KNOBS,
    final_seeds="",
    methods="distreal[idle=train,pace=best],partial_work,adaptive_batch,salf",
    means="0.1",
    rates="1",
    seeds="0-3",
    trials=10,
    execution="compact",
    table="resnet20_digits_every_knob",
    world=WorldSettings("digits", model="resnet20"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=3),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
