"""At which load is one search over every knob of a device at least as good as each knob alone, all tuned at that load?

    python -m experiments.configs.map_of_knobs --out runs/map_of_knobs

Digits, digits_cnn, Dirichlet 0.3, 100 devices, 10 a round, 24 rounds. Availability uniform around means from 0.05 to 0.3,
redrawn ten times a round, once, or once in ten rounds; 24 trials of each method in each cell and those of what was best for
the others, three more seeds of tuning for the best, then 10 seeds. DISTREAL chooses from the shipped table of all knobs,
trains on in idle time, and begins at pace=best, which tuning chose in most other parts.

Expected: in final accuracy on average over cells 0.003 ahead of partial work, 0.003 of adaptive batch and 0.005 of SALF,
beyond chance behind none of them in any cell; over time 0.010 ahead of partial work, 0.016 behind adaptive batch and 0.007
behind SALF; about 200 min in several parts, on 2 CPU cores that did other work as well.
"""

from distreal_jax.commands.map import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings

SETTING = "Digits, small CNN: mean of nine loads, 5 to 30 %"
CONFIG = Options(
    means="0.05,0.1,0.3",
    rates="0.1,1,10",
    methods="distreal[idle=train,pace=best],partial_work,adaptive_batch,salf",
    seeds="0-9",
    trials=24,
    final_seeds="1001-1003",
    table="digits_cnn_every_knob",
    execution="masked",
    world=WorldSettings("digits", model="digits_cnn"),
    training=TrainingSettings(rounds=24),
    record=RecordSettings(eval_every=2),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
