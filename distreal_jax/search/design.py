"""Vectors by design rather than by search: of given costs, in given shapes. What a study of a search measures.

A shape is a family of vectors of one parameter, one vector for each cost. A tilt says how the share of filters that a group
keeps changes from the first searched group to the last: from 1, wide in the first layers, over 0, one rate for all layers,
to -1, wide in the last. `inside` is one rate for the filters inside blocks, with all others whole.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.search.baselines import inner_weights, weighted_rates
from distreal_jax.search.space import SearchSpace, Widths
from distreal_jax.table import Configuration

Shape = float | Literal["inside"]

_STEEPEST = 1.0  # chosen by us: the first group then keeps e² = 7.4 times the share of filters that the last one keeps
_FARTHEST = 1.4  # chosen by us: a vector whose cost is off its level by a larger factor is not of that level


@dataclasses.dataclass(frozen=True)
class DesignedVector:
    """A dropout vector of given cost and shape.

    Attributes:
      widths: Filters kept, [groups].
      level: Index of its level of cost.
      shape: Its shape.
      cost: Fraction of the full network's MACs.
    """

    widths: Widths
    level: int
    shape: Shape
    cost: float


def shapes_of(texts: Sequence[str]) -> list[Shape]:
    """Shapes as they are written: `inside`, or a tilt.

    Raises:
      InputError: One is neither, or comes twice.
    """
    shapes: list[Shape] = []
    for text in texts:
        try:
            shape: Shape = "inside" if text == "inside" else float(text) + 0.0  # -0 is 0
        except ValueError:
            shape = float("nan")
        if shape != "inside" and not -1 <= shape <= 1:
            raise InputError(f"shape {text!r} is neither inside nor a tilt from -1 to 1; give such as 0,0.5,1")
        if shape_name(shape) in map(shape_name, shapes):
            raise InputError(f"shape {text!r} comes twice; name each shape once")
        shapes.append(shape)
    return shapes


def shape_name(shape: Shape) -> str:
    """A shape in files and reports, such as `inside` or `tilt+0.5`."""
    return shape if shape == "inside" else f"tilt{shape:+g}"


def designed_vectors(
    space: SearchSpace, levels: Sequence[float] | npt.NDArray[np.float64], shapes: Sequence[Shape]
) -> list[DesignedVector]:
    """Vectors of each level of cost in several shapes: the nearest in cost of those not yet taken, all different.

    Args:
      space: What would be searched.
      levels: Costs, fractions of the full network's, [levels].
      shapes: At each level.

    Raises:
      InputError: The network has no such vectors, or no blocks.
    """
    taken: dict[Widths, DesignedVector] = {}
    families = {shape: _vectors_of(space, shape) for shape in shapes}
    for index, level in enumerate(levels):
        for shape, family in families.items():
            off = {row: abs(np.log(_cost(space, row) / level)) for row in family - taken.keys()}
            nearest = min(sorted(off), key=lambda row: off[row], default=None)
            if nearest is None or off[nearest] > np.log(_FARTHEST):
                raise InputError(
                    f"the network has no {len(shapes)} vectors of different shape near {level:.1%} of its cost; "
                    "give fewer, or other costs"
                )
            taken[nearest] = DesignedVector(nearest, index, shape, _cost(space, nearest))
    return list(taken.values())


def designed_table(space: SearchSpace, levels: Sequence[float] | npt.NDArray[np.float64], shape: Shape) -> list[Widths]:
    """Of one shape, the vectors nearest in cost to each level, all different.

    Args:
      space: What would be searched.
      levels: Costs, fractions of the full network's, [levels].
      shape: The shape.

    Raises:
      InputError: `inside` of a network without blocks.
    """
    return _nearest(space, _vectors_of(space, shape), levels)


def _vectors_of(space: SearchSpace, shape: Shape) -> set[Widths]:
    """All vectors of a shape."""
    if shape == "inside":
        inner = inner_weights(space)
        if not inner.any():
            raise InputError("the network has no filters inside blocks to drop alone; name another shape than inside")
        return {space.widths(row) for row in weighted_rates(space, 1000, inner)}
    depth, scales = np.linspace(-1, 1, len(space.groups)), np.geomspace(1e-3, 1e1, 1000)
    rates = 1 - np.outer(scales, np.exp(-_STEEPEST * shape * depth))
    return {space.widths(row) for row in np.clip(rates, 0, space.max_rate)}


def uniform_beside(space: SearchSpace, vectors: Sequence[Widths]) -> list[Widths]:
    """The vectors of one rate for all searched groups that are nearest in cost to given ones, each once."""
    uniform = {space.widths(rates) for rates in space.uniform_seeds(1000)}
    return _nearest(space, uniform, [_cost(space, vector) for vector in vectors])


def _cost(space: SearchSpace, widths: Widths) -> float:
    return space.cost(Configuration(widths))


def _nearest(
    space: SearchSpace, vectors: Collection[Widths], levels: Sequence[float] | npt.NDArray[np.float64]
) -> list[Widths]:
    """The vectors nearest in cost to each level, relative to it, each once."""
    found = sorted(vectors, key=lambda row: _cost(space, row))
    costs = np.log([_cost(space, row) for row in found])
    return list(dict.fromkeys(found[np.abs(costs - np.log(level)).argmin()] for level in levels))
