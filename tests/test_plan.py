"""The plan of a round: exact time, what each method decides and uploads, and no work that is not accounted for."""

import dataclasses
import math
from fractions import Fraction
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from distreal_jax.availability import Segments, make_availability
from distreal_jax.availability.history import expected_of_fleet
from distreal_jax.errors import InputError
from distreal_jax.methods import METHODS, Method, method_named
from distreal_jax.plan import MOST_MORE, RoundPlan, plan_round, planned_steps


@dataclasses.dataclass(frozen=True)
class Given:
    """The same load for every device: `values` from `times` on."""

    times: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def minimum(self) -> float:
        return min(self.values)

    def during(self, round_index: int, devices: np.ndarray) -> Segments:
        return Segments(
            times=np.tile(np.array([*self.times, 1.0]), (len(devices), 1)),
            values=np.tile(np.array(self.values), (len(devices), 1)),
        )


def plan(name: str, costs: list[float], load: Given, steps: int) -> RoundPlan:
    return plan_round(method_named(name), np.array(costs), load, np.array([0]), round_index=0, steps=steps, seed=0)


def works(planned: RoundPlan) -> list[float]:
    parts = (planned.work_offered, planned.work_spent, planned.work_wasted, planned.work_idle)
    return [pytest.approx(float(part[0])) for part in parts]


OTHERS = (
    "distreal[pace=remaining]",
    "adaptive_batch[pace=present]",
    "distreal[idle=train]",
    "adaptive_batch[idle=train]",
    "heterofl[idle=train,unfinished=discard]",
    "small_network[idle=train]",
)
EVERY_METHOD = [*METHODS.values(), *map(method_named, OTHERS)]
RISING = Given((0.0, 0.25), (0.5, 1.0))
FALLING = Given((0.0, 0.25), (1.0, 0.5))


def test_availability_that_rises_inside_a_mini_batch_ends_it_earlier() -> None:
    # 4 steps: 2 mini-batches a round until 0.25, which is half a mini-batch; then 4 a round.
    planned = plan("partial_work", [1.0], RISING, steps=4)
    np.testing.assert_allclose(planned.finish_times, [[0.375, 0.625, 0.875, np.inf]])
    np.testing.assert_array_equal(planned.entries, [[0, 0, 0, -1]])
    assert planned.steps_done.tolist() == [3] and planned.deadline_hits.tolist() == planned.uploads.tolist() == [True]
    assert works(planned) == [3.5, 3.0, 0.5, 0.0]


def test_distreal_decides_anew_before_each_mini_batch() -> None:
    # At 0 half a mini-batch is affordable, and ends at 0.25 just as the availability rises; then all are full.
    planned = plan("distreal", [0.25, 0.5, 1.0], RISING, steps=4)
    np.testing.assert_allclose(planned.finish_times, [[0.25, 0.5, 0.75, 1.0]])
    np.testing.assert_array_equal(planned.entries, [[1, 2, 2, 2]])
    assert not planned.deadline_hits[0] and works(planned) == [3.5, 3.5, 0.0, 0.0]


def test_distreal_takes_the_cheapest_entry_when_none_fits() -> None:
    # 1 mini-batch of work in the round, each entry costs 0.4 at least: two are done, half of the third is lost.
    planned = plan("distreal", [0.4, 0.9], Given((0.0,), (0.1,)), steps=10)
    np.testing.assert_allclose(planned.finish_times[0, :3], [0.4, 0.8, np.inf])
    np.testing.assert_array_equal(planned.entries, [[0, 0] + [-1] * 8])
    assert works(planned) == [1.0, 0.8, 0.2, 0.0]


def test_a_device_that_finishes_nothing_uploads_nothing() -> None:
    planned = plan("distreal", [0.4, 0.9], Given((0.0,), (0.03,)), steps=10)
    assert not planned.uploads[0] and planned.deadline_hits[0] and planned.steps_done[0] == 0
    assert works(planned) == [0.3, 0.0, 0.3, 0.0]


def test_a_straggler_is_dropped_with_all_its_work() -> None:
    planned = plan("drop_stragglers", [1.0], Given((0.0,), (0.5,)), steps=4)
    np.testing.assert_allclose(planned.finish_times, [[0.5, 1.0, np.inf, np.inf]])
    np.testing.assert_array_equal(planned.entries, [[-1, -1, -1, -1]])
    assert planned.steps_done.tolist() == [2] and not planned.uploads[0]
    assert works(planned) == [2.0, 0.0, 2.0, 0.0]


