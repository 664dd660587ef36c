"""The results of methods under the same load, their summaries over seeds, and the tables and reports that show them."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from distreal_jax.document import Fields
from distreal_jax.errors import InputError
from distreal_jax.record.run_folder import json_value, write_atomically
from distreal_jax.record.statistics import (
    Interval,
    area_under_curve,
    final_accuracy,
    mean_interval,
    median_time,
    paired_bootstrap,
    restricted_times,
    time_to_target,
)


@dataclasses.dataclass(frozen=True)
class MethodResult:
    """What one method did with one seed. Methods with the same seed saw the same world.

    Attributes:
      method: Its name, as on the command line.
      seed: Of data split, clients, initial weights and load.
      times: Simulated seconds at the evaluations, [evaluations], not decreasing.
      accuracies: Test accuracy of the full model at those times, [evaluations], 0 to 1.
      rounds: Rounds done at those times, [evaluations].
      macs: Multiply-accumulates computed by all devices up to those times, useful or not, [evaluations].
      macs_spent: In mini-batches that are done and uploaded, all devices and rounds; so are the next two.
      macs_wasted: In mini-batches that the deadline cut, or in work that was not uploaded.
      macs_idle: What the devices could have computed in their rounds and did not.
      client_rounds: Rounds times the clients of each: how often a device was asked to train.
      deadline_hits: How many of these were cut short by the deadline.
      clients_left_out: How many uploads the server refused (no data, or not finite).
      bytes_up: From devices to the server.
      bytes_down: From the server to devices.
      accuracy_per_tier: Name of the device tier, weakest first -> accuracy on the data of its devices.
      accuracy_per_class: Accuracy of each class, [classes]; NaN for one without test examples.
      largest_submodel_accuracy: Of the largest sub-model that was trained; None where the method doesn't nest models.
    """

    method: str
    seed: int
    times: tuple[float, ...]
    accuracies: tuple[float, ...]
    rounds: tuple[float, ...]
    macs: tuple[float, ...]
    macs_spent: float
    macs_wasted: float
    macs_idle: float
    client_rounds: int
    deadline_hits: int
    clients_left_out: int
    bytes_up: float
    bytes_down: float
    accuracy_per_tier: Mapping[str, float] = dataclasses.field(default_factory=dict)
    accuracy_per_class: tuple[float, ...] = ()
    largest_submodel_accuracy: float | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.times), len(self.accuracies), len(self.rounds), len(self.macs)}
        if len(lengths) > 1 or not self.times:
            raise InputError(
                f"the result of {self.method} with seed {self.seed} needs times, accuracies, rounds and macs of each"
                f" evaluation, at least one; got lists of {sorted(lengths)}"
            )

    @property
    def final(self) -> float:
        """Mean accuracy of the last three evaluations."""
        return final_accuracy(self.accuracies)

    def to_json(self) -> dict[str, Any]:
        """A mapping that JSON can hold and `from_json` reads back."""
        mapping: dict[str, Any] = json_value(self)
        return mapping

    @classmethod
    def from_json(cls, content: Any, source: str = "results") -> Self:
        """The result that `to_json` wrote.

        Args:
          content: As read from JSON.
          source: What an error calls it, such as the file's name.

        Raises:
          InputError: A field is missing, unknown or not what it has to be; it is named.
        """
        if isinstance(content, Mapping) and isinstance(content.get("accuracy_per_class"), list):
            # JSON has no NaN
            per_class = [math.nan if value is None else value for value in content["accuracy_per_class"]]
            content = {**content, "accuracy_per_class": per_class}
        fields = Fields(source, content, "run the comparison again")
        result = cls(
            method=fields.text("method"),
            seed=fields.whole("seed", least=0),
            times=fields.numbers("times"),
            accuracies=fields.numbers("accuracies"),
            rounds=fields.numbers("rounds"),
            macs=fields.numbers("macs"),
            **{name: _required(fields, name, source) for name in ("macs_spent", "macs_wasted", "macs_idle")},
            client_rounds=fields.whole("client_rounds", least=0),
            deadline_hits=fields.whole("deadline_hits", least=0),
            clients_left_out=fields.whole("clients_left_out", least=0),
            **{name: _required(fields, name, source) for name in ("bytes_up", "bytes_down")},
            accuracy_per_tier=fields.named_numbers("accuracy_per_tier"),
            accuracy_per_class=fields.numbers("accuracy_per_class"),
            largest_submodel_accuracy=fields.number("largest_submodel_accuracy"),
        )
        fields.finish()
        return result


@dataclasses.dataclass(frozen=True)
class TimeToTarget:
    """How long a method took to the target accuracy, over seeds.

    Attributes:
      median: None where it is longer than the horizon.
      horizon: How long the runs were watched.
      reached: How many runs got there within the horizon.
      runs: How many runs there are.
      difference: Method minus reference, paired over common seeds; runs that did not get there count with the horizon. None
        for the reference itself, without a common seed, and for MACs, whose horizon is each method's own.
    """

    median: float | None
    horizon: float
    reached: int
    runs: int
    difference: Interval | None


@dataclasses.dataclass(frozen=True)
class MethodSummary:
    """One method over its seeds; differences are method minus reference, paired over the seeds that both have.

    Attributes:
      method: Its name.
      seeds: Those it ran with.
      final: Final accuracy.
      final_difference: Against the reference; None for the reference itself or without a common seed.
      area: Mean accuracy from time 0 to the end of the shortest run.
      area_difference: Against the reference.
      seconds, rounds, macs: Simulated seconds, rounds and MACs to the target; None without a target.
      macs_computed: Useful or not, mean over seeds.
      spent, wasted, idle: Shares of the MACs on offer, which add up to 1.
      deadline_hits: Share of client rounds that the deadline cut short.
      bytes_up, bytes_down: Mean over seeds.
      accuracy_per_tier: Mean over seeds.
      largest_submodel: Accuracy of the largest sub-model trained; None where the method doesn't nest models.
    """

    method: str
    seeds: tuple[int, ...]
    final: Interval
    final_difference: Interval | None
    area: Interval
    area_difference: Interval | None
    seconds: TimeToTarget | None
    rounds: TimeToTarget | None
    macs: TimeToTarget | None
    macs_computed: float
    spent: float
    wasted: float
    idle: float
    deadline_hits: float
    bytes_up: float
    bytes_down: float
    accuracy_per_tier: Mapping[str, float]
    largest_submodel: Interval | None


def summarise(
    results: Sequence[MethodResult], *, reference: str = "distreal", target: float | None = None, smooth: int = 1
) -> list[MethodSummary]:
    """One summary per method, in the order in which the methods first appear.

    Args:
      results: At least one, in any order; each (method, seed) once.
      reference: The method that the others are compared with; may be absent.
      target: Accuracy to reach; None: no times.
      smooth: How many evaluations in a row are averaged before they are compared with the target.

    Raises:
      InputError: No result, or the same method and seed twice.
    """
    if not results:
        raise InputError("there are no results to summarise; run at least one method with one seed")
    runs: dict[str, dict[int, MethodResult]] = {}
    for result in results:
        if result.seed in runs.setdefault(result.method, {}):
            raise InputError(f"{result.method} with seed {result.seed} is there twice; keep one of the two results")
        runs[result.method][result.seed] = result
    others = runs.get(reference, {})

    def difference(method: str, value: Callable[[MethodResult], float]) -> Interval | None:
        common = sorted(set(runs[method]) & set(others))
        if method == reference or not common:
            return None
        return paired_bootstrap([value(runs[method][seed]) for seed in common], [value(others[seed]) for seed in common])

    def to_target(method: str, axis: str) -> TimeToTarget | None:
        if target is None:
            return None
        # All methods are watched for the same time, but one that trains little is watched for few MACs: those are its own.
        watched = list(runs[method].values()) if axis == "macs" else results
        horizon = min(getattr(result, axis)[-1] for result in watched)

        def time(result: MethodResult) -> float | None:
            reached = time_to_target(getattr(result, axis), result.accuracies, target, smooth)
            return None if reached is None or reached > horizon else reached

        times = [time(result) for result in runs[method].values()]
        return TimeToTarget(
            median=median_time(times),
            horizon=horizon,
            reached=sum(time is not None for time in times),
            runs=len(times),
            difference=(
                difference(method, lambda result: restricted_times([time(result)], horizon)[0]) if axis != "macs" else None
            ),
        )

    horizon = min(result.times[-1] for result in results)

    def area(result: MethodResult) -> float:
        return area_under_curve(result.times, result.accuracies, horizon)

    summaries = []
    for method, by_seed in runs.items():
        ran = list(by_seed.values())
        work = np.sum([(result.macs_spent, result.macs_wasted, result.macs_idle) for result in ran], axis=0)
        spent, wasted, idle = (work / max(work.sum(), 1.0)).tolist()
        submodels = [r.largest_submodel_accuracy for r in ran if r.largest_submodel_accuracy is not None]
        summaries.append(
            MethodSummary(
                method=method,
                seeds=tuple(sorted(by_seed)),
                final=mean_interval([result.final for result in ran]),
                final_difference=difference(method, lambda result: result.final),
                area=mean_interval([area(result) for result in ran]),
                area_difference=difference(method, area),
                seconds=to_target(method, "times"),
                rounds=to_target(method, "rounds"),
                macs=to_target(method, "macs"),
                macs_computed=(work[0] + work[1]).item() / len(ran),
                spent=spent,
                wasted=wasted,
                idle=idle,
                deadline_hits=sum(r.deadline_hits for r in ran) / max(sum(r.client_rounds for r in ran), 1),
                bytes_up=float(np.mean([result.bytes_up for result in ran])),
                bytes_down=float(np.mean([result.bytes_down for result in ran])),
                accuracy_per_tier=_mean_per_tier(ran),
                largest_submodel=mean_interval(submodels) if submodels else None,
            )
        )
    return summaries


COLUMNS: dict[str, tuple[str, Callable[[MethodSummary], str]]] = {
    "final": ("final accuracy", lambda summary: level(summary.final)),
    "final_difference": ("against {reference}", lambda summary: _difference(summary, summary.final_difference)),
    "area": ("mean accuracy over time", lambda summary: level(summary.area)),
    "area_difference": ("mean accuracy over time, against {reference}", lambda s: _difference(s, s.area_difference)),
    "seconds": ("simulated time to {target} (s)", lambda summary: _to_target(summary.seconds, "{:,.4g}".format)),
    "rounds": ("rounds to {target}", lambda summary: _to_target(summary.rounds, "{:,.4g}".format)),
    "macs": ("MACs to {target}", lambda summary: _to_target(summary.macs, quantity)),
    "macs_computed": ("MACs computed", lambda summary: quantity(summary.macs_computed)),
    "spent": ("spent", lambda summary: f"{summary.spent:.0%}"),
    "wasted": ("wasted", lambda summary: f"{summary.wasted:.0%}"),
    "idle": ("idle", lambda summary: f"{summary.idle:.0%}"),
    "deadline_hits": ("cut by the deadline", lambda summary: f"{summary.deadline_hits:.0%}"),
    "bytes_up": ("up", lambda summary: quantity(summary.bytes_up) + "B"),
    "bytes_down": ("down", lambda summary: quantity(summary.bytes_down) + "B"),
    "tiers": ("accuracy per tier", lambda s: ", ".join(f"{n} {v:.3f}" for n, v in s.accuracy_per_tier.items()) or "–"),
    "largest_submodel": ("largest sub-model", lambda s: "–" if s.largest_submodel is None else level(s.largest_submodel)),
}
"""Columns of `comparison_table`: name -> heading, and how a summary's cell is written."""


