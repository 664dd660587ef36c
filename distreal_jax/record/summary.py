"""Methods under the same load, each summarised over its seeds and compared with a reference in pairs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from distreal_jax.errors import InputError
from distreal_jax.record.device_model import DeviceModel
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.statistics import (
    Interval,
    area_under_curve,
    holm,
    mean_interval,
    median_time,
    paired_difference,
    paired_p_value,
    restricted_times,
    time_to_target,
)

AXES: dict[str, Callable[[MethodResult, DeviceModel], tuple[float, ...]]] = {
    "seconds": lambda result, _: result.times,
    "rounds": lambda result, _: result.rounds,
    "macs": lambda result, _: result.macs,
    "bytes": lambda result, _: tuple(up + down for up, down in zip(result.bytes_up, result.bytes_down, strict=True)),
    "joules": lambda result, device: device.joules(result),
    "link_seconds": lambda result, device: device.link_seconds(result),
}
"""What a run's evaluations are counted along, [evaluations]: simulated seconds up to each deadline, rounds, MACs of all
devices, bytes up and down, energy, and seconds if a round ends when its last client has computed and sent."""
MEASURES = {"final": "final accuracy", "area": "mean accuracy over time"}
"""What methods are compared by and tuned for: name -> in words, of a task that is scored by accuracy."""


def measure_in_words(measure: str, score_name: str) -> str:
    """One of `MEASURES` of a task whose score has this name, such as `final R squared`."""
    return MEASURES[measure].replace("accuracy", score_name)


_COMMON_AXES = ("seconds", "rounds")  # along which all methods are watched as long


@dataclasses.dataclass(frozen=True)
class TimeToTarget:
    """How long a method took to the target accuracy, over seeds.

    Attributes:
      target: The accuracy.
      median: None where it is longer than the horizon.
      horizon: How long all runs were watched; where the axis is each method's own, the shortest of its runs.
      reached: How many runs got there, within the horizon where it is the same for all methods.
      runs: How many runs there are.
      difference: Method minus reference, paired over common seeds; runs that did not get there count with the horizon. None
        for the reference itself, without a common seed, and for axes whose horizon is each method's own.
    """

    target: float
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
      delivered: MACs of the model that it delivers, as a share of the full network's; mean over seeds.
      final: Final accuracy of that model.
      full: Final accuracy of the full network.
      final_difference: Against the reference; None for the reference itself or without a common seed.
      final_p: p of that difference, adjusted by Holm for all methods that are compared; None without an interval.
      area: Mean accuracy from time 0 to the end of the shortest run.
      area_difference: Against the reference.
      to_target: Axis of `AXES` -> how long to each target.
      macs_computed: Useful or not, mean over seeds.
      spent, wasted, idle: Shares of the MACs on offer, which add up to 1.
      deadline_hits: Share of client rounds that the deadline cut short.
      bytes_up, bytes_down: Mean over seeds.
      memory_bytes: Peak memory of a device, the largest over seeds.
      joules: Of all devices, by the model; mean over seeds.
      accuracy_per_tier: Mean over seeds.
    """

    method: str
    seeds: tuple[int, ...]
    delivered: float
    final: Interval
    full: Interval
    final_difference: Interval | None
    final_p: float | None
    area: Interval
    area_difference: Interval | None
    to_target: Mapping[str, tuple[TimeToTarget, ...]]
    macs_computed: float
    spent: float
    wasted: float
    idle: float
    deadline_hits: float
    bytes_up: float
    bytes_down: float
    memory_bytes: float
    joules: float
    accuracy_per_tier: Mapping[str, float]


def summarise(
    results: Sequence[MethodResult],
    *,
    reference: str | None = None,
    targets: Sequence[float] = (),
    smooth: int = 1,
    device: DeviceModel = DeviceModel(),
) -> list[MethodSummary]:
    """One summary per method, in the order in which the methods first appear.

    Args:
      results: At least one, in any order; each (method, seed) once.
      reference: The method that the others are compared with; may be absent. None: `usual_reference`.
      targets: Accuracies to reach.
      smooth: How many evaluations in a row are averaged before they are compared with a target.
      device: The model of energy and of links.

    Raises:
      InputError: No result, or the same method and seed twice.
    """
    runs = _Runs(results, reference or usual_reference(results), device)
    summaries = [_summary(runs, method, targets, smooth) for method in runs.of]
    adjusted = holm([summary.final_p for summary in summaries])
    return [dataclasses.replace(summary, final_p=p) for summary, p in zip(summaries, adjusted, strict=True)]


def usual_reference(results: Sequence[MethodResult]) -> str:
    """DISTREAL, or where it is absent the first method."""
    methods = [result.method for result in results]
    return methods[0] if methods and "distreal" not in methods else "distreal"


def scores(results: Sequence[MethodResult], measure: str) -> dict[str, dict[int, float]]:
    """A measure of every run that methods are compared by, method -> seed -> value.

    Args:
      results: At least one, in any order; each (method, seed) once.
      measure: `final`, the final accuracy of the delivered model, or `area`, its mean from time 0 to the end of the
        shortest run.

    Raises:
      InputError: As `summarise`, or another measure.
    """
    runs = _Runs(results, usual_reference(results), DeviceModel())
    measured = {"final": lambda result: result.final, "area": runs.area}
    if measure not in measured:
        raise InputError(f"unknown measure {measure!r}; choose from: {', '.join(measured)}")
    return {method: {seed: measured[measure](run) for seed, run in of.items()} for method, of in runs.of.items()}