def test_a_method_that_decides_once_a_round_is_late_when_the_load_rises_after() -> None:
    late = plan("heterofl[unfinished=discard]", [0.25, 1.0], FALLING, steps=4)  # 1 by 0.25, then 2 a round: 2.5 in all
    assert late.steps_done.tolist() == [2] and not late.uploads[0] and works(late) == [2.5, 0.0, 2.5, 0.0]
    early = plan("heterofl", [0.25, 1.0], RISING, steps=4)  # it stays with the quarter that it could afford at first
    np.testing.assert_array_equal(early.entries, [[0, 0, 0, 0]])
    np.testing.assert_allclose(early.finish_times, [[0.125, 0.25, 0.3125, 0.375]])
    assert early.uploads[0] and works(early) == [3.5, 1.0, 0.0, 2.5]


def test_the_small_network_fits_the_weakest_availability_there_is() -> None:
    planned = plan("small_network", [0.25, 0.5, 1.0], FALLING, steps=4)
    np.testing.assert_array_equal(planned.entries, [[1, 1, 1, 1]])
    assert planned.uploads[0]


def test_a_device_that_may_use_idle_time_trains_until_the_deadline() -> None:
    # A quarter ends each 1/16 of the round before 0.25 and each 1/8 after: 2 + 1.5 of work is 14 quarters in full speed.
    planned = plan("small_network[idle=train]", [0.25], RISING, steps=4)
    assert planned.entries.shape == (1, 16) and planned.steps_done.tolist() == [14]
    assert not planned.deadline_hits[0] and planned.uploads[0] and works(planned) == [3.5, 3.5, 0.0, 0.0]
    assert planned_steps(METHODS["full_resources"], [1.0], 4) == 4
    assert planned_steps(method_named("small_network[idle=train]"), [0.01], 4) == 4 * MOST_MORE


class Waves:
    """Devices of constant availability within a round, that of device 1 rising from round to round."""

    minimum = 0.1

    def during(self, round_index: int, devices: np.ndarray) -> Segments:
        values = np.where(devices == 1, 0.1 + 0.08 * round_index, 0.5)
        return Segments(times=np.tile([0.0, 1.0], (len(devices), 1)), values=values[:, None])


def test_a_cap_goes_by_the_present_or_by_a_devices_own_past() -> None:
    costs = np.arange(1, 11) / 10

    def caps(policy: str, round_index: int) -> list[int]:
        method = method_named(f"heterofl[cap={policy}]")
        return plan_round(method, costs, Waves(), [0, 1], round_index=round_index, steps=2, seed=0).caps.tolist()

    assert caps("present", 5) == [4, 4]  # 0.5 both
    assert caps("mean", 5) == [4, 1]  # of 0.1, 0.18, 0.26, 0.34, 0.42: 0.26
    assert caps("quartile", 5) == [4, 0]  # 0.18
    assert caps("mean", 0) == caps("present", 0) == [4, 0]  # there is no past yet


def test_one_width_for_all_goes_by_the_least_or_by_the_fleet() -> None:
    load = make_availability("tiers:1,0.5,0.2,0.1", seed=0, num_devices=40)
    devices = np.arange(40)
    assert [expected_of_fleet(policy, load, devices) for policy in ("present", "mean", "quartile")] == pytest.approx(
        [0.1, 0.45, 0.175]
    )


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_full_resources_just_fit_into_the_round(steps: int) -> None:
    planned = plan("full_resources", [1.0], Given((0.0,), (0.01,)), steps)
    np.testing.assert_allclose(planned.finish_times[0], np.arange(1, steps + 1) / steps)
    assert planned.uploads[0] and not planned.deadline_hits[0] and works(planned) == [steps, steps, 0, 0]


@pytest.mark.parametrize("steps", [3, 10, 333])
def test_a_mini_batch_that_ends_at_the_deadline_counts_in_spite_of_rounding(steps: int) -> None:
    times = tuple(np.arange(30) / 30)
    planned = plan("heterofl", [0.1, 1.0], Given(times, (0.1,) * 30), steps)
    assert planned.uploads[0] and planned.steps_done[0] == steps and planned.finish_times[0, -1] == pytest.approx(1.0)


