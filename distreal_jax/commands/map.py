"""The map: which method is best at which mean availability and rate of change, and what dropping filters gains there.

    distreal map --dataset fashion_mnist --data-dir ../shared/tfds --model small_cnn

runs a comparison in each cell, in a folder of its own, and leaves map.png, map.json and a report. Finished cells are not run
again. A device's availability is uniform, 0.8 times the distance to the nearer of 0 and 1 to either side of the mean, and
redrawn so many times a round on average: at a mean of 1 nothing changes. The margin is between the first two methods.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from distreal_jax.availability import make_availability
from distreal_jax.errors import InputError
from distreal_jax.experiment import (
    DryRun,
    GivenTable,
    HowExecuted,
    ManyMethods,
    ManySeeds,
    Measure,
    OutputSettings,
    Plain,
    PlainFlags,
    compare,
    dry_run,
    needed_table,
    open_folder,
    parsed_list,
    parsed_seeds,
    speed_of,
)
from distreal_jax.fleet.federation import Federation, TrainingSettings, table_for
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import Method, methods_named
from distreal_jax.record import MethodResult, RunFolder, Section, map_picture, paired_difference, write_report
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.record.report import delivered, markdown_table, signed
from distreal_jax.table import DropoutTable


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare methods over a grid of loads."""

    means: str = "0.03,0.1,0.3,0.6"
    """Mean availability, columns of the map."""
    rates: str = "0.1,1,10"
    """Changes of availability a round, rows of the map."""
    methods: ManyMethods = "distreal,partial_work,heterofl"
    seeds: ManySeeds = "0-2"
    table: GivenTable = None
    execution: HowExecuted = "compact"
    world: Plain[WorldSettings] = WorldSettings()
    training: Plain[TrainingSettings] = TrainingSettings(rounds=60)
    record: PlainFlags[RecordSettings] = RecordSettings(eval_every=10)
    output: PlainFlags[OutputSettings] = OutputSettings()
    dry_run: DryRun = False
    measure: Measure = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the methods did at one load."""

    mean: float
    rate: float
    results: tuple[MethodResult, ...]

    def final(self, method: str) -> list[float]:
        """Final accuracies of a method, by seed."""
        return [result.final for result in sorted(self.results, key=lambda result: result.seed) if result.method == method]

    def mean_final(self, method: str) -> float:
        """Their mean."""
        return fmean(self.final(method))

    def delivered(self, method: str) -> float:
        """MACs of the model that the method delivers, as a share of the full network's; mean over seeds."""
        return fmean(result.delivered for result in self.results if result.method == method)

    def to_json(self, methods: Sequence[str]) -> dict[str, object]:
        """For map.json."""
        final = {method: self.final(method) for method in methods}
        shares = {method: self.delivered(method) for method in methods}
        return {"mean": self.mean, "rate": self.rate, "final": final, "delivered": shares}

    def winner(self) -> str:
        """The method of the best mean final accuracy."""
        return max(dict.fromkeys(result.method for result in self.results), key=self.mean_final)


def load_of(mean: float, rate: float) -> str:
    """The load of a cell, as `WorldSettings.availability`."""
    reach = 0.8 * min(mean, 1 - mean)
    return f"redrawn:{mean - reach:g},{mean + reach:g},{rate:g}"


def numbers(text: str, what: str, highest: float) -> list[float]:
    """Numbers above 0 from a comma-separated option."""
    try:
        values = [float(part) for part in parsed_list(text, what)]
    except ValueError:
        values = []
    if not values or not all(0 < value <= highest for value in values):
        raise InputError(f"{what} {text!r}: expected numbers above 0 and at most {highest:g}, separated by commas")
    names = [f"{value:g}" for value in values]
    if len(set(names)) < len(names):
        raise InputError(f"{what} {text!r}: two are the same to six digits, in which cells are named; leave one out")
    return values


