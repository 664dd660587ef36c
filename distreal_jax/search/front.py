"""What is compared in a search: Pareto fronts of cost and progress, and the area that a front dominates."""

from collections.abc import Sequence

import numpy as np
from scipy import special

from distreal_jax.errors import InputError

# The worst corner for areas: the cost of the full network, as a fraction of itself, and no progress at all.
WORST = (1.0, 0.0)
# Chosen by us: the probability of leaving the full network out of a table though nothing is better than it.
_SIGNIFICANCE = 0.01


def pareto_front(costs: Sequence[float] | np.ndarray, progress: Sequence[float] | np.ndarray) -> np.ndarray:
    """Indices of the points that no other point dominates: none costs at most as much and progresses at least as far.

    Args:
      costs: [points], less is better.
      progress: [points], more is better.

    Returns:
      [front] indices in strictly increasing order of both cost and progress. Of equal points, the first given stands.

    Raises:
      InputError: A value is NaN.
    """
    costs, progress = np.asarray(costs, dtype=np.float64), np.asarray(progress, dtype=np.float64)
    if np.isnan(costs).any() or np.isnan(progress).any():
        raise InputError("a cost or progress is NaN, which nothing compares to; leave such points out")
    if not costs.size:
        return np.zeros(0, dtype=np.intp)
    order: np.ndarray = np.lexsort((-progress, costs))  # stable: of equal points the first given comes first
    best_of_cheaper = np.concatenate([[-np.inf], np.maximum.accumulate(progress[order])[:-1]])
    # an only point of progress -inf is dominated by nothing, yet not above -inf
    front: np.ndarray = order[(progress[order] > best_of_cheaper) | (np.arange(order.size) == 0)]
    return front


def hypervolume(
    costs: Sequence[float] | np.ndarray, progress: Sequence[float] | np.ndarray, reference: tuple[float, float] = WORST
) -> float:
    """The area that the points dominate, up to a reference point (Zitzler and Thiele, 1998), exact in two dimensions.

    Args:
      costs: [points], less is better.
      progress: [points], more is better.
      reference: (cost, progress), the worst corner: points beyond it in either direction add nothing.

    Returns:
      Area in units of cost times progress.
    """
    costs, progress = np.asarray(costs, dtype=np.float64), np.asarray(progress, dtype=np.float64)
    worst_cost, worst_progress = reference
    counted = (costs < worst_cost) & (progress > worst_progress)
    costs, progress = costs[counted], progress[counted]
    front = pareto_front(costs, progress)
    until = np.append(costs[front], worst_cost)[1:]
    return float(np.sum((until - costs[front]) * (progress[front] - worst_progress)))


def area_below(
    costs: Sequence[float] | np.ndarray, progress: Sequence[float] | np.ndarray, reference: tuple[float, float] = WORST
) -> float:
    """The area below a table's entries, each of which serves resources from its own cost up to that of the next.

    It is the hypervolume of points that are a front, and linear in progress, so that noise does not raise it: an entry that
    is measured below a cheaper one lowers it, where a hypervolume takes the luckier of the two.

    Args:
      costs: [entries], in any order.
      progress: [entries].
      reference: (cost, progress), the worst corner: entries of a higher cost add nothing.

    Returns:
      Area in units of cost times progress.
    """
    costs, progress = np.asarray(costs, dtype=np.float64), np.asarray(progress, dtype=np.float64)
    order = np.argsort(costs, kind="stable")
    ends = np.minimum(np.append(costs[order], reference[0]), reference[0])
    return float(np.diff(ends) @ (progress[order] - reference[1]))


def thinned(costs: np.ndarray, progress: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` points of a front, its ends among them, that dominate nearly as much as all of it.

    The point whose loss costs the least area leaves, again and again. (One pass of crowding distances, as in NSGA-II's
    selection, empties the crowded stretches instead: it lost ten times as much area of a front of 250 points.)

    Args:
      costs: [front], strictly increasing.
      progress: [front], strictly increasing.
      count: At least 2.
    """
    kept = np.arange(len(costs))
    while kept.size > count:
        lost = np.diff(costs[kept])[1:] * np.diff(progress[kept])[:-1]
        kept = np.delete(kept, 1 + np.argmin(lost))
    return kept


def best_points(costs: Sequence[float] | np.ndarray, progress: Sequence[float] | np.ndarray, count: int) -> np.ndarray:
    """Indices of the best points: the front, then the front of the rest, and so on; the last front is thinned.

    Args:
      costs: The less the better, [points].
      progress: The more the better, [points].
      count: How many points.

    Returns:
      int [count], or fewer if there are fewer points.
    """
    costs, progress = np.asarray(costs, dtype=np.float64), np.asarray(progress, dtype=np.float64)
    rest, best = np.arange(costs.size), np.zeros(0, dtype=np.intp)
    while rest.size and best.size < count:
        front = pareto_front(costs[rest], progress[rest])
        chosen = rest[front][thinned(costs[rest][front], progress[rest][front], max(2, count - best.size))]
        best, rest = np.concatenate([best, chosen]), np.delete(rest, front)
    return best[:count]


def front_to_full(costs: Sequence[float] | np.ndarray, means: np.ndarray, covariance: np.ndarray, full: int) -> np.ndarray:
    """The Pareto front of measured means, ending in the full network unless that is clearly beaten.

    A table should reach from the cheapest entry to the full network, but noise can put cheaper vectors just ahead of it.
    Those that are estimated no worse than the full network then leave the front. If the best of them is better by a
    one-sided test, at 1 % shared among all points (Bonferroni), it is no tie: the front stands, without the full network.

    Args:
      costs: [points], less is better.
      means: [points], progress as estimated.
      covariance: [points, points], of the estimates.
      full: Index of the full network.

    Returns:
      [front] indices in strictly increasing order of both cost and mean progress.
    """
    costs = np.asarray(costs, dtype=np.float64)
    front = pareto_front(costs, means)
    if full in front:
        return front
    best = front[-1]
    variance = covariance[best, best] + covariance[full, full] - 2 * covariance[best, full]
    if means[best] - means[full] > special.ndtri(1 - _SIGNIFICANCE / costs.size) * np.sqrt(max(variance, 0)):
        return front
    return np.append(front[(means[front] < means[full]) & (costs[front] < costs[full])], full)
