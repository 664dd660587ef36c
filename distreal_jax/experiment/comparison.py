"""Methods compared in pairs: every method meets the same data, devices, first weights and load of a seed."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from distreal_jax import processes
from distreal_jax.data.datasets import load_dataset
from distreal_jax.errors import InputError
from distreal_jax.experiment.command_line import OutputSettings
from distreal_jax.experiment.sharing import shared_out
from distreal_jax.experiment.tracked import tracked
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import Measured, table_for
from distreal_jax.fleet.programs import Execution
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import Method
from distreal_jax.record.device_model import DeviceModel
from distreal_jax.record.logged import OVER_ROUNDS, ROUND_AXIS, summary_of
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.pictures import accuracy_picture, costs_picture, fairness_picture, utilisation_picture
from distreal_jax.record.recorded_run import RESULT, TIERS, RecordSettings, recorded_run
from distreal_jax.record.report import ACCURACY, COST, Section, comparison_table
from distreal_jax.record.run_folder import RESULTS_KIND, RunFolder, read_part
from distreal_jax.record.summary import MethodSummary, summarise
from distreal_jax.signs import MeanPace, say, sentence
from distreal_jax.table import DropoutTable
from distreal_jax.tuning import TunedSettings

SHARES_OF_BEST = (0.7, 0.8, 0.9)  # of the best final accuracy: the targets where none are given, chosen by us

_IN_FIRST_PICTURE = 5  # methods, if there are more than two more; chosen by us: lines that can still be told apart
_WORLDS_AT_HAND = 4  # while runs of several seeds are held by other processes; chosen by us


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
      results: Of each method and seed.
      section: For a report: the table and the pictures.
    """

    results: tuple[MethodResult, ...]
    section: Section

    def __str__(self) -> str:
        return self.section.text

    __repr__ = __str__


def compare(
    methods: Sequence[Method],
    seeds: Sequence[int],
    world_settings: WorldSettings,
    training: TrainingSettings,
    record: RecordSettings,
    output: OutputSettings,
    folder: RunFolder,
    *,
    searched: Callable[[World, Method], DropoutTable],
    execution: Execution = "compact",
    targets: Sequence[float] | None = None,
    device: DeviceModel = DeviceModel(),
    tuned: TunedSettings | None = None,
    first: World | None = None,
    make_world: Callable[[int], World] | None = None,
    share: bool = False,
    measured: Measured | None = None,
    reference: str | None = None,
) -> Comparison:
    """Runs every method with every seed, or what is left of them, and draws the comparison into the folder.

    Args:
      methods: The methods.
      seeds: The seeds; methods are compared within each.
      world_settings: Data, network, devices and load.
      training: How devices and server train.
      record: How runs are watched.
      output: Where Weights & Biases goes.
      folder: Gets a folder for each method and seed, `results.json` and pictures.
      searched: The searched table for a method in a world; called for methods that need one.
      execution: `compact` or `masked`.
      targets: Accuracies that methods are timed to; None: `SHARES_OF_BEST` of the best final accuracy.
      device: The model of energy and of links.
      tuned: Settings of each method in place of the usual ones.
      first: The world of the first seed if it is made already.
      make_world: Makes the world of a seed, where settings can't name it: data, a task or a network of one's own.
      share: Other processes do the same in the folder, which was let go: runs are shared out among them.
      measured: As for `table_for`.
      reference: The method that the others are compared with; None: `usual_reference`.

    Raises:
      InputError: Any of it is no good.
    """
    names = [f"{method.name}-seed{seed}" for seed in seeds for method in methods]
    finished = processes.told(lambda: [name for name in names if (folder.path / name / RESULT).exists()])
    pace = MeanPace(set(names) - set(finished), "run")

    def run(federation: Federation) -> MethodResult:
        name, begun = f"{federation.method.name}-seed{federation.world.seed}", time.monotonic()
        with RunFolder.at(folder.path / name, _settings_of(federation, folder)) as own:
            if len(names) > 1 and name not in finished:
                what = (
                    f"run {names.index(name) + 1} of {len(names)}: {federation.method.name} (seed {federation.world.seed})"
                )
                left = "" if share else pace.left()  # others take some of what is left
                say("; ".join(part for part in (what, left) if part))
            result = run_method(federation, record, output, own, group=folder.path.name, alone=len(names) == 1)
        pace.done(name, None if own.resumed else time.monotonic() - begun)
        jax.clear_caches()  # the steps of this method's entries: memory, not time, of the next one
        return result

    def of(seeds: Sequence[int]) -> Iterator[Federation]:
        how: Any = {"searched": searched, "execution": execution, "tuned": tuned, "first": first, "make_world": make_world}
        return federations(methods, seeds, world_settings, training, measured=measured, **how)

    if not share:
        results = [run(federation) for federation in of(seeds)]
        return Comparison(tuple(results), draw(results, folder, targets, device, reference))
    of_seed = functools.lru_cache(maxsize=_WORLDS_AT_HAND)(lambda seed: list(of([seed])))
    runs = [(seed, index) for seed in seeds for index in range(len(methods))]
    results = shared_out(runs, lambda run_of: run(of_seed(run_of[0])[run_of[1]]))
    with folder.alone():
        return Comparison(tuple(results), draw(results, folder, targets, device, reference))


