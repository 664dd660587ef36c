"""A recorded search: the dropout table, its pictures, and a checkpoint of each generation."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distreal_jax import processes
from distreal_jax.errors import InputError
from distreal_jax.experiment.given_table import table_in_all
from distreal_jax.experiment.proxy import proxy_in
from distreal_jax.experiment.search_dry_run import measurements
from distreal_jax.fleet.device_memory import DeviceMemory
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import UNIFORM_RATES
from distreal_jax.fleet.profile import ProfileSettings, profile_steps
from distreal_jax.fleet.timed_step import RelativeSeconds
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World
from distreal_jax.methods import METHODS
from distreal_jax.record.logged import SEARCH_AXIS, SEARCH_KEYS, generation_row
from distreal_jax.record.pictures import Front, front_picture, hypervolume_picture, rates_heatmap
from distreal_jax.record.provenance import provenance
from distreal_jax.record.report import Section, markdown_table
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.record.tracking import Tracker
from distreal_jax.search import SearchResult, SearchSettings, search
from distreal_jax.search.evaluation import Evaluate, Generation, check_most_entries
from distreal_jax.search.progress import ProgressSettings, describe
from distreal_jax.search.together import measured_together
from distreal_jax.signs import Pace, bar, how_many, percent, say
from distreal_jax.table import DropoutTable, TableEntry
from distreal_jax.table.order import MACS, device_of
from distreal_jax.table.shown import chosen_beside_filters, cost_in_own_unit
from distreal_jax.tracing import TracedNetwork


@dataclasses.dataclass(frozen=True)
class TableSearch:
    """What a search found.

    Attributes:
      table: The dropout table.
      uniform: One rate for all layers, measured in the same way, for comparison.
      hypervolumes: Of the searched front and of one rate for all layers, in fractions of the full network's cost times
        progress. The front was chosen by these measurements among more vectors, which flatters it a little.
      pictures: File name -> what it shows.
      of_memory: Tables for devices of `SearchSettings.memory_shares`, by the share, in `memory_file`.
    """

    table: DropoutTable
    uniform: tuple[TableEntry, ...]
    hypervolumes: tuple[float, float]
    pictures: dict[str, str]
    of_memory: dict[float, DropoutTable]


def memory_file(name: str, share: float) -> str:
    """The file of the table for devices of a share of the full network's memory, beside `name`."""
    return f"{name.removesuffix('.json')}_memory_{share:g}.json"


def search_table(
    world: World,
    training: TrainingSettings,
    settings: SearchSettings,
    progress_settings: ProgressSettings,
    folder: RunFolder,
    *,
    most_entries: int = 12,
    name: str = "table.json",
    tracker: Tracker | None = None,
) -> TableSearch:
    """Searches a table for a world's network on its training data and saves it in the folder.

    Args:
      world: Network and data. If its cost is in seconds of a device, these are measured here and now, on JAX's first device,
        and the table is ordered by them. At the end the steps of its entries are measured again, as `distreal profile` does.
      training: Says how devices train.
      settings: Of NSGA-II.
      progress_settings: Of the short training.
      folder: Gets the table, the pictures and `search_checkpoint.json`; a search that was stopped goes on from there.
      most_entries: Of the table, at least 2; a device compiles one training step for each.
      name: File name of the table.
      tracker: Weights & Biases beside the files: every generation, the front, the table and the pictures.

    Raises:
      InputError: As `search` and `Progress`; or `most_entries` below 2, before anything is measured.
    """
    check_most_entries(most_entries)
    uniform_rates = [entry.configuration for entry in DropoutTable.uniform(world.network, UNIFORM_RATES).entries]
    measured = proxy_in(world, training, progress_settings, seed=settings.seed, every_knob=settings.beyond_filters)
    measures = describe(progress_settings, training, world.dataset.name, world.seed)
    processes.agreed("searches", {"settings": dataclasses.asdict(settings), "measures": measures, **world.checksums()})
    source = {
        **provenance(),
        "dataset": world.dataset.name,
        "training": dataclasses.asdict(training),
        "progress": dataclasses.asdict(progress_settings),
    }
    memory = DeviceMemory(measured.step, world.params, world.train, training.batch_size)
    of_run = tracker or Tracker(None)

    def lead(evaluate: Evaluate) -> TableSearch:
        seconds = _seconds(world, training, progress_settings, settings)
        found = _searched(
            world.network,
            evaluate,
            settings,
            folder,
            of_run,
            measures=measures,
            also=uniform_rates,  # the curve that the front is shown beside can't be above it then
            batch_size=progress_settings.batch_size,
            memory=memory,
            seconds=seconds,
        )

        def table_of(share: float | None = None) -> DropoutTable:
            table = memory.added_to(found.to_table(world.network, source, most_entries, memory_share=share))
            return table if seconds is None else _profiled(table, world, training, seconds.device)

        table, of_memory = table_of(), {share: table_of(share) for share in settings.memory_shares}
        fresh = {entry.configuration: entry for entry in found.candidates}
        uniform = tuple(fresh[vector] for vector in uniform_rates if vector in fresh)
        table.save(folder.path / name)
        for share, table_of_share in of_memory.items():
            table_of_share.save(folder.path / memory_file(name, share))
        curves = _front(table.entries, table.costs(table.unit)), _front(uniform, found.costs(uniform))
        pictures = _draw(folder.path, table, world.network, *curves, found)
        result = TableSearch(table, uniform, (found.hypervolume(), found.hypervolume(uniform)), pictures, of_memory)
        _log(of_run, result, folder.path / name)
        return result

    return _in_all(measured_together(measured, lead), folder.path / name, settings)


