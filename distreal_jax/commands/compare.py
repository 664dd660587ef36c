"""Compare methods under the same load, in pairs: same data, devices, first weights and load for each seed.

    python experiments/compare.py --dataset fashion_mnist --data-dir ../shared/tfds --model leaf_cnn \
        --methods distreal,heterofl,partial_work,full_resources --rounds 50

leaves results.json, a report and pictures. Without --table, the shipped table of the network is used, and where there is
none, a table is searched first. Finished runs are not run again; one that was stopped goes on from its last checkpoint.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distreal_jax import processes
from distreal_jax.errors import InputError, choose_from
from distreal_jax.experiment import (
    DryRun,
    HowExecuted,
    IsoCompute,
    JobSettings,
    ManyMethods,
    ManySeeds,
    Measure,
    OutputSettings,
    Plain,
    PlainFlags,
    at_equal_computing,
    compare,
    dry_run,
    federations,
    given_or_shipped,
    open_folder,
    parsed_list,
    parsed_seeds,
    parsed_targets,
    search_table,
    speed_of,
    table_in_all,
    traffic_notes,
)
from distreal_jax.experiment.measured import GivenSeconds, counted_in
from distreal_jax.experiment.tuning_report import tuned_table
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import UNIFORM_RATES
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import Method, method_named, methods_named
from distreal_jax.record import DeviceModel, RunFolder, Section, write_report
from distreal_jax.record.json_values import json_value
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.record.summary import measure_in_words
from distreal_jax.search import SearchSettings
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.table import DropoutTable
from distreal_jax.tuning import TunedSettings


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare methods of federated learning under the same load."""

    methods: ManyMethods = "distreal,distreal_uniform,heterofl,partial_work,full_resources"
    seeds: ManySeeds = "0"
    table: str | None = None
    """Dropout table: a file, or the name of a shipped one; {seed} in a path stands for the seed that is run."""
    seconds: GivenSeconds = None
    tuned: Path | None = None
    """Tuned settings of each method, a file that `distreal tune` wrote."""
    targets: str | None = None
    """Accuracies that methods are timed to, such as 0.5,0.6,0.7; by default 0.7, 0.8 and 0.9 times the best final one."""
    reference: str | None = None
    """The method that the others are compared with; by default distreal, or where it is absent the first one."""
    iso_compute: IsoCompute = False
    device: DeviceModel = DeviceModel()
    """Model of energy and links for the report. It does not affect training."""
    execution: HowExecuted = "compact"
    world: Plain[WorldSettings] = WorldSettings()
    training: Plain[TrainingSettings] = TrainingSettings()
    record: PlainFlags[RecordSettings] = RecordSettings()
    output: PlainFlags[OutputSettings] = OutputSettings()
    job: Plain[JobSettings] = JobSettings()
    share: bool = False
    """Share out the runs among all processes that are started with this command, on any machines that see the folder."""
    dry_run: DryRun = False
    measure: Measure = False


# More methods or seeds may come to those that are there, and what is there may be judged in another way.
MAY_CHANGE = ("methods", "seeds", "targets", "device", "reference")


