"""Is the search worth it where layers are a chain: NSGA-II against vectors that take no search, at equal evaluations?

    python -m experiments.configs.search_study_digits

digits_cnn, three convolutions, on digits; 5 seeds, 128 evaluations each. Fronts are judged by measurements that chose
nothing.

Expected (area below the front over MACs, 95 % over seeds): NSGA-II 0.417 ± 0.051, ahead of all: +0.048 [+0.022,
+0.072] over one rate, +0.016 [+0.001, +0.036] over random rates, +0.030 [+0.006, +0.049] over dropping most where MACs are
highest. 3 min on 2 CPU cores, 2026-11-25.
"""

from distreal_jax.commands.search_study import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.search import SearchSettings
from distreal_jax.search.progress import ProgressSettings

CONFIG = Options(
    seeds="0-4",
    world=WorldSettings("digits", model="digits_cnn", partition="iid"),
    progress=ProgressSettings(held_out=500, sizes=2),
    search=SearchSettings(population=16, generations=8),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
