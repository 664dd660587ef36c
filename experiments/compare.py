"""Compare methods under the same load, in pairs: same data, devices, first weights and load for each seed.

    python experiments/compare.py --dataset fashion_mnist --data-dir ../shared/tfds --model leaf_cnn \
        --methods distreal,heterofl,partial_work,full_resources --rounds 50

leaves results.json, a report and pictures. Without --table, the shipped table of the network is used, and where there is
none, a table is searched first. Finished runs are not run again; one that was stopped goes on from its last checkpoint.
"""

import dataclasses
from typing import Any

from distreal_jax.errors import InputError
from distreal_jax.experiment import (
    OutputSettings,
    Plain,
    compare,
    open_folder,
    parsed_list,
    parsed_seeds,
    run_command,
    search_table,
    table_of,
)
from distreal_jax.fleet.federation import TrainingSettings
from distreal_jax.fleet.round import Execution
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import methods_named
from distreal_jax.record import RunFolder, write_report
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.search import SearchSettings
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.table import DropoutTable


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare methods of federated learning under the same load."""

    methods: str = "distreal,distreal_uniform,heterofl,partial_work,full_resources"
    """Methods, separated by commas: distreal, distreal_uniform, federated_dropout, heterofl, fjord, fedrolex,
    small_network, drop_stragglers, partial_work, full_resources."""
    seeds: str = "0"
    """Seeds, such as 0,1,2 or 0-4."""
    table: str | None = None
    """Dropout table: a file, or the name of a shipped one."""
    target: float | None = None
    """Accuracy that methods are timed to; without it nine tenths of the best final accuracy."""
    execution: Execution = "compact"
    """compact: what is dropped is not computed; masked: the reference, one program for all entries."""
    world: Plain[WorldSettings] = WorldSettings()
    training: Plain[TrainingSettings] = TrainingSettings()
    record: Plain[RecordSettings] = RecordSettings()
    output: Plain[OutputSettings] = OutputSettings()


def main(options: Options) -> None:
    """Runs what is not finished and reports."""
    methods = methods_named(parsed_list(options.methods, "methods"))
    seeds = parsed_seeds(options.seeds)
    with open_folder(options.output, "compare", options) as folder:

        def searched(world: World) -> DropoutTable:
            return table_of(options.table, world) if options.table else shipped_or_searched(options, world, folder)

        comparison = compare(
            methods,
            seeds,
            options.world,
            options.training,
            options.record,
            options.output,
            folder,
            searched=searched,
            execution=options.execution,
            target=options.target,
        )
        write_report(folder.path / "report.md", "Comparison", comparison.section)
        print(comparison.section.text)
        print(f"report: {folder.path / 'report.md'}")


def shipped_or_searched(options: Any, world: World, folder: RunFolder) -> DropoutTable:
    """The shipped table of the network if it is for just this network, else one that is searched once and kept."""
    try:
        return table_of(options.world.model, world)
    except InputError:
        pass
    if (folder.path / "table.json").exists():
        return table_of(str(folder.path / "table.json"), world)
    print(
        f"no table is shipped for this {options.world.model}: searching one first (experiments/search.py does it at length)"
    )
    short = SearchSettings(population=24, generations=8)
    return search_table(world, options.training, short, ProgressSettings(held_out=500), folder).table


if __name__ == "__main__":
    run_command(main, Options)