def comparison_table(
    results: Sequence[MethodResult],
    *,
    columns: Sequence[str] = ("final", "final_difference", "seconds", "area", "spent", "wasted", "idle"),
    reference: str = "distreal",
    target: float | None = None,
    smooth: int = 1,
) -> str:
    """A Markdown table, a row per method in the order given, with intervals over seeds.

    Args:
      results: At least one.
      columns: Names from `COLUMNS`; those about the target are left out without one.
      reference: Whom the others are compared with.
      target: Accuracy to reach.
      smooth: As for `summarise`.

    Raises:
      InputError: An unknown column, or as `summarise`.
    """
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise InputError(f"unknown column {unknown[0]!r}; choose from: {', '.join(COLUMNS)}")
    shown = [name for name in columns if target is not None or "{target}" not in COLUMNS[name][0]]
    names = {"reference": reference, "target": "" if target is None else f"{target:.3g}"}
    rows = [["method", *(COLUMNS[name][0].format(**names) for name in shown), "seeds"]]
    for summary in summarise(results, reference=reference, target=target, smooth=smooth):
        cells = [COLUMNS[name][1](summary) for name in shown]
        rows.append([f"`{summary.method}`", *cells, str(len(summary.seeds))])
    return markdown_table(rows)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of texts, the first row its heading, columns padded so that it reads well as plain text too."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]) + "\n"


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
      heading: Its title.
      text: Paragraphs and tables, in Markdown.
      pictures: File of each picture, relative to the report -> what it shows, for those who can't see it.
    """

    heading: str
    text: str = ""
    pictures: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write_report(path: Path, title: str, *sections: Section) -> None:
    """Writes a report in Markdown.

    Raises:
      InputError: The file can't be written.
    """
    parts = [f"# {title}"]
    for section in sections:
        pictures = [f"![{what}]({file})" for file, what in section.pictures.items()]
        parts += [f"## {section.heading}", *([section.text.strip()] if section.text.strip() else []), *pictures]
    write_atomically(path, ("\n\n".join(parts) + "\n").encode())


def level(interval: Interval) -> str:
    """A level with the half width of its interval: `0.834 ± 0.006`; the mean alone with a single seed."""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} ± {(interval.high - interval.low) / 2:.3f}"


def signed(interval: Interval) -> str:
    """A difference with the ends of its interval: `+0.012 [+0.004, +0.020]`."""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:+.3f}"
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def quantity(value: float) -> str:
    """A large number with three digits and its SI prefix: `40.8 M`."""
    for exponent, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        # 999.6 would be shown as 1e+03 of the smaller unit
        if abs(value) >= 0.9995 * 10**exponent:
            return f"{value / 10**exponent:.3g} {prefix}"
    return f"{value:.3g} "


def _difference(summary: MethodSummary, interval: Interval | None) -> str:
    return "–" if interval is None else signed(interval)


def _to_target(time: TimeToTarget | None, number: Callable[[float], str]) -> str:
    if time is None:
        return "–"
    shown = f"> {number(time.horizon)}" if time.median is None else number(time.median)
    return shown if time.reached == time.runs else f"{shown} ({time.reached} of {time.runs})"


def _mean_per_tier(results: Sequence[MethodResult]) -> dict[str, float]:
    tiers = dict.fromkeys(tier for result in results for tier in result.accuracy_per_tier)
    return {
        tier: float(np.mean([result.accuracy_per_tier[tier] for result in results if tier in result.accuracy_per_tier]))
        for tier in tiers
    }


def _required(fields: Fields, name: str, source: str) -> float:
    value = fields.number(name)
    if value is None:
        raise InputError(f"{source}: {name} is null, expected a number; run the comparison again")
    return value
