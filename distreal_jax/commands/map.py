"""The map: which method is best at which mean availability and rate of change, and what dropping filters gains there.

    distreal map --dataset fashion_mnist --data-dir ../shared/tfds --model small_cnn

runs a comparison in each cell, in a folder of its own, and leaves map.png, map.json and a report. Finished cells are not run
again. A device's availability is uniform, 0.8 times the distance to the nearer of 0 and 1 to either side of the mean, and
redrawn so many times a round on average: at a mean of 1 nothing changes. The first method is compared with each of the
others, in final accuracy and in its mean over time; the picture's margin is to the best of them.

    distreal map --trials 8 ...

first tunes each method with that many trials in each cell, at its load, as `distreal tune` does. With `--final-seeds`, these
seeds decide between the best trials.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from distreal_jax.availability import make_availability
from distreal_jax.commands.map_tables import Cell, map_section
from distreal_jax.errors import InputError
from distreal_jax.experiment import (
    DryRun,
    GivenTable,
    HowExecuted,
    IsoCompute,
    ManyMethods,
    ManySeeds,
    Measure,
    OutputSettings,
    Plain,
    PlainFlags,
    at_equal_computing,
    compare,
    dry_run,
    needed_table,
    open_folder,
    parsed_further_seeds,
    parsed_list,
    parsed_seeds,
    speed_of,
)
from distreal_jax.experiment.measured import GivenSeconds, counted_in
from distreal_jax.experiment.tuning import FinalSeeds, TunedFor, Tuner
from distreal_jax.experiment.tuning_report import TUNED_FILE, write_tuning
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import Measured, table_for
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import Method, methods_named
from distreal_jax.record import RunFolder, write_report
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.settings import Within
from distreal_jax.signs import MeanPace, say
from distreal_jax.table import DropoutTable
from distreal_jax.tuning import TunedSettings

VALIDATION, TUNING_SEED = 0.2, 1000  # of a tuning, where the world's settings name no share; chosen by us


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare methods over a grid of loads."""

    means: str = "0.03,0.1,0.3,0.6"
    """Mean availability, columns of the map."""
    rates: str = "0.1,1,10"
    """Changes of availability a round, rows of the map."""
    methods: ManyMethods = "distreal,partial_work,heterofl"
    iso_compute: IsoCompute = False
    seeds: ManySeeds = "0-2"
    trials: Annotated[int, Within(0, 10_000)] = 0
    """Trials with which each method is tuned in each cell first, on a part of the training examples; 0: untuned."""
    final_seeds: FinalSeeds = ""
    goal: TunedFor = "final"
    table: GivenTable = None
    seconds: GivenSeconds = None
    execution: HowExecuted = "compact"
    world: Plain[WorldSettings] = WorldSettings()
    training: Plain[TrainingSettings] = TrainingSettings(rounds=60)
    record: PlainFlags[RecordSettings] = RecordSettings(eval_every=10)
    output: PlainFlags[OutputSettings] = OutputSettings()
    dry_run: DryRun = False
    measure: Measure = False


def load_of(mean: float, rate: float) -> str:
    """The load of a cell, as `WorldSettings.availability`."""
    reach = 0.8 * min(mean, 1 - mean)
    return f"redrawn:{mean - reach:g},{mean + reach:g},{rate:g}"