def main(options: Options) -> None:
    """Runs what is not finished and reports."""
    options = at_equal_computing(options)
    methods = methods_named(parsed_list(options.methods, "methods"))
    reference = None if options.reference is None else method_named(options.reference).name
    if reference is not None and reference not in (names := [method.name for method in methods]):
        raise InputError(f"the reference {reference!r} is not compared; {choose_from(reference, names)}")
    missing = options.dry_run and options.tuned is not None and not options.tuned.exists()
    tuned = None if options.tuned is None or missing else TunedSettings.load(options.tuned)
    seeds, targets = parsed_seeds(options.seeds), parsed_targets(options.targets)
    world = World.make(options.world, seeds[0])
    how_counted: Any = {"planned": options.dry_run, "shared": options.share}
    counted = counted_in(options.world, options.training, options.seconds, world, **how_counted)
    options, world = dataclasses.replace(options, world=counted.settings), counted.of(world)
    table = given_or_shipped(options.table, world, planned=options.dry_run)
    counted.say_how_sure(table)
    notes = [*counted.notes]
    if table is None and any(method.rates == "table" for method in methods):
        notes.append(f"A table for {options.world.model} is not there yet; uniform rates stand in for it.")
    if missing:
        notes.append(f"{options.tuned} is not there yet; the untuned settings stand in for it.")

    def known(world: World, _: Method) -> DropoutTable:
        return given_or_shipped(options.table, world, planned=options.dry_run) or DropoutTable.uniform(
            world.network, UNIFORM_RATES
        )

    def planned(seeds: Sequence[int]) -> Iterator[Federation]:
        settings = (options.world, options.training)
        how: Any = {"searched": known, "execution": options.execution, "tuned": tuned, "measured": counted.measured}
        return federations(methods, seeds, *settings, first=world, **how)

    if options.dry_run:
        speed = speed_of(measure=options.measure)
        for federation in planned(seeds[:1]):
            notes += traffic_notes(federation, options.job.num_processes)
        print(dry_run(planned(seeds[:1]), options.record, notes, speed_of=speed, seeds=len(seeds)))
        return
    decided: dict[str, Any] = {"iso_compute": False}  # as folders have it in which it did not change the methods' names
    if tuned is not None:
        decided["tuned"] = {method.name: method.point for method in tuned.methods}
    list(planned(seeds[:1]))  # bad input ends here, before anything is written
    shared = options.share
    with open_folder(options.output, "compare", options, may_change=MAY_CHANGE, shared=shared, **decided) as folder:
        comparison = compare(
            methods,
            seeds,
            options.world,
            options.training,
            options.record,
            options.output,
            folder,
            searched=lambda world, _: given_or_shipped(options.table, world) or searched(options, world, folder),
            execution=options.execution,
            targets=targets,
            device=options.device,
            tuned=tuned,
            first=world,
            share=options.share,
            measured=counted.measured,
            reference=reference,
        )
        sections = [comparison.section, *([] if tuned is None else [tuned_section(tuned, options, world.task.score_name)])]
        with folder.alone() if options.share else contextlib.nullcontext():
            write_report(folder.path / "report.md", "Comparison", *sections)
        print(comparison.section.text)
        print(f"report: {folder.path / 'report.md'}")


def tuned_section(tuned: TunedSettings, options: Options, score_name: str) -> Section:
    """What each method was tuned to, where, and in what this comparison differs from that."""
    world, training = (json_value(dataclasses.asdict(part)) for part in (options.world, options.training))
    differs = "; ".join(tuned.differences(world, training))
    said = f"Tuned under other settings than these: {differs}." if differs else "Tuned under these settings."
    said = f"Tuned for {measure_in_words(tuned.provenance.get('goal', 'final'), score_name)}. {said}"
    of_tuning = {*tuned.provenance.get("seeds", ()), *tuned.provenance.get("final_seeds", ())}
    if shared := [str(seed) for seed in parsed_seeds(options.seeds) if seed in of_tuning]:
        said += f" Not independent of the tuning, which used the same data and load: seeds {', '.join(shared)}."
    origin = f"{said} By `{tuned.provenance.get('command')}`, {tuned.provenance.get('date', '')[:10]}."
    return Section("Tuned settings", f"{origin}\n\n{tuned_table(tuned)}")


def searched(options: Options, world: World, folder: RunFolder) -> DropoutTable:
    """A table that is searched once and kept in the folder."""
    with folder.alone() if options.share else contextlib.nullcontext():
        file = folder.path / "table.json"
        if processes.told(file.exists):
            return table_in_all(file).checked_for(world.network)
        print(
            f"no table comes with the package for {options.world.model}: searching a short one first "
            "(`distreal search` does it at length)"
        )
        short = SearchSettings(population=24, generations=8)
        return search_table(world, options.training, short, ProgressSettings(held_out=500), folder).table
