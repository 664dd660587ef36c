"""Methods under the same load, each summarised over its seeds and compared with a reference in pairs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from distreal_jax.errors import InputError
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.statistics import (
    Interval,
    area_under_curve,
    mean_interval,
    median_time,
    paired_bootstrap,
    restricted_times,
    time_to_target,
)


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
    results: Sequence[MethodResult], *, reference: str | None = None, target: float | None = None, smooth: int = 1
) -> list[MethodSummary]:
    """One summary per method, in the order in which the methods first appear.

    Args:
      results: At least one, in any order; each (method, seed) once.
      reference: The method that the others are compared with; may be absent. None: `usual_reference`.
      target: Accuracy to reach; None: no times.
      smooth: How many evaluations in a row are averaged before they are compared with the target.

    Raises:
      InputError: No result, or the same method and seed twice.
    """
    runs = _Runs(results, reference or usual_reference(results))
    return [_summary(runs, method, target, smooth) for method in runs.of]


def usual_reference(results: Sequence[MethodResult]) -> str:
    """DISTREAL, or where it is absent the first method."""
    methods = [result.method for result in results]
    return methods[0] if methods and "distreal" not in methods else "distreal"


class _Runs:
    """Results by method and seed, one of the methods being the reference of the others."""

    def __init__(self, results: Sequence[MethodResult], reference: str) -> None:
        if not results:
            raise InputError("there are no results to summarise; run at least one method with one seed")
        self.of: dict[str, dict[int, MethodResult]] = {}
        for result in results:
            if result.seed in self.of.setdefault(result.method, {}):
                raise InputError(f"{result.method} with seed {result.seed} is there twice; keep one of the two results")
            self.of[result.method][result.seed] = result
        self._all, self._reference = results, reference

    def horizon(self, method: str, axis: str) -> float:
        """How long a method was watched: all of them for the same time, but one that trains little for its own few MACs."""
        watched = self.of[method].values() if axis == "macs" else self._all
        return min(getattr(result, axis)[-1] for result in watched)

    def difference(self, method: str, value: Callable[[MethodResult], float]) -> Interval | None:
        """Method minus reference, paired over the seeds of both; None for the reference, and without a common seed."""
        ran, others = self.of[method], self.of.get(self._reference, {})
        common = sorted(set(ran) & set(others))
        if method == self._reference or not common:
            return None
        return paired_bootstrap([value(ran[seed]) for seed in common], [value(others[seed]) for seed in common])


def _summary(runs: _Runs, method: str, target: float | None, smooth: int) -> MethodSummary:
    ran = list(runs.of[method].values())
    work = np.sum([(result.macs_spent, result.macs_wasted, result.macs_idle) for result in ran], axis=0)
    spent, wasted, idle = (work / max(work.sum(), 1.0)).tolist()
    submodels = [r.largest_submodel_accuracy for r in ran if r.largest_submodel_accuracy is not None]
    horizon = runs.horizon(method, "times")

    def area(result: MethodResult) -> float:
        return area_under_curve(result.times, result.accuracies, horizon)

    return MethodSummary(
        method=method,
        seeds=tuple(sorted(runs.of[method])),
        final=mean_interval([result.final for result in ran]),
        final_difference=runs.difference(method, lambda result: result.final),
        area=mean_interval([area(result) for result in ran]),
        area_difference=runs.difference(method, area),
        seconds=None if target is None else _time_to_target(runs, method, "times", target, smooth),
        rounds=None if target is None else _time_to_target(runs, method, "rounds", target, smooth),
        macs=None if target is None else _time_to_target(runs, method, "macs", target, smooth),
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


def _time_to_target(runs: _Runs, method: str, axis: str, target: float, smooth: int) -> TimeToTarget:
    horizon = runs.horizon(method, axis)

    def time(result: MethodResult) -> float | None:
        reached = time_to_target(getattr(result, axis), result.accuracies, target, smooth)
        return None if reached is None or reached > horizon else reached

    def restricted(result: MethodResult) -> float:
        return restricted_times([time(result)], horizon)[0]

    times = [time(result) for result in runs.of[method].values()]
    return TimeToTarget(
        median=median_time(times),
        horizon=horizon,
        reached=sum(time is not None for time in times),
        runs=len(times),
        difference=runs.difference(method, restricted) if axis != "macs" else None,
    )


def _mean_per_tier(results: Sequence[MethodResult]) -> dict[str, float]:
    tiers = dict.fromkeys(tier for result in results for tier in result.accuracy_per_tier)
    return {
        tier: float(np.mean([result.accuracy_per_tier[tier] for result in results if tier in result.accuracy_per_tier]))
        for tier in tiers
    }