def federations(
    methods: Sequence[Method],
    seeds: Sequence[int],
    world_settings: WorldSettings,
    training: TrainingSettings,
    *,
    searched: Callable[[World, Method], DropoutTable],
    execution: Execution = "compact",
    tuned: TunedSettings | None = None,
    first: World | None = None,
    make_world: Callable[[int], World] | None = None,
    measured: Measured | None = None,
) -> Iterator[Federation]:
    """Every method in the world of every seed; arguments as for `compare`.

    Raises:
      InputError: No method or no round is given, or as `World.make` and `table_for`.
    """
    if training.rounds < 1 or not methods:
        raise InputError("nothing to compare; give at least one method and one round")
    if make_world is None:
        # A world's data are not the whole set where they were shrunk, or a validation split was taken.
        whole = first and not world_settings.validation and world_settings.shrink == 1
        dataset = first.dataset if first and whole else load_dataset(world_settings.dataset, world_settings.data_dir)
        make_world = functools.partial(World.make, world_settings, dataset=dataset)
    each = [tuned.of(method, training) if tuned else (method, training) for method in methods]
    for seed in seeds:
        world = first if first and first.seed == seed else make_world(seed)
        for method, own in each:
            table = table_for(method, world, searched(world, method) if method.rates == "table" else None, own, measured)
            yield Federation(world, method, table, own, execution)


def run_method(
    federation: Federation,
    record: RecordSettings,
    output: OutputSettings,
    folder: RunFolder,
    *,
    group: str | None = None,
    alone: bool = True,
) -> MethodResult:
    """Runs one method in its folder, or what is left of it, with Weights & Biases beside it.

    Args:
      federation: One method in one world.
      record: How the run is watched.
      output: Where Weights & Biases goes.
      folder: Of this run.
      group: As for `open_tracker`.
      alone: As for `open_tracker`.
    """
    name = f"{federation.method.name}-seed{federation.world.seed}"
    with tracked(output, folder, federation.method.name, name=name, group=group, alone=alone) as tracker:
        tracker.draw_over(ROUND_AXIS, OVER_ROUNDS)
        if federation.method.rates == "table" and output.wandb != "disabled" and processes.is_first():
            federation.table.save(folder.path / "table.json")
            tracker.log_artifact(folder.path / "table.json", "dropout-table", "dropout-table")
        result = recorded_run(federation, folder, record, tracker=tracker)
        tracker.summarise(summary_of(result))
        if processes.is_first():
            accuracy_picture(
                folder.path / "accuracy.png",
                {result.method: [(result.times, result.accuracies)]},
                score=result.scored_by,
                delivered={result.method: result.delivered},
            )
        tracker.log_picture(folder.path / "accuracy.png")
    return result


def _settings_of(federation: Federation, folder: RunFolder) -> dict[str, Any]:
    settings = folder.settings
    return {
        **({} if "world" in settings else {"world": federation.world.checksums()}),  # a world of one's own
        "comparison": {key: value for key, value in settings.items() if key not in folder.may_change},
        "method": dataclasses.asdict(federation.method),
        "training": dataclasses.asdict(federation.training),
        "seed": federation.world.seed,
        "table": table_settings(federation),
        "network": federation.world.network.signature(),
    }


def table_settings(federation: Federation) -> Any:
    """What of its table decides a run: its entries, and what devices choose by beside MACs, costs and measured progress."""
    decides: dict[str, Any] = {}
    if federation.unit != "macs":
        decides["costs"] = federation.costs.tolist()
    if federation.method.by_progress:
        decides["progress"] = [(entry.progress, entry.progress_stderr) for entry in federation.table.entries]
    configurations = federation.table.as_settings()
    return {"entries": configurations, **decides} if decides else configurations


def _title(folder: RunFolder) -> str:
    """Of a picture of methods: data set, network and load, where the settings name them."""
    world = folder.settings.get("world", {})
    named = [world[name] for name in ("dataset", "model") if name in world]
    return f"{', '.join(named)}: availability {world['availability']}" if named else "Methods under the same load"


