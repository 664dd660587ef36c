"""Which shape of table learns best in a federation? The truth that a search is after.

    python experiments/table_shapes.py --dataset fashion_mnist --data-dir ../shared/tfds --model leaf_cnn

Expected: the configs table_shapes_leaf_cnn and table_shapes_resnet20 say.

A table of each shape (`search.design`), with entries of the same costs, is used by the same devices under the same load; and
beside them given tables, such as a searched one. Finished parts are not run again.
"""

import dataclasses
from typing import Annotated

import numpy as np

from distreal_jax.experiment import (
    DryRun,
    HowExecuted,
    ManySeeds,
    Measure,
    OutputSettings,
    Plain,
    PlainFlags,
    compare,
    dry_run,
    open_folder,
    parsed_list,
    parsed_seeds,
    speed_of,
    table_of,
)
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS
from distreal_jax.record import write_report
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.search import SearchSpace
from distreal_jax.search.design import designed_table, shape_name, shapes_of
from distreal_jax.settings import Within
from distreal_jax.table import DropoutTable

MAX_RATE = 0.99  # chosen by us


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare tables of several shapes in federations."""

    shapes: str = "0,0.5,1,-0.5"
    """Shapes, separated by commas: tilts from 1 (wide in the first layers) to -1 (wide in the last), and `inside` (filters
    inside blocks alone are dropped). The others are compared with the first."""
    entries: Annotated[int, Within(2, 1000)] = 12
    """Of each table, fewer where the network has no more; their costs are spread evenly over the logarithm, up to 1."""
    lowest: Annotated[float, Within(0, 1, above=True, below=True)] = 0.01
    """Cost of the cheapest entry, relative to the full network's."""
    tables: str = ""
    """More tables, separated by commas: files, or names of shipped ones. The report calls them table1, table2 and so on."""
    seeds: ManySeeds = "0-4"
    execution: HowExecuted = "compact"
    world: Plain[WorldSettings] = WorldSettings(availability="redrawn:0.02,0.2,3")
    training: Plain[TrainingSettings] = TrainingSettings(rounds=60)
    record: PlainFlags[RecordSettings] = RecordSettings(eval_every=4)
    output: PlainFlags[OutputSettings] = OutputSettings()
    dry_run: DryRun = False
    measure: Measure = False


def main(options: Options) -> None:
    """Runs what is not finished and reports."""
    seeds = parsed_seeds(options.seeds)
    world = World.make(options.world, seeds[0])
    tables = tables_of(options, world)
    methods = [dataclasses.replace(METHODS["distreal"], name=name) for name in tables]
    if options.dry_run:
        runs = [Federation(world, method, tables[method.name], options.training, options.execution) for method in methods]
        print(dry_run(runs, options.record, speed_of=speed_of(measure=options.measure), seeds=len(seeds)))
        return
    # More shapes, tables or seeds may come to those that are there.
    with open_folder(options.output, "table_shapes", options, may_change=("shapes", "tables", "seeds")) as folder:
        comparison = compare(
            methods,
            seeds,
            options.world,
            options.training,
            options.record,
            options.output,
            folder,
            searched=lambda _, method: tables[method.name],
            execution=options.execution,
            first=world,
        )
        write_report(folder.path / "report.md", "Tables of several shapes", comparison.section)
        print(comparison.section.text)
        print(f"report: {folder.path / 'report.md'}")


def tables_of(options: Options, world: World) -> dict[str, DropoutTable]:
    """Name -> table: those of the shapes, then those given.

    Args:
      options: The command line.
      world: The tables are for its network.

    Raises:
      InputError: A shape that is not known, `inside` of a network without blocks, or a table that can't be read or is of
        another network.
    """
    space, levels = SearchSpace(world.network, MAX_RATE), np.geomspace(options.lowest, 1, options.entries)
    tables = {}
    for shape in shapes_of(parsed_list(options.shapes, "shapes")):
        tables[shape_name(shape)] = DropoutTable.from_widths(world.network, designed_table(space, levels, shape))
    for index, source in enumerate(parsed_list(options.tables, "tables") if options.tables else [], start=1):
        tables[f"table{index}"] = table_of(source, world)
    return tables