def name_of(mean: float, rate: float) -> str:
    """Of a cell's folder."""
    return f"mean{mean:g}-rate{rate:g}"


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
    options = at_equal_computing(options)
    means, rates = numbers(options.means, "means", 1.0), numbers(options.rates, "rates", 1000.0)
    methods, seeds = methods_named(parsed_list(options.methods, "methods")), parsed_seeds(options.seeds)
    if len(methods) < 2:
        raise InputError(f"a map of {options.methods!r} has nothing to compare; give at least two methods")
    if TUNING_SEED in seeds and options.trials:
        raise InputError(f"seed {TUNING_SEED} is that of the tuning; leave it out of --seeds")
    final_seeds = parsed_further_seeds(options.final_seeds, (TUNING_SEED, *seeds), "final_seeds")
    if final_seeds and not options.trials:
        raise InputError("final_seeds are of a tuning; give --trials too, or leave them out")
    if options.world.availability != WorldSettings().availability:
        raise InputError(
            f"availability {options.world.availability!r} would not be used: --means and --rates give the loads of a map"
        )
    if options.world.validation and not options.trials:
        raise InputError(
            "a map is scored on the test set, and --validation is for its trials; give --trials, or leave it out"
        )
    world = World.make(options.world, seeds[0])
    table = needed_table(options.table, world, methods)
    counted = counted_in(options.world, options.training, options.seconds, world, planned=options.dry_run)
    options, world = dataclasses.replace(options, world=counted.settings), counted.of(world)
    counted.say_how_sure(table)
    for rate, mean in itertools.product(rates, means):
        make_availability(load_of(mean, rate), seed=0, num_devices=1)  # bad input ends here, before anything is written
    if options.dry_run:
        loads = planned(options, methods, table, world, list(itertools.product(means, rates)))
        final = f", and their final with seeds {options.final_seeds}" if final_seeds else ""
        tuned = [f"Not counted: {options.trials} trials of each method in each cell{final}."] if options.trials else []
        notes = [*counted.notes, *tuned]
        print(dry_run(loads, options.record, notes, speed_of=speed_of(measure=options.measure), seeds=len(seeds)))
        return
    decided: dict[str, Any] = {} if table is None else {"table": table.as_settings()}
    # What is tuned depends on the other methods, the number of trials and the seeds of the final.
    growing = ("means", "rates", "seeds", *(() if options.trials else ("methods", "final_seeds")))
    with open_folder(options.output, "map", options, may_change=growing, **decided) as folder:
        places = [(mean, rate) for rate in rates for mean in means]
        of_cells = [folder.path / name_of(*place) for place in places]
        pace = MeanPace((path.name for path in of_cells if not (path / "results.json").exists()), "cell")
        cells = []
        for number, (path, (mean, rate)) in enumerate(zip(of_cells, places, strict=True), 1):
            begun, new = time.monotonic(), not path.exists()
            what = f"cell {number} of {len(places)}: mean availability {mean:g}, rate of change {rate:g} a round"
            say("; ".join(part for part in (what, pace.left()) if part))
            cells.append(run_cell(options, methods, seeds, final_seeds, table, counted.measured, folder, mean, rate))
            pace.done(path.name, time.monotonic() - begun if new else None)
        section = map_section(folder, cells, means, rates)
        write_report(folder.path / "report.md", "Map", section)
        print(section.text)
        print(f"report: {folder.path / 'report.md'}")


def run_cell(
    options: Options,
    methods: Sequence[Method],
    seeds: Sequence[int],
    final_seeds: Sequence[int],
    table: DropoutTable | None,
    measured: Measured | None,
    folder: RunFolder,
    mean: float,
    rate: float,
) -> Cell:
    """Tunes the methods at a cell's load, if that is asked for, and compares them.

    Args:
      options: Of the map.
      methods: At least two.
      seeds: Of the comparison.
      final_seeds: Of the finalists of the tuning.
      table: For methods that need a searched one.
      measured: As for `table_for`.
      folder: Of the map; the cell gets a folder in it.
      mean: Mean availability.
      rate: Changes of availability a round.
    """
    # The split is for trials alone; the comparison trains on all examples.
    settings = dataclasses.replace(options.world, availability=load_of(mean, rate), validation=0.0)
    decides = {"world": settings, "training": options.training, "record": options.record}

    def searched(world: World, _: Method) -> DropoutTable:
        return table or DropoutTable.full(world.network)  # the latter: nobody asks

    with RunFolder.at(folder.path / name_of(mean, rate), decides) as own:
        tuned = None
        if options.trials:
            split = dataclasses.replace(settings, validation=options.world.validation or VALIDATION)
            world, *finals = (World.make(split, seed) for seed in (TUNING_SEED, *final_seeds))
            with RunFolder.at(own.path / "tuning", {**decides, "world": split}) as trials:
                how: Any = {"execution": options.execution, "measured": measured, "goal": options.goal}
                tuner = Tuner((world,), options.training, options.record, trials, searched, finals=tuple(finals), **how)
                tunings = tuner.tune_all(methods, options.trials, TUNING_SEED, say)
                write_tuning(trials, tuner, tunings, split)
                tuned = TunedSettings.load(trials.path / TUNED_FILE)
        comparison = compare(
            methods,
            seeds,
            settings,
            options.training,
            options.record,
            options.output,
            own,
            searched=searched,
            execution=options.execution,
            tuned=tuned,
            measured=measured,
        )
    return Cell(mean, rate, comparison.results)


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
