"""The whole line in a few minutes: search a table, train seven methods under the same changing load, report.

    python experiments/quickstart.py --out runs/quickstart

On scikit-learn's digits, which need no network. Expected: about 3 minutes on 2 CPU cores.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

from distreal_jax.errors import InputError
from distreal_jax.experiment import (
    DryRun,
    Measure,
    OutputSettings,
    Plain,
    PlainFlags,
    compare,
    dry_run,
    open_folder,
    search_dry_run,
    search_table,
    speed_of,
    table_section,
)
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import UNIFORM_RATES, table_for
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import methods_named
from distreal_jax.record import write_report
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.search import SearchSettings
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.settings import SEED
from distreal_jax.table import DropoutTable

METHODS = ("distreal", "distreal_uniform", "heterofl", "small_network", "partial_work", "adaptive_batch", "full_resources")


@dataclasses.dataclass(frozen=True)
class Options:
    """Search a table on digits, then train seven methods on 40 devices whose load changes inside rounds."""

    seed: Annotated[int, SEED] = 0
    """Seed of everything random."""
    world: Plain[WorldSettings] = WorldSettings(devices=40, availability="redrawn:0.1,1,3")
    training: Plain[TrainingSettings] = TrainingSettings(rounds=60)
    search: SearchSettings = SearchSettings(population=24, generations=8)
    progress: ProgressSettings = ProgressSettings(rounds=2, devices=8, held_out=300, sizes=1)
    record: PlainFlags[RecordSettings] = RecordSettings(eval_every=3)
    output: PlainFlags[OutputSettings] = OutputSettings(out=Path("runs/quickstart"))
    dry_run: DryRun = False
    measure: Measure = False


def main(options: Options) -> None:
    """Searches, compares and reports.

    Args:
      options: The command line.

    Raises:
      InputError: The search is given another seed; as `World.make`, `search_table` and `compare`.
    """
    if options.search.seed:
        raise InputError(
            f"search seed {options.search.seed} is given beside --seed, which is the search's too; leave it out"
        )
    world = World.make(options.world, options.seed)
    if options.dry_run:
        print(search_dry_run(world, options.training, options.search, options.progress, measure=options.measure))
        table, training = DropoutTable.uniform(world.network, UNIFORM_RATES), options.training
        tables = {method: table_for(method, world, table, training) for method in methods_named(METHODS)}
        federations = (Federation(world, method, own, training) for method, own in tables.items())
        notes = ["Uniform rates stand in for the table that is searched first."]
        print(dry_run(federations, options.record, notes, speed_of=speed_of(measure=options.measure)))
        return
    with open_folder(options.output, "quickstart", options) as folder:
        search = dataclasses.replace(options.search, seed=options.seed)
        found = search_table(world, options.training, search, options.progress, folder)
        print(f"table: {folder.path / 'table.json'}, {len(found.table.entries)} entries")
        comparison = compare(
            methods_named(METHODS),
            [options.seed],
            options.world,
            options.training,
            options.record,
            options.output,
            folder,
            searched=lambda *_: found.table,
            first=world,
        )
        write_report(folder.path / "report.md", "Quickstart", comparison.section, table_section(found))
        print(comparison.section.text)
        print(f"report: {folder.path / 'report.md'}")
