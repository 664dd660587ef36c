"""Does the search's short training order dropout vectors as real federations do?

    python -m experiments.configs.proxy_study_digits

digits_cnn on digits: 24 vectors, six costs in four shapes each, trained for real in federations of 24 rounds at constant
availability, 3 seeds; the proxy measures them 4 times.

Expected (rank correlation with the outcome, at equal cost in brackets; 95 % over vectors): 0.94 [0.81, 0.99] (0.63 [0.24,
0.89]) for eight rounds of eight devices, 0.91 (0.58) for one device on as many mini-batches; with --progress.rounds 2, which
are too short for cheap vectors, 0.82 [0.52, 0.95] (0.41 [-0.09, 0.81]) and 0.90 (0.51). Two seeds of the federation itself
agree by 0.99 (0.87). 5 min on 2 CPU cores, 2026-11-23.
"""

from distreal_jax.commands.proxy_study import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.search.progress import ProgressSettings

CONFIG = Options(
    shapes="1,0.3333333333333333,-0.3333333333333333,-1",
    levels=6,
    seeds="0-2",
    world=WorldSettings("digits", model="digits_cnn", availability="constant:1"),
    progress=ProgressSettings(rounds=8, devices=8, held_out=500),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
