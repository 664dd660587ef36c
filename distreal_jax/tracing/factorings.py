"""Reshapes that split channels, or flatten two axes into one: which of the factors carries the filters.

Channels that are split into heads, or into positions and fewer channels, lose whole slices along one of the factors: heads,
channels of a head, channels of all positions. Which one it can be is said by what is done to the factors: positions are
pooled over, queries are multiplied with keys. So it is decided when the whole network has been walked over.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from distreal_jax.tracing.labels import PINNED, AxisLabels, Ties
from distreal_jax.tracing.site import Factoring, Kind

REMEDY = "take them from the array's shape, or as -1, to drop some"


def decide(factorings: Sequence[Factoring], ties: Ties, passed_over: Mapping[Kind, int]) -> set[Kind]:
    """Ties the filters of split axes to one factor each and pins the other factors.

    Where several factors may carry them it is the first of these, as in blocks of channels: a block is lost as a whole.

    Args:
      factorings: All of the network.
      ties: Its labels.
      passed_over: For kinds that a smaller network has shown to be written down, how many of their factors, from the first
        that may carry filters on, are no choice.

    Returns:
      The kinds of which a factor carries filters.
    """
    waiting = list(factorings)
    carrying: set[Kind] = set()
    while waiting:
        # The certain ones first: each may make others so.
        certain = next((one for one in waiting if len(_candidates(one, ties)) <= 1 and one.kind not in passed_over), None)
        one = certain or waiting[0]
        waiting = [other for other in waiting if other is not one]
        candidates = _candidates(one, ties)[passed_over.get(one.kind, 0) :]
        ties.because = f"{one.where}, whose lengths are written down ({REMEDY})" if one.kind in passed_over else one.where
        lengths = [len(labels) for labels in one.factors]
        # What is done to the flat axis may have said it already.
        table = ties.roots(one.flat).reshape(lengths)
        said = [axis for axis in candidates if varies_along(table, axis) is not None]
        chosen = next(iter([*said, *candidates]), None)
        for axis, labels in enumerate(one.factors):
            if axis != chosen:
                ties.pin(labels)
        if chosen is None:
            ties.pin(one.flat)
            continue
        carrying.add(one.kind)
        for label, row in zip(one.factors[chosen], np.moveaxis(one.flat.reshape(lengths), chosen, 0), strict=True):
            ties.tie_all(np.append(row.reshape(-1), label))
    return carrying


def part_length(labels: AxisLabels, places: Collection[int]) -> int:
    """Channels in each of the fewest equal parts of an axis that has an end of a part at each place where it is cut."""
    return math.gcd(len(labels), *places)


def tie_parts(labels: AxisLabels, places: Collection[int], ties: Ties) -> None:
    """Ties channels that lie at the same place of each part: they are dropped from all parts alike."""
    ties.tie_axes(list(labels.reshape(-1, part_length(labels, places))))


def varies_along(table: AxisLabels, axis: int) -> AxisLabels | None:
    """The labels of a table along an axis, if they are the same along all others; None otherwise."""
    line = np.moveaxis(table, axis, 0).reshape(table.shape[axis], -1)
    return line[:, 0] if np.all(line == line[:, :1]) else None


def _candidates(one: Factoring, ties: Ties) -> list[int]:
    if not ties.droppable(one.flat):
        return []
    return [axis for axis, labels in enumerate(one.factors) if np.any(ties.roots(labels) > PINNED)]