def test_pace_remaining_spends_what_earlier_mini_batches_left_over() -> None:
    half = Given((0.0,), (0.5,))  # a quarter ends at 0.25; 0.75 mini-batches of work are left for the one that is left
    frugal, thorough = (plan(f"distreal[pace={pace}]", [0.25, 0.75], half, steps=2) for pace in ("present", "remaining"))
    np.testing.assert_array_equal(frugal.entries, [[0, 0]])
    assert works(frugal) == [1.0, 0.5, 0.0, 0.5]
    np.testing.assert_array_equal(thorough.entries, [[0, 1]])
    np.testing.assert_allclose(thorough.finish_times, [[0.25, 1.0]])
    assert works(thorough) == [1.0, 1.0, 0.0, 0.0]


def test_fjord_draws_each_steps_entry_uniformly_at_or_below_the_cap() -> None:
    costs, clients = [0.1, 0.2, 0.3, 1.0], np.arange(500)
    planned = plan_round(METHODS["fjord"], costs, Given((0.0,), (0.3,)), clients, round_index=3, steps=12, seed=0)
    assert planned.uploads.all()
    shares = np.bincount(planned.entries.ravel(), minlength=4) / planned.entries.size
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 1 / 3, 0], atol=5 * np.sqrt(2 / 9 / planned.entries.size))
    again = plan_round(METHODS["fjord"], costs, Given((0.0,), (0.3,)), clients[7:8], round_index=3, steps=12, seed=0)
    np.testing.assert_array_equal(again.entries[0], planned.entries[7])
    other = plan_round(METHODS["fjord"], costs, Given((0.0,), (0.3,)), clients, round_index=4, steps=12, seed=0)
    assert np.mean(other.entries == planned.entries) < 0.4


def test_plans_depend_neither_on_the_other_clients_nor_on_their_order() -> None:
    availability = make_availability("redrawn:0.05,1,3", seed=2, num_devices=100)
    clients = np.random.default_rng(0).permutation(100)[:20]
    for method in METHODS.values():
        costs = [1.0] if method.rates == "full" else [0.05, 0.2, 0.5, 1.0]
        together = plan_round(method, costs, availability, clients, round_index=5, steps=10, seed=2)
        for row in (0, 13):
            alone = plan_round(method, costs, availability, clients[row : row + 1], round_index=5, steps=10, seed=2)
            for field in dataclasses.fields(RoundPlan):
                np.testing.assert_array_equal(getattr(alone, field.name)[0], getattr(together, field.name)[row])


def test_all_methods_meet_the_same_world() -> None:
    availability = make_availability("redrawn:0.05,1,3", seed=2, num_devices=100)
    offered = []
    for method in METHODS.values():
        if method.limited:
            costs = [1.0] if method.rates == "full" else [0.05, 0.2, 0.5, 1.0]
            offered.append(
                plan_round(method, costs, availability, np.arange(50), round_index=5, steps=10, seed=2).work_offered
            )
    for other in offered[1:]:
        np.testing.assert_array_equal(offered[0], other)


@strategies.composite
def rounds(draw: strategies.DrawFn) -> tuple[Method, list[Fraction], list[Fraction], list[Fraction], int]:
    """A method, its entries' costs, a load (times and values) and the steps, all in small fractions."""
    grid = strategies.integers(1, 24).map(lambda part: Fraction(part, 24))
    costs = draw(strategies.lists(grid, min_size=1, max_size=5, unique=True).map(sorted))
    changes = draw(strategies.lists(strategies.integers(1, 39), max_size=6, unique=True).map(sorted))
    values = draw(strategies.lists(grid, min_size=len(changes) + 1, max_size=len(changes) + 1))
    method = draw(strategies.sampled_from([method for method in EVERY_METHOD if not method.below_cap]))
    times = [Fraction(0), *(Fraction(change, 40) for change in changes)]
    return method, costs, times, values, draw(strategies.integers(1, 9))


