"""Does a table carry over: to another data set, to later training, to devices whose data differ?

    python experiments/carry_over.py --table runs/search-HASH/table.json --dataset fashion_mnist \
        --other-dataset mnist_writers --data-dir ../shared/tfds --model small_cnn

Expected: the config carry_over_leaf_cnn says. A table of digits, searched before measurements were pooled with
`--search.population 32 --search.generations 12 --progress.held-out 500 --progress.rounds 2 --progress.devices 8`, had +0.011
[+0.005, +0.017] of hypervolume as searched, 0.000 on mnist_writers, +0.001 [0.000, +0.002] later and +0.012 [+0.003, +0.023]
with devices' own data (3 seeds, 2 CPU cores, 2026-11-23).

A table's entries, and vectors of one rate for all layers at about the same costs, are measured by the search's proxy under
the conditions that the table was searched for, and then with one thing changed: the data set; the start, after a number of
mini-batches of ordinary training; who holds which data (`--partition`). The short training is that of `--progress.*`; give
that of the table's search, which its provenance names. Seeds are others than the search's, so that no measurement that chose
an entry is used again. Finished parts are not run again.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm

from distreal_jax.errors import InputError
from distreal_jax.experiment import (
    DryRun,
    GivenTable,
    Measure,
    OutputSettings,
    Plain,
    PlainFlags,
    measuring_dry_run,
    open_folder,
    parsed_seeds,
    the_table,
)
from distreal_jax.experiment.dry_run import WROTE_NOTHING
from distreal_jax.experiment.proxy import MEASURED_KIND, measured_often, proxy_in
from distreal_jax.experiment.tracked import tracked
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.record import (
    Front,
    RunFolder,
    Section,
    conditions_picture,
    mean_interval,
    paired_difference,
    write_report,
)
from distreal_jax.record.rank_correlation import (
    Floats,
    order_kept,
    partial_rank_correlation,
    rank_correlation,
)
from distreal_jax.record.report import level, markdown_table, signed
from distreal_jax.record.run_folder import RESULTS_KIND
from distreal_jax.search import SearchSpace
from distreal_jax.search.design import uniform_beside
from distreal_jax.search.front import area_below
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.search.space import Widths
from distreal_jax.settings import COUNT, STEPS
from distreal_jax.signs import bar as progress_bar
from distreal_jax.signs import duration, how_many, say

HEADINGS = "measured,area below the table,below one rate,difference,order of entries,of all at equal cost,dominated,clearly"


@dataclasses.dataclass(frozen=True)
class Options:
    """Measure a table under other conditions than those it was searched for."""

    table: GivenTable = None
    other_dataset: str | None = None
    """Another data set, in the same folder; without it that condition is left out."""
    later: Annotated[int, COUNT] = 300
    """Mini-batches of ordinary training before the later start."""
    repeats: Annotated[int, STEPS] = 4
    """Measurements of each vector, with each seed."""
    seeds: str = "1-3"
    """Seeds, such as 0,1,2 or 0-4, other than that of the table's search."""
    world: Plain[WorldSettings] = WorldSettings()
    training: Plain[TrainingSettings] = TrainingSettings()
    progress: ProgressSettings = ProgressSettings(held_out=500)
    output: PlainFlags[OutputSettings] = OutputSettings()
    dry_run: DryRun = False
    measure: Measure = False


