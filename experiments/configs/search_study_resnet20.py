"""Is the search worth it where a network has blocks: NSGA-II against vectors that take no search, at equal evaluations?

    python -m experiments.configs.search_study_resnet20

ResNet-20, twelve filter groups, on digits (8x8 images, so that 5 seeds take an hour); a short training is one device with
400 mini-batches of 8. 5 seeds, 72 evaluations each. Fronts are judged by measurements that chose nothing.

Expected (area below the front over MACs, 95 % over seeds): NSGA-II 0.575 ± 0.023, ahead of one rate (+0.112
[+0.098, +0.125]), of random rates (+0.137 [+0.095, +0.203]) and of dropping most where MACs are highest (+0.145 [+0.123,
+0.160]), and level with dropping filters inside blocks alone (-0.004 [-0.017, +0.005]), with which half of its first
generation begins. 49 min on 2 CPU cores, 2026-11-25.
"""

from distreal_jax.commands.search_study import Options, main
from distreal_jax.experiment import run_command
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.search import SearchSettings
from distreal_jax.search.progress import ProgressSettings

CONFIG = Options(
    seeds="0-4",
    world=WorldSettings("digits", model="resnet20", partition="iid"),
    progress=ProgressSettings(rounds=1, devices=1, steps=400, batch_size=8, held_out=500, sizes=3),
    search=SearchSettings(population=12, generations=6),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
