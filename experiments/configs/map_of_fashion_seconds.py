r"""Is one search over every knob at least as good as each knob alone on Fashion-MNIST in measured seconds of a CPU core?

    python experiments/search.py --dataset fashion_mnist --data-dir ../shared/tfds --model small_cnn --cost seconds:core \
        --search.population 24 --search.generations 6 --progress.rounds 8 --progress.devices 4 --progress.held-out 1000 \
        --progress.sizes 1 --progress.snapshots 0 300 --search.knobs filters examples depth step \
        --out runs/small_cnn_every_knob_seconds
    python -m experiments.configs.map_of_fashion_seconds --data-dir ../shared/tfds --out runs/map_of_fashion_seconds

Fashion-MNIST, small_cnn, Dirichlet 0.3, 100 devices, 10 a round, 60 rounds. Availability uniform around a mean of 0.1,
redrawn once a round; 10 trials of each method, then 10 seeds. Those of DISTREAL begin at pace=best, which tuning chose in
most other parts, and once more at pace=present. A round offers the seconds of ten mini-batches of 20 with the full network,
and every step costs what was measured on this machine.

Expected: in final accuracy level with the three others; over time 0.016 ahead of partial work, 0.025 of adaptive batch and
0.011 behind SALF; 6 min of search and 50 min, on 2 CPU cores that did other work as well.
"""

import dataclasses
from pathlib import Path

from distreal_jax.commands.map import main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings
from experiments.configs.map_of_knobs import CONFIG as KNOBS

SETTING = "Fashion-MNIST, small CNN: 10 % on average, in measured seconds"
CONFIG = dataclasses.replace(
    KNOBS,
    final_seeds="",
    methods="distreal[idle=train,pace=best],partial_work,adaptive_batch,salf,distreal[idle=train]",
    means="0.1",
    rates="1",
    seeds="0-9",
    trials=10,
    table="runs/small_cnn_every_knob_seconds/table.json",
    seconds=Path("runs/core.json"),
    world=WorldSettings("fashion_mnist", model="small_cnn", cost="seconds:core"),
    training=TrainingSettings(rounds=60),
    record=RecordSettings(eval_every=4),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
