"""Search a table of Pareto-optimal dropout vectors for a network.

    python experiments/search.py --dataset fashion_mnist --data-dir ../shared/tfds --model leaf_cnn

writes runs/search-HASH/table.json, the front over the curve of uniform rates, the rates of each layer, and the hypervolume
of each generation. A search that is stopped and started again goes on after its last generation and ends with the same
table.
"""

import dataclasses
from typing import Annotated, Any

from distreal_jax.experiment import (
    DryRun,
    JobSettings,
    Measure,
    OutputSettings,
    Plain,
    PlainFlags,
    open_folder,
    search_dry_run,
    search_table,
    table_section,
    tracked,
)
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.record import write_report
from distreal_jax.record.run_folder import RESULTS_KIND
from distreal_jax.search import SearchSettings
from distreal_jax.search.evaluation import check_most_entries
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.settings import STEPS


@dataclasses.dataclass(frozen=True)
class Options:
    """Search a table of Pareto-optimal dropout vectors (NSGA-II: MACs against progress of a short training)."""

    world: Plain[WorldSettings] = WorldSettings(partition="iid")
    training: Plain[TrainingSettings] = TrainingSettings()
    progress: ProgressSettings = ProgressSettings()
    search: SearchSettings = SearchSettings()
    output: PlainFlags[OutputSettings] = OutputSettings()
    job: Plain[JobSettings] = JobSettings()
    entries: Annotated[int, STEPS] = 12
    """Largest number of entries in the table; a device compiles one training step for each."""
    dry_run: DryRun = False
    measure: Measure = False

    def __post_init__(self) -> None:
        check_most_entries(self.entries)


def main(options: Options) -> None:
    """Searches and reports."""
    world = World.make(options.world, options.search.seed)
    output = options.output
    if options.dry_run:
        said = search_dry_run(world, options.training, options.search, options.progress, measure=options.measure)
        print(said, end="")
        return
    print(world.network)
    with open_folder(output, "search", options) as folder:
        name = f"search-{options.world.model}-seed{options.search.seed}"
        with tracked(output, folder, "search", name=name) as tracker:
            how: Any = {"most_entries": options.entries, "tracker": tracker}
            found = search_table(world, options.training, options.search, options.progress, folder, **how)
        front, uniform = found.hypervolumes
        results = {"table": "table.json", "entries": len(found.table.entries), "hypervolume": front, "uniform": uniform}
        folder.write_part("results.json", RESULTS_KIND, results)
        write_report(folder.path / "report.md", "Search", table_section(found))
        print(table_section(found).text)
        print(f"table: {folder.path / 'table.json'}")