def exact_plan(
    method: Method, costs: list[Fraction], times: list[Fraction], values: list[Fraction], steps: int
) -> tuple[list[int], list[Fraction], Fraction]:
    """The reference, to be read: one client, one segment after the other, in exact fractions.

    Returns the entries that are done by the deadline, when they end, and the work offered.
    """
    if not method.limited:
        times, values = [Fraction(0)], [Fraction(1)]
    ends = [*times[1:], Fraction(1)]

    def worked_until(now: Fraction, left: Fraction) -> tuple[Fraction, Fraction]:
        for value, end in zip(values, ends, strict=True):
            if end > now and left > 0:
                worked = min(left, value * steps * (end - now))
                now, left = now + worked / (value * steps), left - worked
        return now, left

    now, done, finished = Fraction(0), [], []
    most = steps if method.idle == "wait" else steps * min(MOST_MORE, math.ceil(1 / costs[0]))
    while len(done) < most:
        present = next(value for value, end in zip(values, ends, strict=True) if end > now) if now < 1 else Fraction(0)
        share = Fraction(1) if method.pace == "present" else steps * (1 - now) / max(steps - len(done), 1)
        budget = {"step": present * share, "round": values[0], "never": min(values)}[method.decided]
        entry = max((index for index, cost in enumerate(costs) if cost <= budget), default=0)
        if method.unfinished == "layers":
            entry = len(costs) - 1
        begin, (now, left) = now, worked_until(now, costs[entry])
        if left > 0:
            fitting = [index for index, cost in enumerate(costs) if cost <= costs[entry] - left]
            if method.unfinished == "layers" and fitting:
                done.append(fitting[-1])
                finished.append(worked_until(begin, costs[fitting[-1]])[0])
            break
        done.append(entry)
        finished.append(now)
    offered = sum((value * steps * (end - time) for time, end, value in zip(times, ends, values, strict=True)), Fraction(0))
    return done, finished, offered


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(rounds())
def test_plan_equals_the_exact_reference_and_accounts_for_all_work(
    case: tuple[Method, list[Fraction], list[Fraction], list[Fraction], int],
) -> None:
    method, costs, times, values, steps = case
    done, finished, offered = exact_plan(*case)
    load = Given(tuple(map(float, times)), tuple(map(float, values)))
    as_floats = np.array(costs, dtype=np.float64)
    planned = plan_round(method, as_floats, load, np.array([0]), round_index=0, steps=steps, seed=0)

    assert planned.steps_done[0] == len(done)
    np.testing.assert_allclose(planned.finish_times[0, : len(done)], np.array(finished, dtype=np.float64), atol=1e-8)
    assert np.all(np.isinf(planned.finish_times[0, len(done) :]))
    cut = method.unfinished == "layers" and len(done) > 0 and done[-1] < len(costs) - 1
    assert planned.deadline_hits[0] == (len(done) < steps or cut)
    assert planned.uploads[0] == (len(done) >= steps if method.unfinished == "discard" else len(done) > 0)
    counted = done if planned.uploads[0] else []
    columns = planned.entries.shape[1]
    assert planned.entries[0].tolist() == counted + [-1] * (columns - len(counted))

    spent = float(sum(costs[entry] for entry in counted))
    assert planned.work_offered[0] == pytest.approx(float(offered))
    assert planned.work_spent[0] == pytest.approx(spent)
    assert planned.work_spent[0] + planned.work_wasted[0] + planned.work_idle[0] == pytest.approx(float(offered), rel=1e-12)
    cut = len(done) < columns or cut
    assert (planned.work_wasted[0] if cut else planned.work_idle[0]) == pytest.approx(float(offered) - spent)
    assert (planned.work_idle[0] if cut else planned.work_wasted[0]) == 0
    assert planned.last_finish == pytest.approx(1.0 if cut else float(finished[-1]))


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(
    rate=strategies.sampled_from([0.05, 1.0, 30.0]),
    method=strategies.sampled_from(EVERY_METHOD),
    steps=strategies.integers(1, 30),
    seed=strategies.integers(0, 1000),
)
def test_work_spent_wasted_and_idle_is_work_offered_under_random_load(
    rate: float, method: Method, steps: int, seed: int
) -> None:
    availability = make_availability(f"redrawn:0.02,1,{rate}", seed=seed, num_devices=40)
    costs = np.array([0.03, 0.11, 0.5, 1.0])
    planned = plan_round(method, costs, availability, np.arange(40), round_index=4, steps=steps, seed=seed)
    parts = np.stack([planned.work_spent, planned.work_wasted, planned.work_idle])
    assert np.all(parts >= 0)
    np.testing.assert_allclose(parts.sum(axis=0), planned.work_offered, rtol=1e-12)
    run = planned.entries >= 0
    np.testing.assert_allclose(np.where(run, costs[planned.entries], 0).sum(axis=1), planned.work_spent, atol=1e-8)
    assert np.all(run[:, :-1] >= run[:, 1:])  # no gaps
    assert np.all(planned.entries.max(axis=1) <= planned.caps)
    ended = np.where(np.isinf(planned.finish_times), 2.0, planned.finish_times)
    assert np.all(np.diff(ended, axis=1) >= 0) and np.all(planned.finish_times[run] <= 1)


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ([], "at least one"),
        ([[0.5, 1.0]], "shape (1, 2)"),
        ([0.5, 0.5], "do not ascend"),
        ([1.0, 0.5], "do not ascend"),
        ([0.0, 1.0], "cost 0 is no number above 0"),
        ([float("nan")], "cost nan is no number above 0"),
    ],
)
def test_costs_that_make_no_sense_are_refused(costs: list[float], said: str) -> None:
    with pytest.raises(InputError) as error:
        plan("distreal", costs, RISING, steps=4)
    assert said in str(error.value)