def _seconds(
    world: World, training: TrainingSettings, progress: ProgressSettings, settings: SearchSettings
) -> RelativeSeconds | None:
    """Measures what a mini-batch costs, if the world counts seconds."""
    if world.cost == MACS:
        return None
    device = device_of(world.cost)
    if "examples" in settings.knobs and training.batch_size % progress.batch_size:
        raise InputError(
            f"parts of mini-batches of {progress.batch_size} are searched, and seconds are measured with mini-batches of "
            f"{training.batch_size}; give --batch-size a multiple of --progress.batch-size"
        )
    return RelativeSeconds(Federation(world, METHODS["distreal"], DropoutTable.full(world.network), training), device)


def _profiled(table: DropoutTable, world: World, training: TrainingSettings, device: str) -> DropoutTable:
    """The table with the seconds of its entries measured with care, and in the order of these."""
    federation = Federation(world, METHODS["distreal"], table, training)
    return profile_steps(federation, ProfileSettings()).added_to(table, device)


def _searched(
    network: TracedNetwork,
    evaluate: Evaluate,
    settings: SearchSettings,
    folder: RunFolder,
    tracker: Tracker,
    **options: Any,
) -> SearchResult:
    """The search, with signs of life and a checkpoint of each generation in the folder; options as of `search`."""
    tracker.draw_over(SEARCH_AXIS, SEARCH_KEYS)
    progress_bar = bar(total=settings.generations, desc="search", unit="generation")
    selecting, afresh = measurements(network, settings, options["batch_size"])
    pace = Pace(settings.generations + round(settings.generations * afresh / selecting))  # as many generations take as long
    generations, checkpoint = how_many(settings.generations, "generation"), folder.path / "search_checkpoint.json"
    say(
        f"search: {generations} of {settings.population} vectors, each measured by a short training; "
        f"{'those of before are read from ' + checkpoint.name if checkpoint.exists() else 'the first generations compile'}"
    )

    def told(generation: Generation) -> None:
        done = generation.index + 1
        if progress_bar.n == 0:
            progress_bar.initial = generation.index  # of a search that goes on: the time left is by what was done now
        tracker.log(generation_row(generation), generation.index)
        parts = [
            f"search: generation {done} of {settings.generations}",
            f"hypervolume {generation.hypervolume:.4f}",
            f"{generation.evaluated:,} vectors so far",
            pace.left(done),
        ]
        say(", ".join(part for part in parts if part))
        if done == settings.generations:
            say("search: the best vectors are measured afresh, which decides what enters the table")
        progress_bar.update(done - progress_bar.n)

    if checkpoint.exists():
        folder.say_what_changed()
    with progress_bar:
        return search(
            network,
            evaluate,
            settings,
            checkpoint=checkpoint,
            on_generation=told,
            **options,
        )


def _in_all(found: TableSearch | None, file: Path, settings: SearchSettings) -> TableSearch:
    """What process 0 has found, in all processes of a job."""
    if processes.count() == 1 and found is not None:
        return found
    table = table_in_all(file)

    def rest() -> dict[str, Any]:
        assert found is not None  # in process 0
        return {"uniform": [dataclasses.asdict(entry) for entry in found.uniform], "hypervolumes": found.hypervolumes}

    heard = processes.told(rest)
    uniform = tuple(TableEntry(**{**entry, "widths": tuple(entry["widths"])}) for entry in heard["uniform"])
    front, of_uniform = heard["hypervolumes"]
    of_memory = {share: table_in_all(file.with_name(memory_file(file.name, share))) for share in settings.memory_shares}
    return found or TableSearch(table, uniform, (front, of_uniform), {}, of_memory)