@dataclasses.dataclass(frozen=True)
class Condition:
    """Under which a table is measured.

    Attributes:
      name: Of its files.
      label: What is different, in words.
      settings: Of the data set and the network.
      world: Theirs, with the first seed.
      progress: How progress is measured.
      skewed: Devices train on their own data, by the world's partition.
    """

    name: str
    label: str
    settings: WorldSettings
    world: World
    progress: ProgressSettings
    skewed: bool = False


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured under a condition.

    Attributes:
      condition: The condition.
      vectors: Filters kept, [vectors][groups].
      costs: Fractions of the full network's, [vectors].
      progress: [seeds, repeats, vectors]; all vectors of a repeat share their random numbers.
      entries: The table's, places among the vectors.
      uniform: The vectors of one rate, places among the vectors.
    """

    condition: Condition
    vectors: list[Widths]
    costs: Floats
    progress: Floats
    entries: list[int]
    uniform: list[int]

    @property
    def of_seeds(self) -> Floats:
        """Mean progress with each seed, [seeds, vectors]."""
        mean: Floats = self.progress.mean(axis=1)
        return mean

    def areas(self, vectors: list[int]) -> list[float]:
        """Below some of the vectors, [seeds].

        Args:
          vectors: Their places among the vectors.
        """
        return [area_below(self.costs[vectors], row[vectors]) for row in self.of_seeds]

    def front(self, vectors: list[int]) -> Front:
        """Some of the vectors, for a picture.

        Args:
          vectors: Their places among the vectors.

        Returns:
          Costs, with the mean and standard error of progress over all seeds and repeats.
        """
        every = self.progress.reshape(-1, len(self.costs))[:, vectors]
        stderr = every.std(axis=0) / np.sqrt(max(len(every) - 1, 1))
        return Front(self.costs[vectors].tolist(), every.mean(axis=0).tolist(), stderr.tolist())

    def dominated(self) -> tuple[int, int]:
        """How many entries a uniform vector of no higher cost learns at least as fast as; and for how many clearly so.

        Clearly: the 95 % interval of the difference in progress, over all measurements, lies above zero.
        """
        every, costs = self.progress.reshape(-1, len(self.costs)), self.costs
        mean, dominated, clearly = every.mean(axis=0), 0, 0
        for entry in self.entries:
            better = [u for u in self.uniform if u != entry and costs[u] <= costs[entry] and mean[u] >= mean[entry]]
            if better:
                best = max(better, key=lambda vector: mean[vector])
                dominated += 1
                clearly += paired_difference(every[:, best].tolist(), every[:, entry].tolist()).excludes_zero
        return dominated, clearly


def main(options: Options) -> None:
    """Runs what is not finished and reports.

    Args:
      options: The command line.

    Raises:
      InputError: The table was searched with one of the seeds, or turns other knobs than filters; as `conditions_of`.
    """
    seeds = parsed_seeds(options.seeds)
    world = World.make(options.world, seeds[0])
    table = the_table(options.table, world, "carry_over")
    chosen_with = table.provenance.get("search", {}).get("settings", {}).get("seed")
    if chosen_with in seeds:
        raise InputError(
            f"the table was searched with seed {chosen_with}, whose measurements chose its entries; give other --seeds"
        )
    if not table.configurations.filters_alone:
        raise InputError(
            "carry_over measures tables of filters alone, and this one turns other knobs too; give another --table"
        )
    conditions = conditions_of(options, world)
    entries = [entry.widths for entry in table.entries]
    uniform = uniform_beside(SearchSpace(world.network, max_rate=0.999), entries)
    if options.dry_run:
        print(planned(options, conditions, [*{*entries, *uniform}], len(seeds)))
        return
    output = options.output
    with open_folder(output, "carry_over", options, table=entries) as folder:
        bar = progress_bar(total=len(conditions) * len(seeds), desc="conditions", unit="part")
        with tracked(output, folder, "carry_over") as tracker, bar:
            measured = [measured_under(condition, entries, uniform, seeds, options, folder, bar) for condition in conditions]
            section = drawn(folder, measured)
            tracker.log_picture(folder.path / "carry_over.png")
        write_report(folder.path / "report.md", "Does the table carry over?", section)
        print(section.text)
        print(f"report: {folder.path / 'report.md'}")


def planned(options: Options, conditions: Sequence[Condition], vectors: Sequence[Widths], seeds: int) -> str:
    """The text of `--dry-run`.

    Args:
      options: The command line.
      conditions: Under which is measured.
      vectors: Filters kept, [vectors][groups].
      seeds: How many.
    """
    lines, total = [f"{len(vectors)} vectors, measured {options.repeats} times with each of {how_many(seeds, 'seed')}."], 0.0
    for condition in conditions:
        count = len(vectors) * options.repeats * seeds
        line, seconds = measuring_dry_run(
            condition.world, options.training, condition.progress, count, vectors, measure=options.measure
        )
        lines.append(f"{condition.label}: {line}")
        total += seconds
    return "\n".join([*lines, f"About {duration(total)} in all.", WROTE_NOTHING])


def conditions_of(options: Options, world: World) -> list[Condition]:
    """The condition that the table was searched for, then those with one thing changed.

    Args:
      options: The command line.
      world: The one that the table was searched for, with the first seed.

    Raises:
      InputError: On the other data set the network has other filter groups.
    """
    settings, progress = options.world, options.progress
    later = dataclasses.replace(progress, snapshots=(options.later,))
    conditions = [
        Condition("as_searched", f"as searched: {settings.dataset}", settings, world, progress),
        Condition("later", f"later: after {options.later} mini-batches", settings, world, later),
        Condition("own_data", f"devices' own data: {settings.partition}", settings, world, progress, skewed=True),
    ]
    if options.other_dataset is not None:
        elsewhere = dataclasses.replace(settings, dataset=options.other_dataset, partition="iid")
        other = World.make(elsewhere, world.seed)
        if other.network.filter_groups != world.network.filter_groups:
            raise InputError(f"on {options.other_dataset} the network has other filter groups; give another --other-dataset")
        label = f"another data set: {options.other_dataset}"
        conditions.insert(1, Condition("other_dataset", label, elsewhere, other, progress))
    return conditions


def measured_under(
    condition: Condition,
    entries: Sequence[Widths],
    uniform: Sequence[Widths],
    seeds: Sequence[int],
    options: Options,
    folder: RunFolder,
    bar: "tqdm[Any]",
) -> Measured:
    """Measures the vectors under a condition with every seed, or reads what is in the folder.

    Args:
      condition: The condition.
      entries: Filters kept in the table's entries, [entries][groups].
      uniform: The same of vectors of one rate, [vectors][groups].
      seeds: Of the measurements.
      options: The command line.
      folder: Has a file for each condition and seed.
      bar: Moves on by one for each seed.
    """
    first, progress = condition.world, []
    vectors = list(dict.fromkeys([*entries, *uniform]))
    for seed in seeds:
        file = f"{condition.name}-seed{seed}.json"
        stored = folder.read_part(file, MEASURED_KIND)
        if stored is None:
            say(f"{condition.label}, seed {seed}: {how_many(len(vectors), 'vector')}, measured {options.repeats} times each")
            world = first if first.seed == seed else World.make(condition.settings, seed, first.dataset)
            partition = world.partition if condition.skewed else None
            proxy = proxy_in(world, options.training, condition.progress, partition=partition)
            stored = {"progress": measured_often(proxy, vectors, options.repeats)}
            folder.write_part(file, MEASURED_KIND, stored)
        progress.append(stored["progress"])
        bar.update()
    costs = first.network.training_macs_of_many(vectors) / first.network.training_macs()
    of_table, of_uniform = ([vectors.index(widths) for widths in chosen] for chosen in (entries, uniform))
    return Measured(condition, vectors, costs, np.array(progress), of_table, of_uniform)


def drawn(folder: RunFolder, measured: Sequence[Measured]) -> Section:
    """Writes results.json and carry_over.png; returns the section of the report, a line for each condition.

    Args:
      folder: The run's.
      measured: Under each condition; the first is that of the search.
    """
    first, found = measured[0], [findings(measured[0], under) for under in measured]
    rows = [HEADINGS.split(",")]
    for under, finding in zip(measured, found, strict=True):
        levels = [level(mean_interval(finding[name])) for name in ("area_table", "area_uniform")]
        orders = [finding[name] for name in ("order_of_entries", "order_at_equal_cost")]
        shown = [signed(order) if np.isfinite(order.mean) else "–" for order in orders]
        share = f"{finding['dominated']} of {len(under.entries)}"
        cells = [*levels, signed(finding["difference"]), *shown, share, str(finding["clearly_dominated"])]
        rows.append([under.condition.label, *cells])
    chosen = {"vectors": first.vectors, "entries": first.entries, "uniform": first.uniform}
    folder.write_part("results.json", RESULTS_KIND, {**chosen, "conditions": found})
    conditions_picture(
        folder.path / "carry_over.png",
        {under.condition.label: (under.front(under.entries), under.front(under.uniform)) for under in measured},
    )
    notes = (
        f"{len(first.entries)} entries, {len(first.uniform)} vectors of one rate at about their costs, "
        f"{how_many(len(first.progress), 'seed')}. Intervals of areas are over seeds. Order: rank correlation of progress "
        "with that of the first line (there: between two of its own seeds), at equal cost that of all vectors given cost; "
        "intervals by a bootstrap over vectors. Dominated: entries that a vector of one rate, at no higher cost, learns as "
        "fast as; clearly: faster, by an interval of 95 %."
    )
    pictures = {"carry_over.png": "The table and vectors of one rate under each condition"}
    return Section("The table under other conditions", f"{notes}\n\n{markdown_table(rows)}", pictures)


def findings(first: Measured, under: Measured) -> dict[str, Any]:
    """What is reported of a condition, beside the first.

    Args:
      first: What was measured under the condition of the search.
      under: What was measured under this condition, which may be that one.

    Returns:
      JSON values: areas and their difference over seeds, rank correlations with `first`, and how many entries are dominated.
    """
    before, now = first.of_seeds, None if under is first else under.of_seeds
    entries_now = None if now is None else now[:, first.entries]
    table, uniform = under.areas(under.entries), under.areas(under.uniform)
    dominated, clearly = under.dominated()
    return {
        "condition": under.condition.name,
        "costs": under.costs,
        "progress": under.progress,
        "area_table": table,
        "area_uniform": uniform,
        "difference": paired_difference(table, uniform),
        "order_of_entries": order_kept(rank_correlation, before[:, first.entries], entries_now),
        "order_at_equal_cost": order_kept(partial_rank_correlation, before, now, first.costs),
        "dominated": dominated,
        "clearly_dominated": clearly,
    }