class _Runs:
    """Results by method and seed, one of the methods being the reference of the others."""

    def __init__(self, results: Sequence[MethodResult], reference: str, device: DeviceModel) -> None:
        if not results:
            raise InputError("there are no results to summarise; run at least one method with one seed")
        self.of: dict[str, dict[int, MethodResult]] = {}
        for result in results:
            if result.seed in self.of.setdefault(result.method, {}):
                raise InputError(f"{result.method} with seed {result.seed} is there twice; keep one of the two results")
            self.of[result.method][result.seed] = result
        self._all, self._reference, self.device = results, reference, device

    def axis(self, result: MethodResult, axis: str) -> tuple[float, ...]:
        """A result's evaluations along an axis of `AXES`."""
        return AXES[axis](result, self.device)

    def horizon(self, method: str, axis: str) -> float:
        """How long a method was watched: all of them for the same time, but one that trains little for its own few MACs."""
        every = list(self._all if axis in _COMMON_AXES else self.of[method].values())
        # One that was stopped as it had diverged stays as bad as it was.
        watched = [result for result in every if result.divergence is None] or every
        return min(self.axis(result, axis)[-1] for result in watched)

    def area(self, result: MethodResult) -> float:
        """A run's mean accuracy from time 0 to the end of the shortest run."""
        return area_under_curve(result.times, result.accuracies, self.horizon(result.method, "seconds"))

    def pairs(self, method: str, value: Callable[[MethodResult], float]) -> tuple[list[float], list[float]] | None:
        """Of method and reference, for the seeds of both; None for the reference, and without a common seed."""
        ran, others = self.of[method], self.of.get(self._reference, {})
        common = sorted(set(ran) & set(others))
        if method == self._reference or not common:
            return None
        return [value(ran[seed]) for seed in common], [value(others[seed]) for seed in common]

    def difference(self, method: str, value: Callable[[MethodResult], float]) -> Interval | None:
        """Method minus reference, as `pairs`."""
        pairs = self.pairs(method, value)
        return None if pairs is None else paired_difference(*pairs)


def _summary(runs: _Runs, method: str, targets: Sequence[float], smooth: int) -> MethodSummary:
    ran = list(runs.of[method].values())
    work = np.sum([(result.macs_spent, result.macs_wasted, result.macs_idle) for result in ran], axis=0)
    spent, wasted, idle = (work / max(work.sum(), 1.0)).tolist()
    finals = runs.pairs(method, lambda result: result.final)
    return MethodSummary(
        method=method,
        seeds=tuple(sorted(runs.of[method])),
        delivered=float(np.mean([result.delivered for result in ran])),
        final=mean_interval([result.final for result in ran]),
        full=mean_interval([result.full for result in ran]),
        final_difference=runs.difference(method, lambda result: result.final),
        final_p=None if finals is None else paired_p_value(*finals),
        area=mean_interval([runs.area(result) for result in ran]),
        area_difference=runs.difference(method, runs.area),
        to_target={axis: tuple(_time_to_target(runs, method, axis, target, smooth) for target in targets) for axis in AXES},
        macs_computed=(work[0] + work[1]).item() / len(ran),
        spent=spent,
        wasted=wasted,
        idle=idle,
        deadline_hits=sum(r.deadline_hits for r in ran) / max(sum(r.client_rounds for r in ran), 1),
        bytes_up=float(np.mean([result.bytes_up[-1] for result in ran])),
        bytes_down=float(np.mean([result.bytes_down[-1] for result in ran])),
        memory_bytes=max(result.memory_bytes for result in ran),
        joules=float(np.mean([runs.axis(result, "joules")[-1] for result in ran])),
        accuracy_per_tier=_mean_per_tier(ran),
    )


def _time_to_target(runs: _Runs, method: str, axis: str, target: float, smooth: int) -> TimeToTarget:
    horizon = runs.horizon(method, axis)

    def time(result: MethodResult) -> float | None:
        reached = time_to_target(runs.axis(result, axis), result.accuracies, target, smooth)
        beyond = axis in _COMMON_AXES and reached is not None and reached > horizon  # watched no longer than the others
        return None if beyond else reached

    def restricted(result: MethodResult) -> float:
        return restricted_times([time(result)], horizon)[0]

    times = [time(result) for result in runs.of[method].values()]
    return TimeToTarget(
        target=target,
        median=median_time(times),
        horizon=horizon,
        reached=sum(time is not None for time in times),
        runs=len(times),
        difference=runs.difference(method, restricted) if axis in _COMMON_AXES else None,
    )


def _mean_per_tier(results: Sequence[MethodResult]) -> dict[str, float]:
    tiers = dict.fromkeys(tier for result in results for tier in result.accuracy_per_tier)
    return {
        tier: float(np.mean([result.accuracy_per_tier[tier] for result in results if tier in result.accuracy_per_tier]))
        for tier in tiers
    }
