"""Claims about Pareto fronts and hypervolumes, against hand-counted areas, brute force and DEAP."""

import types

import hypothesis
import numpy as np
import pytest
from deap import base
from deap.benchmarks.tools import hypervolume as deap_hypervolume
from hypothesis import strategies as st

from distreal_jax.errors import InputError
from distreal_jax.search.front import area_below, best_points, front_to_full, hypervolume, pareto_front, thinned

# few different values, so that ties in one objective or both are common
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def _dominates(one, other):
    return one != other and one[0] <= other[0] and one[1] >= other[1]


@hypothesis.given(POINTS)
def test_the_front_is_what_nothing_dominates_once_each_in_order(points):
    front = pareto_front([cost for cost, _ in points], [progress for _, progress in points])
    assert {points[i] for i in front} == {p for p in points if not any(_dominates(other, p) for other in points)}
    assert (np.diff([points[i][0] for i in front]) > 0).all() and (np.diff([points[i][1] for i in front]) > 0).all()


def test_of_equal_points_the_first_given_stands():
    assert pareto_front([2, 1, 1, 2], [5, 3, 3, 5]).tolist() == [1, 0]


def test_a_front_of_nothing_is_empty():
    assert pareto_front([], []).tolist() == []
    assert hypervolume([], [], (1, 0)) == 0


def test_what_is_no_number_is_on_no_front():
    with pytest.raises(InputError, match="NaN"):
        pareto_front([1, np.nan], [1, 1])


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([(0.25, 2.0)], 0.75 * 2),
        ([(0.25, 2.0), (0.5, 3.0)], 0.25 * 2 + 0.5 * 3),
        ([(0.5, 3.0), (0.25, 2.0), (0.5, 1.0), (0.25, 2.0)], 0.25 * 2 + 0.5 * 3),
        ([(1.0, 9.0), (1.5, 9.0), (0.25, 0.0), (0.25, -1.0)], 0.0),
        ([(0.0, 1.0), (1.0, 9.0)], 1.0),
    ],
)
def test_hypervolumes_are_the_areas_counted_by_hand(points, area):
    assert hypervolume([cost for cost, _ in points], [progress for _, progress in points], (1.0, 0.0)) == area


@hypothesis.given(POINTS.filter(bool))
def test_the_hypervolume_counts_the_unit_squares_that_a_point_dominates(points):
    corners = [(x, y + 1) for x in range(7) for y in range(7)]
    squares = [(x, y) for x, y in corners if any(cost <= x and progress >= y for cost, progress in points)]
    assert hypervolume([cost for cost, _ in points], [progress for _, progress in points], (7, 0)) == len(squares)


@hypothesis.given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_hypervolume_is_that_of_deap(points):
    class Fitness(base.Fitness):
        weights = (-1.0, 1.0)

    individuals = [types.SimpleNamespace(fitness=Fitness(point)) for point in points]
    expected = deap_hypervolume(individuals, ref=np.array([1.5, 0.5]))  # progress is maximised: 0.5 stands for -0.5
    assert hypervolume([cost for cost, _ in points], [gain for _, gain in points], (1.5, -0.5)) == pytest.approx(expected)


def test_thinning_keeps_the_ends_and_gives_up_the_least_area_first():
    costs, progress = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 3.0, 4.0, 5.0])
    assert thinned(costs, progress, 4).tolist() == [0, 1, 2, 3]
    assert thinned(costs, progress, 3).tolist() == [0, 1, 3]  # the second is worth 3, the third 1
    assert thinned(costs, progress, 2).tolist() == [0, 3]


@hypothesis.given(POINTS, st.integers(1, 8))
def test_the_best_points_are_front_after_front_and_none_twice(points, count):
    costs, progress = [cost for cost, _ in points], [gain for _, gain in points]
    best = best_points(costs, progress, count).tolist()
    assert len(best) == len(set(best)) == min(count, len(points))
    front = set(pareto_front(costs, progress).tolist())
    assert front <= set(best) if len(front) <= count else set(best) <= front


COSTS = [0.1, 0.5, 0.8, 1.0]


def _independent(stderr):
    return stderr**2 * np.eye(4)


def test_a_front_ends_in_the_full_network():
    assert front_to_full(COSTS, np.array([1, 2, 1, 3.0]), _independent(0.0), full=3).tolist() == [0, 1, 3]


def test_vectors_that_beat_the_full_network_by_less_than_the_noise_leave_the_front_to_it():
    assert front_to_full(COSTS, np.array([1, 2, 3.1, 3]), _independent(0.5), full=3).tolist() == [0, 1, 3]


def test_a_full_network_that_is_clearly_beaten_is_not_on_the_front():
    assert front_to_full(COSTS, np.array([1, 2, 9, 3.0]), _independent(0.5), full=3).tolist() == [0, 1, 2]


def test_what_two_estimates_do_not_know_together_does_not_count_between_them():
    together = _independent(0.01) + 1.0  # all of them may be off by 1, in common
    assert front_to_full(COSTS, np.array([1, 2, 3.1, 3]), together, full=3).tolist() == [0, 1, 2]


def test_the_area_below_a_table_is_worked_out_by_hand():
    assert area_below([0.5, 0.25], [0.4, 0.3], (1.0, 0.1)) == pytest.approx(0.25 * 0.2 + 0.5 * 0.3)
    assert area_below([0.25, 0.5, 1.0], [0.3, 0.2, 9.0], (1.0, 0.1)) == pytest.approx(0.25 * 0.2 + 0.5 * 0.1)
    assert area_below([0.5, 2.0], [0.3, 9.0], (1.0, 0.0)) == pytest.approx(0.15)


@hypothesis.given(POINTS.filter(bool))
def test_of_a_front_the_area_below_is_the_hypervolume(points):
    costs, progress = np.array(points, float).T
    front = pareto_front(costs, progress)
    reference = (7.0, progress.min())
    assert area_below(costs[front], progress[front], reference) == pytest.approx(
        hypervolume(costs[front], progress[front], reference)
    )
