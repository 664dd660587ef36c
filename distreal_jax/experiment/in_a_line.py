"""A search and a comparison as one call each, for programs. Given a folder, they write the same files as the commands."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distreal_jax.experiment.command_line import OutputSettings
from distreal_jax.experiment.comparison import Comparison
from distreal_jax.experiment.comparison import compare as compare_in
from distreal_jax.experiment.given_table import the_table
from distreal_jax.experiment.table_search import search_table as search_in
from distreal_jax.fleet.programs import Execution
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import Method, method_named
from distreal_jax.record.evaluations import RecordSettings
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.search import SearchSettings
from distreal_jax.search.evaluation import check_most_entries
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.table import DropoutTable


def search_table(
    world: World,
    *,
    search: SearchSettings = SearchSettings(),
    progress: ProgressSettings = ProgressSettings(),
    training: TrainingSettings = TrainingSettings(),
    entries: int = 12,
    out: str | Path | None = None,
) -> DropoutTable:
    """Searches a dropout table for a world's network on its training data (NSGA-II; Rapp et al., AAAI 2022).

    Args:
      world: Network, data and first weights.
      search: Settings of NSGA-II.
      progress: Settings of the short training that measures a vector.
      training: How devices train.
      entries: Most entries of the table, at least 2.
      out: Folder for the table, its pictures and a checkpoint, from which a search that was stopped goes on; None: nothing
        is kept.

    Raises:
      InputError: A setting is out of its range, more held-out examples than there are, or a folder of something else.
    """
    check_most_entries(entries)
    decides = {"search": search, "progress": progress, "training": training, "entries": entries, "seed": world.seed}
    with _folder(out, decides | {"world": world.checksums(), "data": world.dataset.name}) as folder:
        return search_in(world, training, search, progress, folder, most_entries=entries).table


def compare(
    methods: Method | str | Sequence[Method | str],
    *,
    seeds: Sequence[int] = (0,),
    world: WorldSettings = WorldSettings(),
    training: TrainingSettings = TrainingSettings(),
    table: DropoutTable | None = None,
    record: RecordSettings = RecordSettings(),
    execution: Execution = "compact",
    make_world: Callable[[int], World] | None = None,
    out: str | Path | None = None,
) -> Comparison:
    """Trains every method with every seed, under the same load, and compares them in pairs; `print` it for its tables.

    Args:
      methods: The methods, or their names; one or several.
      seeds: Of data split, devices, first weights and load.
      world: Data, network, devices and load.
      training: How devices and server train.
      table: For methods that choose from a searched one; None: the one that comes with the package for the network.
      record: How runs are watched.
      execution: `compact`, which computes less, or `masked`, which compiles less.
      make_world: Makes the world of a seed, where settings can't name it: data, a task or a network of one's own.
      out: Folder for results, report material and pictures; finished runs in it are not run again. None: nothing is kept.

    Raises:
      InputError: An unknown method, settings out of their range, no table for a method that needs one, or a folder of
        something else.
    """
    several = [methods] if isinstance(methods, Method | str) else methods
    chosen = [method_named(method) if isinstance(method, str) else method for method in several]
    decides = {"training": training, "record": record, "execution": execution}
    if make_world is None:  # otherwise each run says which world it is of
        decides["world"] = world
    with _folder(out, decides) as folder:
        return compare_in(
            chosen,
            list(seeds),
            world,
            training,
            record,
            OutputSettings(),
            folder,
            execution=execution,
            searched=lambda world, method: table or the_table(None, world, method.name),
            make_world=make_world,
        )


@contextlib.contextmanager
def _folder(out: str | Path | None, decides: Mapping[str, Any]) -> Iterator[RunFolder]:
    """The run folder of that path, or one that is gone afterwards."""
    with tempfile.TemporaryDirectory() as temporary, RunFolder.at(Path(temporary if out is None else out), decides) as own:
        yield own