def _log(tracker: Tracker, found: TableSearch, file: Path) -> None:
    """What a finished search leaves in Weights & Biases beside its generations."""
    kinds = ((found.table.entries, "searched"), (found.uniform, "one rate for all layers"))
    columns = ["MACs share", "progress", "standard error", "kind", "filters kept"]
    rows = [
        [entry.work / found.table.full_macs, entry.progress, entry.progress_stderr, kind, " ".join(map(str, entry.widths))]
        for entries, kind in kinds
        for entry in entries
    ]
    tracker.log_table("search/front", columns, rows)
    front, uniform = found.hypervolumes
    tracker.summarise(
        {"final/hypervolume": front, "final/hypervolume_of_one_rate": uniform, "final/entries": len(kinds[0][0])}
    )
    for picture in found.pictures:
        tracker.log_picture(file.parent / picture)
    tracker.log_artifact(file, "dropout-table", "dropout-table")


def table_section(found: TableSearch) -> Section:
    """For a report: the table's entries, what the front dominates, and its pictures."""
    table = found.table
    chosen = cost_in_own_unit(table) | chosen_beside_filters(table)
    rows = [["entry", "MACs for an example", "of the full network", "progress", *chosen, "filters kept"]]
    for index, (entry, cost) in enumerate(zip(table.entries, table.costs(), strict=True)):
        progress = f"{entry.progress or 0:z.3f} ± {entry.progress_stderr or 0:.3f}"
        others = [cells[index] for cells in chosen.values()]
        rows.append([str(index), f"{entry.macs:,}", percent(cost), progress, *others, " ".join(map(str, entry.widths))])
    dominated = "Hypervolume of the front: {:.4f}; of one rate for all layers: {:.4f}.".format(*found.hypervolumes)
    text = f"Filter groups: {', '.join(table.group_names)}.\n\n{markdown_table(rows)}\n{dominated}"
    if found.of_memory:
        by_share = [["of the full network's memory", "entries", "hypervolume", "file"]]
        for share, own in found.of_memory.items():
            dominates = own.provenance["search"]["hypervolume"]
            by_share.append([f"{share:.0%}", str(len(own.entries)), f"{dominates:.4f}", memory_file("table.json", share)])
        text += f"\n\nTables for devices of less memory:\n\n{markdown_table(by_share)}"
    return Section("The dropout table", text, found.pictures)


def _front(entries: Sequence[TableEntry], costs: npt.NDArray[np.float64]) -> Front:
    return Front(
        cost=costs.tolist(),
        progress=[entry.progress or 0.0 for entry in entries],
        standard_error=[entry.progress_stderr or 0.0 for entry in entries],
    )


def _draw(
    folder: Path, table: DropoutTable, network: TracedNetwork, searched: Front, uniform: Front, found: SearchResult
) -> dict[str, str]:
    """Draws the pictures of a search; file name -> what it shows."""
    unit, knobs = "MACs" if table.unit == MACS else "Seconds", found.settings.knobs
    others = {}
    if "examples" in knobs:
        others["examples"] = [1 - entry.batch_share for entry in table.entries]
    if "depth" in knobs:
        others["frozen layers"] = [entry.depth / len(network.order.layers) for entry in table.entries]
    front_picture(
        folder / "front.png",
        searched=searched,
        uniform=uniform,
        title="What a dropout vector costs, and how fast it learns",
        progress="gain of accuracy in a short training",
        cost=unit,
        label=f"searched: {', '.join(knobs)}" if found.settings.beyond_filters else "searched, a rate per layer",
    )
    names, costs = table.group_names, table.costs(table.unit).tolist()
    rates_heatmap(folder / "rates.png", table.dropout_rates().tolist(), names, costs, cost=unit, others=others)
    pictures = {
        "front.png": "Progress of a short training over cost, searched vectors and one rate for all layers",
        "rates.png": "Shares of filters, examples and layers that the table's entries don't train"
        if others
        else "Dropout rate of each layer in the table's entries",
    }
    if len(found.history) > 1:
        hypervolumes = [generation.hypervolume for generation in found.history]
        hypervolume_picture(folder / "hypervolume.png", {"NSGA-II": hypervolumes})
        pictures["hypervolume.png"] = "Hypervolume of the front in each generation"
    return pictures