def test_a_round_needs_a_mini_batch() -> None:
    with pytest.raises(InputError, match="0 mini-batches"):
        plan("distreal", [1.0], RISING, steps=0)


def test_what_the_deadline_leaves_of_a_mini_batch_is_one_with_frozen_layers() -> None:
    """Half of three full mini-batches: one, and of the second the half in which the last layers' gradients come."""
    planned = plan("salf", [0.4, 0.6, 1.0], Given((0.0,), (0.5,)), 3)
    assert planned.entries.tolist() == [[2, 0, -1]] and planned.steps_done.tolist() == [2]
    assert planned.deadline_hits.tolist() == [True] and planned.uploads.tolist() == [True]
    assert works(planned) == [1.5, 1.4, 0.1, 0.0]  # what it computed of the next layer's gradient is lost
    np.testing.assert_allclose(planned.work, [[1.0, 0.4, 0.0]])
    # Nothing fits into a third of a mini-batch: what was begun is lost.
    assert works(plan("salf", [0.4, 0.6, 1.0], Given((0.0,), (0.44,)), 3)) == [1.32, 1.0, 0.32, 0.0]
    assert plan("salf", [0.4, 1.0], Given((0.0,), (1.0,)), 3).entries.tolist() == [[1, 1, 1]]


def test_a_device_may_choose_what_promises_the_most_by_the_deadline() -> None:
    method, costs = method_named("distreal[pace=progress]"), np.array([0.1, 0.5, 1.0])

    def planned(progress: list[float], available: float, method: Method = method, **given: Any) -> RoundPlan:
        load, device = Given((0.0,), (available,)), np.array([0])
        return plan_round(method, costs, load, device, round_index=0, steps=4, seed=0, progress=progress, **given)

    def entries(progress: list[float], available: float, method: Method = method) -> list[int]:
        return planned(progress, available, method).entries[0].tolist()

    # Whoever trains in idle time is not held back by the steps of a round: twenty of a tenth promise more than two full
    # ones, by the square root of how many there are.
    idle = method_named("distreal[pace=progress,idle=train]")
    assert entries([1, 1.9, 3.1], 0.5, idle) == [0] * 20 + [-1] * 20
    assert entries([1, 1.9, 3.2], 0.5, idle)[:2] == [2, 2]
    # Two full mini-batches, four of half the cost, or four of a tenth: by progress, and never more than there are steps.
    assert entries([0.1, 0.3, 1.0], 0.5) == [2, 2, -1, -1]
    assert entries([0.1, 0.8, 1.0], 0.5) == [1, 1, 1, 1]
    assert entries([0.9, 0.9, 1.0], 0.5)[:2] == [0, 0]  # what is left then is enough for a full one
    assert entries([0.1, 0.3, 1.0], 0.02) == [-1, -1, -1, -1]  # nothing fits: the cheapest is begun
    assert planned([1, 2, 3], 0.02).begun.tolist() == [[0, -1, -1, -1]]
    # `best` takes the entry with the most progress of which one still fits, however many there are of others.
    best = method_named("distreal[pace=best,idle=train]")
    assert entries([1, 1.9, 2], 0.65, best) == [2, 2, 1, 0] + [-1] * 36
    assert entries([1, 2, 1.9], 0.65, best) == [1, 1, 1, 1, 1, 0] + [-1] * 34


