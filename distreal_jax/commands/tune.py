"""Tune methods, each with the same number of trials, and leave a file of settings that a comparison takes.

    python experiments/tune.py --methods distreal,heterofl,partial_work --trials 12 --out runs/tuned
    python experiments/compare.py --methods distreal,heterofl,partial_work --tuned runs/tuned/tuned.json --seeds 0-4

Trials are scored on a part of the training examples (`--validation`), with seeds of their own (`--seeds`), at equal MACs of
a round: a smaller batch means more mini-batches. Then each method tries what was best for the others. In the end, seeds that
are given for it (`--final-seeds`) decide between the best of each. The test set is reported and never chosen by. What is
finished is not run again; a tuning that was stopped goes on.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

from distreal_jax.errors import InputError
from distreal_jax.experiment import (
    DryRun,
    GivenTable,
    HowExecuted,
    IsoCompute,
    ManyMethods,
    Measure,
    OutputSettings,
    Plain,
    PlainFlags,
    at_equal_computing,
    given_or_shipped,
    needed_table,
    open_folder,
    parsed_further_seeds,
    parsed_list,
    parsed_seeds,
    speed_of,
    tracked,
)
from distreal_jax.experiment.measured import GivenSeconds, counted_in
from distreal_jax.experiment.tuning import FinalSeeds, TunedFor, Tuner, Tuning
from distreal_jax.experiment.tuning_dry_run import tuning_dry_run
from distreal_jax.experiment.tuning_report import TUNED_FILE, write_tuning
from distreal_jax.fleet.method_table import UNIFORM_RATES
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import Method, methods_named
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.settings import Within
from distreal_jax.signs import say
from distreal_jax.table import DropoutTable


@dataclasses.dataclass(frozen=True)
class Options:
    """Tune methods with equal numbers of trials."""

    methods: ManyMethods = "distreal,heterofl,partial_work,full_resources"
    iso_compute: IsoCompute = False
    trials: Annotated[int, Within(1, 10_000)] = 12
    """Trials of each method, the untuned settings among them; beside these, each tries what is best for the others."""
    goal: TunedFor = "final"
    seeds: str = "1000"
    """Seeds that every trial is trained with, such as 1000,1001: others than those of the comparison."""
    final_seeds: FinalSeeds = ""
    table: GivenTable = None
    seconds: GivenSeconds = None
    execution: HowExecuted = "compact"
    world: Plain[WorldSettings] = WorldSettings(validation=0.2)
    training: Plain[TrainingSettings] = TrainingSettings()
    record: Plain[RecordSettings] = RecordSettings()
    output: PlainFlags[OutputSettings] = OutputSettings()
    dry_run: DryRun = False
    measure: Measure = False


def main(options: Options) -> None:
    """Tunes what is not finished and reports."""
    options = at_equal_computing(options)
    methods, seeds = methods_named(parsed_list(options.methods, "methods")), parsed_seeds(options.seeds)
    if not options.world.validation:
        raise InputError("tuning on the test set would choose by what is reported; give --validation a share such as 0.2")
    final_seeds = parsed_further_seeds(options.final_seeds, seeds, "final_seeds")
    worlds = tuple(World.make(options.world, seed) for seed in seeds)
    counted = counted_in(options.world, options.training, options.seconds, worlds[0], planned=options.dry_run)
    options = dataclasses.replace(options, world=counted.settings)
    worlds = tuple(map(counted.of, worlds))
    finals = tuple(counted.of(World.make(options.world, seed)) for seed in final_seeds)
    if options.dry_run:
        table = given_or_shipped(options.table, worlds[0], planned=True)
    else:
        table = needed_table(options.table, worlds[0], methods)
    counted.say_how_sure(table)

    def searched(world: World, _: Method) -> DropoutTable:
        return table or DropoutTable.uniform(world.network, UNIFORM_RATES)

    how: Any = {"execution": options.execution, "measured": counted.measured, "goal": options.goal, "finals": finals}
    tuner = Tuner(worlds, options.training, options.record, None, searched, **how)
    if options.dry_run:
        speed = speed_of(measure=options.measure)
        print(*counted.notes, tuning_dry_run(methods, options.trials, tuner, seed=seeds[0], speed_of=speed), sep="\n")
        return
    widths: dict[str, Any] = {} if table is None else {"table": table.as_settings()}
    # More methods may come to those that are there, and more trials and seeds: what was tried stays and is gone on from.
    growing = ("methods", "trials", "final_seeds")
    with open_folder(options.output, "tune", options, may_change=growing, **widths) as folder:
        tuner = dataclasses.replace(tuner, folder=folder)
        with tracked(options.output, folder, "tune") as tracker:
            tunings = tuner.tune_all(methods, options.trials, seeds[0], say)
            section = write_tuning(folder, tuner, tunings, options.world)
            scored = worlds[0].task.score_name
            columns = [
                "method",
                "trial",
                *sorted({knob.name for tuning in tunings for knob in tuning.knobs}),
                f"validation {scored}",
            ]
            rows = [row for tuning in tunings for row in rows_of(tuning, columns[2:-1])]
            tracker.log_table("tuning/trials", columns, rows)
            tracker.summarise({f"{tuning.method.name}/validation_{scored}": tuning.tuned().score for tuning in tunings})
            tracker.log_picture(folder.path / "sensitivity.png")
            tracker.log_artifact(folder.path / TUNED_FILE, "tuned-settings", "tuned-settings")
        print(section.text)
        print(f"tuned settings: {folder.path / TUNED_FILE}; report: {folder.path / 'report.md'}")


def rows_of(tuning: Tuning, knobs: Sequence[str]) -> list[list[str | float]]:
    """A method's trials: its name, the trial's number, the values of these knobs as text, and what it scored."""
    name = tuning.method.name
    return [
        [name, index, *(str(trial.point.get(knob, "")) for knob in knobs), trial.score()]
        for index, trial in enumerate(tuning.trials)
    ]
