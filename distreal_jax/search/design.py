"""Vectors by design rather than by search: of given costs, in given shapes. What a study of a search measures.

A shape is how the share of filters that a group keeps changes from the first searched group to the last.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.search.baselines import inner_weights, weighted_rates
from distreal_jax.search.space import SearchSpace, Widths

_STEEPEST = 1.0  # chosen by us: the first group then keeps e² = 7.4 times the share of filters that the last one keeps
_FARTHEST = 1.4  # chosen by us: a vector whose cost is off its level by a larger factor is not of that level


@dataclasses.dataclass(frozen=True)
class DesignedVector:
    """A dropout vector of given cost and shape.

    Attributes:
      widths: Filters kept, [groups].
      level: Index of its level of cost.
      tilt: From 1, wide in the first layers, to -1, wide in the last.
      cost: Fraction of the full network's MACs.
    """

    widths: Widths
    level: int
    tilt: float
    cost: float


def designed_vectors(
    space: SearchSpace, levels: Sequence[float] | npt.NDArray[np.float64], shapes: int
) -> list[DesignedVector]:
    """Vectors of each level of cost in several shapes: the nearest in cost of those not yet taken, all different.

    Args:
      space: What would be searched.
      levels: Costs, fractions of the full network's.
      shapes: How many at each level, from wide in the first groups to wide in the last.

    Raises:
      InputError: The network has no such vectors.
    """
    taken: dict[Widths, DesignedVector] = {}
    for index, level in enumerate(levels):
        for tilt in np.linspace(1, -1, shapes):
            off = {row: abs(np.log(space.cost(row) / level)) for row in _tilted(space, tilt) - taken.keys()}
            nearest = min(sorted(off), key=lambda row: off[row], default=None)
            if nearest is None or off[nearest] > np.log(_FARTHEST):
                raise InputError(
                    f"the network has no {shapes} vectors of different shape near {level:.1%} of its cost; "
                    "give fewer, or other costs"
                )
            taken[nearest] = DesignedVector(nearest, index, float(tilt), space.cost(nearest))
    return list(taken.values())


def designed_table(
    space: SearchSpace, levels: Sequence[float] | npt.NDArray[np.float64], shape: float | Literal["inside"]
) -> list[Widths]:
    """Of one shape, the vectors nearest in cost to each level, all different.

    Args:
      space: What would be searched.
      levels: Costs, fractions of the full network's.
      shape: A tilt from 1, wide in the first layers, to -1, wide in the last, where 0 is one rate for all layers; or
        `inside`: one rate for the filters inside blocks, others whole.

    Raises:
      InputError: `inside` of a network without blocks.
    """
    if shape == "inside":
        inner = inner_weights(space)
        if not inner.any():
            raise InputError("the network has no filters inside blocks to drop alone; name another shape than inside")
        vectors = {space.widths(row) for row in weighted_rates(space, 1000, inner)}
    else:
        vectors = _tilted(space, shape)
    found = sorted(vectors, key=space.cost)
    costs = np.log([space.cost(row) for row in found])
    return list(dict.fromkeys(found[np.abs(costs - np.log(level)).argmin()] for level in levels))


def _tilted(space: SearchSpace, tilt: float) -> set[Widths]:
    """All vectors of a tilt."""
    depth, scales = np.linspace(-1, 1, len(space.groups)), np.geomspace(1e-3, 1e1, 1000)
    rates = 1 - np.outer(scales, np.exp(-_STEEPEST * tilt * depth))
    return {space.widths(row) for row in np.clip(rates, 0, space.max_rate)}


def uniform_beside(space: SearchSpace, vectors: Sequence[Widths]) -> list[Widths]:
    """The vectors of one rate for all searched groups that are nearest in cost to given ones, each once."""
    uniform = sorted({space.widths(rates) for rates in space.uniform_seeds(1000)})
    costs = np.log([space.cost(widths) for widths in uniform])
    return list(dict.fromkeys(uniform[np.abs(costs - np.log(space.cost(vector))).argmin()] for vector in vectors))
