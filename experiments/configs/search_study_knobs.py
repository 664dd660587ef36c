"""What is each knob of a device worth to a search over all of them, where layers are a chain?

    python -m experiments.configs.search_study_knobs

digits_cnn on digits: dropped filters, fewer examples, frozen layers and step factors together, and the same search with
each of them left out; 5 seeds, 128 evaluations each. Fronts are judged by measurements that chose nothing.

Expected: examples are worth 0.073 of area, frozen layers 0.023, step factors 0.005 and dropped filters nothing (-0.006, with
an interval around zero); 37 min on 2 CPU cores that did other work as well.
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
    search=SearchSettings(population=16, generations=8, knobs=("filters", "examples", "depth", "step")),
)

if __name__ == "__main__":
    run_command(main, CONFIG)