def main(options: Options) -> None:
    """Runs what is not finished and draws the map."""
    means, rates = numbers(options.means, "means", 1.0), numbers(options.rates, "rates", 1000.0)
    methods, seeds = methods_named(parsed_list(options.methods, "methods")), parsed_seeds(options.seeds)
    if len(methods) < 2:
        raise InputError(f"a map of {options.methods!r} has nothing to compare; give at least two methods")
    world = World.make(options.world, seeds[0])
    table = needed_table(options.table, world, methods)
    for rate, mean in itertools.product(rates, means):
        make_availability(load_of(mean, rate), seed=0, num_devices=1)  # bad input ends here, before anything is written
    if options.dry_run:
        loads = planned(options, methods, table, world, list(itertools.product(means, rates)))
        print(dry_run(loads, options.record, speed_of=speed_of(measure=options.measure), seeds=len(seeds)))
        return
    decided: dict[str, Any] = {} if table is None else {"table": table.as_settings()}
    growing = ("means", "rates", "methods", "seeds")
    with open_folder(options.output, "map", options, may_change=growing, **decided) as folder:
        cells = []
        for rate in rates:
            for mean in means:
                load = load_of(mean, rate)
                settings = dataclasses.replace(options.world, availability=load)
                decides = {"world": settings, "training": options.training, "record": options.record}
                with RunFolder.at(folder.path / f"mean{mean:g}-rate{rate:g}", decides) as own:
                    comparison = compare(
                        methods,
                        seeds,
                        settings,
                        options.training,
                        options.record,
                        options.output,
                        own,
                        searched=lambda world, _: table or DropoutTable.full(world.network),  # the latter: nobody asks
                        execution=options.execution,
                    )
                cells.append(Cell(mean, rate, comparison.results))
        first, second = methods[0].name, methods[1].name
        section = drawn(folder, cells, means, rates, first, second)
        write_report(folder.path / "report.md", "Map", section)
        print(section.text)
        print(f"report: {folder.path / 'report.md'}")


def planned(
    options: Options,
    methods: Sequence[Method],
    table: DropoutTable | None,
    first: World,
    cells: Sequence[tuple[float, float]],
) -> Iterator[Federation]:
    """The federations of the first seed in every cell, each named by its method and cell."""
    for mean, rate in cells:
        load = make_availability(load_of(mean, rate), seed=first.seed, num_devices=first.devices)
        world = dataclasses.replace(first, availability=load)
        for method in methods:
            named = dataclasses.replace(method, name=f"{method.name} at {mean:g}, {rate:g}")
            own = table_for(named, world, table, options.training)
            yield Federation(world, named, own, options.training, options.execution)


def drawn(
    folder: RunFolder, cells: Sequence[Cell], means: Sequence[float], rates: Sequence[float], first: str, second: str
) -> Section:
    """Writes map.json and map.png; returns the section of the report, a line for each cell."""
    names = list(dict.fromkeys(result.method for result in cells[0].results))
    rows = [["mean availability", "changes a round", *names, f"{first} minus {second}", "delivered"]]
    for cell in cells:
        margin = paired_difference(cell.final(first), cell.final(second))
        finals = [f"{cell.mean_final(name):.3f}" for name in names]
        smaller = [f"{name}: {delivered(cell.delivered(name))}" for name in names if cell.delivered(name) < 1]
        models = ", ".join(smaller) + "; others: full network" * (0 < len(smaller) < len(names)) or delivered(1)
        rows.append([f"{cell.mean:g}", f"{cell.rate:g}", *finals, signed(margin), models])
    folder.write_json("map.json", [cell.to_json(names) for cell in cells])
    grid = [cells[row * len(means) : (row + 1) * len(means)] for row in range(len(rates))]
    map_picture(
        folder.path / "map.png",
        x_values=means,
        y_values=rates,
        winners=[[cell.winner() for cell in row] for row in grid],
        best=[[cell.mean_final(cell.winner()) for cell in row] for row in grid],
        delivered=[[cell.delivered(cell.winner()) for cell in row] for row in grid],
        margins=[[paired_difference(cell.final(first), cell.final(second)).mean for cell in row] for row in grid],
        title=f"{first} minus {second}",
        margin_label="points of accuracy",
    )
    return Section("Which method at which load", markdown_table(rows), {"map.png": "Best method and margin in each cell"})