@pytest.mark.parametrize("pace", ["progress", "best"])
def test_a_device_rather_waits_than_trains_what_does_no_measurable_progress(pace: str) -> None:
    def planned(available: float, stderr: list[float] | None, **choices: Any) -> RoundPlan:
        method = dataclasses.replace(METHODS["distreal"], idle="train", pace=pace, **choices)
        given = {"round_index": 0, "steps": 4, "seed": 0, "progress": [0.03, 0.3, 1.0], "progress_stderr": stderr}
        load = Given((0.0,), (available,))
        return plan_round(method, np.array([0.1, 0.5, 1.0]), load, np.array([0]), **given)  # type: ignore[arg-type]

    known = planned(0.65, None)  # 2.6 full mini-batches
    assert known.entries.tolist() == [[2, 2, 1, 0] + [-1] * 36]
    waiting = planned(0.65, [0.02, 0.02, 0.02])
    assert waiting.entries.tolist() == [[2, 2, 1] + [-1] * 37] and waiting.uploads.all()
    np.testing.assert_allclose([waiting.work_spent, waiting.work_idle, waiting.work_wasted], [[2.5], [0.1], [0.0]])
    assert not waiting.deadline_hits.any() and waiting.begun.tolist() == waiting.entries.tolist()
    # With idle=wait, the round of a device that waits ends with its last mini-batch.
    method = dataclasses.replace(METHODS["distreal"], pace=pace)
    arguments = np.array([0.1, 0.5, 1.0]), Given((0.0,), (0.65,)), np.array([0])
    told: Any = {"progress": [0.03, 0.3, 1.0], "progress_stderr": [0.02] * 3}
    ended = plan_round(method, *arguments, round_index=0, steps=4, seed=0, **told)
    assert ended.entries.tolist() == [[2, 2, 1, -1]] and ended.last_finish == pytest.approx(2.5 / 2.6)
    # It is no failure either where a device that fails uploads nothing.
    assert planned(0.65, [0.02] * 3, unfinished="discard").entries.tolist() == waiting.entries.tolist()
    # It looks again when its speed changes: at a hundredth nothing measurable fits, afterwards all of it does.
    load = Given((0.0, 0.2, 0.3), (0.5, 0.01, 1.0))
    method = dataclasses.replace(METHODS["distreal"], idle="train", pace=pace)
    given: Any = {"round_index": 0, "seed": 0, "progress": [0.03, 0.3, 1.0], "progress_stderr": [0.02] * 3}
    dip = plan_round(method, np.array([0.1, 0.5, 1.0]), load, np.array([0]), steps=10, **given)
    assert dip.entries[0, :8].tolist() == [2] * 8 and dip.last_finish == 1.0
    np.testing.assert_allclose([dip.work_spent, dip.work_idle, dip.work_wasted], [[8.0], [0.01], [0.0]], atol=1e-9)
    # A schedule that forbids what is measurable leaves what can be done.
    first_rounds = plan_round(
        method, np.array([0.1, 0.5, 1.0]), Given((0.0,), (0.3,)), np.array([0]), most=0, steps=4, **given
    )
    assert first_rounds.entries.tolist() == [[0] * 12 + [-1] * 28]
    # A device that can do nothing else does what it can.
    poor = planned(0.08, [0.02, 0.02, 0.02])
    assert poor.entries.tolist() == [[0, 0, 0] + [-1] * 37]
    np.testing.assert_allclose([poor.work_spent, poor.work_idle, poor.work_wasted], [[0.3], [0.0], [0.02]])


def test_a_schedule_bounds_the_entries_of_a_round_or_names_the_only_one() -> None:
    full = Given((0.0,), (1.0,))
    arguments = np.array([0.2, 0.5, 1.0]), full, np.array([0])
    for most in range(3):
        planned = plan_round(METHODS["fedgmr"], *arguments, round_index=0, steps=2, seed=0, most=most)
        assert planned.caps.tolist() == [most] and planned.entries.tolist() == [[most, most]]
    assert plan_round(METHODS["slt"], *arguments, round_index=0, steps=2, seed=0, only=1).entries.tolist() == [[1, 1]]
    step = plan_round(METHODS["distreal"], *arguments, round_index=0, steps=2, seed=0, most=0)
    assert step.entries.tolist() == [[0, 0]]