def _first_methods(finals: Mapping[str, float]) -> list[str]:
    """The methods of the first picture: all if they are few; else the first one, the upper bound and the best others."""
    if len(finals) <= _IN_FIRST_PICTURE + 2:
        return list(finals)
    fixed = [name for index, name in enumerate(finals) if index == 0 or name == "full_resources"]
    others = sorted((name for name in finals if name not in fixed), key=lambda name: -finals[name])
    chosen = {*fixed, *others[: _IN_FIRST_PICTURE - len(fixed)]}
    return [name for name in finals if name in chosen]


def draw(
    results: Sequence[MethodResult],
    folder: RunFolder,
    targets: Sequence[float] | None = None,
    device: DeviceModel = DeviceModel(),
    reference: str | None = None,
) -> Section:
    """Writes `results.json` and the pictures of a comparison; returns its section of a report.

    Args:
      results: Of all methods and seeds.
      folder: Gets the files.
      targets: Scores that methods are timed to; None: `SHARES_OF_BEST` of the best final score.
      device: The model of energy and of links.
      reference: The method that the others are compared with; None: `usual_reference`.
    """
    if targets is None:
        best = max(result.final for result in results)
        targets = sorted({round(share * best, 2) for share in SHARES_OF_BEST}) if best > 0 else []
    how: Any = {"reference": reference, "targets": targets, "device": device}
    summaries = summarise(results, **how)
    folder.write_part(
        "results.json",
        RESULTS_KIND,
        {
            "targets": targets,
            "device": dataclasses.asdict(device),
            "reference": reference,
            "runs": [r.to_json() for r in results],
            "summaries": [dataclasses.asdict(s) for s in summaries],
        },
    )
    pictures = _draw(results, summaries, folder, targets, device) if processes.is_first() else {}
    tables = [comparison_table(results, columns=names, **how) for names in (ACCURACY, COST)]
    diverged = [f"**{result.divergence}**\n" for result in results if result.divergence is not None]
    return Section("Methods under the same load", "\n".join([*diverged, *tables]), pictures)


def read_comparison(path: Path) -> tuple[list[MethodResult], dict[str, Any]]:
    """The results that `draw` wrote into a folder, and what it was told of how to judge them, as for `comparison_table`.

    Raises:
      InputError: As `read_part`.
    """
    _, content = read_part(path / "results.json", RESULTS_KIND)
    how = {"targets": content["targets"], "device": DeviceModel(**content["device"]), "reference": content.get("reference")}
    return [MethodResult.from_json(run) for run in content["runs"]], how


def _draw(
    results: Sequence[MethodResult],
    summaries: Sequence[MethodSummary],
    folder: RunFolder,
    targets: Sequence[float],
    device: DeviceModel,
) -> dict[str, str]:
    """Draws the pictures of a comparison; file name -> what it shows."""
    by_method: dict[str, list[MethodResult]] = {}
    for result in results:
        by_method.setdefault(result.method, []).append(result)
    shares = {s.method: s.delivered for s in summaries}
    curves = {method: [(run.times, run.accuracies) for run in runs] for method, runs in by_method.items()}
    first = _first_methods({s.method: s.final.mean for s in summaries})
    for name, shown in {"accuracy.png": first, "accuracy_all.png": list(curves)}.items():
        if name == "accuracy.png" or len(first) < len(curves):
            accuracy_picture(
                folder.path / name,
                {method: curves[method] for method in shown},
                title=_title(folder),
                targets=targets,
                score=results[0].scored_by,
                delivered=shares,
                not_shown=[method for method in curves if method not in shown],
            )
    costs_picture(folder.path / "costs.png", by_method, device)
    utilisation_picture(
        folder.path / "utilisation.png",
        {s.method: (s.spent, s.wasted, s.idle) for s in summaries},
    )
    score = sentence(results[0].scored_by)
    pictures = {
        "accuracy.png": f"{score} over simulated time",
        "costs.png": f"{score} over what it costs: MACs, bytes, energy, time with links, memory",
        "utilisation.png": "What became of the devices' resources",
    }
    tiers = [name for name in TIERS if name in summaries[0].accuracy_per_tier]
    if tiers:  # a task without classes has none
        per_tier = {
            s.method: [s.accuracy_per_tier[name] for name in tiers if name in s.accuracy_per_tier] for s in summaries
        }
        fairness_picture(folder.path / "fairness.png", per_tier, tiers, score=results[0].scored_by, delivered=shares)
        pictures["fairness.png"] = "Accuracy on the data of weak and strong devices"
    if len(first) < len(curves):
        pictures["accuracy_all.png"] = f"{score} over simulated time, all methods"
    return pictures
