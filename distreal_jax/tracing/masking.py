"""What masked execution does to a network's equations, and compact execution to its random draws.

Dropped filters are zero in masked execution, and that is not all: a mean over channels would still divide by all of them,
a softmax or a maximum would count their zeros, and the root of a zero has no derivative. So a trace notes the equations
that look at channels together (`Action`); in masked execution they are exchanged for ones that look at the kept channels
alone. In compact execution, what is drawn for channels is drawn for all of them, and taken for those that are kept: a filter
then meets the same draw in both executions.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from distreal_jax.tracing.exchange import Exchange, Exchanges, run_exchanged
from distreal_jax.tracing.inner import Place
from distreal_jax.tracing.layout import AxisLayout, LengthOfAxis

Axes = tuple[tuple[int, AxisLayout], ...]  # those along which filters lie

# What dropped channels are set to so that a reduction does not see them.
_NEUTRAL: dict[str, Any] = {
    "reduce_sum": 0,
    "reduce_prod": 1,
    "reduce_max": -jnp.inf,
    "reduce_min": jnp.inf,
    "reduce_and": True,
    "reduce_or": False,
    "dot_general": 0,
    "ragged_dot_general": 0,
}
REDUCTIONS = frozenset(_NEUTRAL) - {"dot_general", "ragged_dot_general"}

# Where these functions and their derivatives are numbers; at what dropped channels hold they may be none.
_HARMLESS = {
    **dict.fromkeys("exp exp2 expm1 log log1p sqrt rsqrt cbrt pow integer_pow div rem atan2 lgamma digamma".split(), 1.0),
    **dict.fromkeys("asin acos atanh erf_inv".split(), 0.0),
    "acosh": 2.0,
}
RISKY = frozenset(_HARMLESS)
LOGARITHM = 0.0  # as a power


@dataclasses.dataclass(frozen=True)
class _WithChannels:
    """An operand, and its axes along which channels lie."""

    operand: int
    axes: Axes

    def narrowed(self, widths: Sequence[int]) -> Self:
        """In a network of so many filters."""
        return dataclasses.replace(self, axes=tuple((axis, layout.narrowed(widths)) for axis, layout in self.axes))


class Excluded(_WithChannels):
    """An operand whose dropped channels are not looked at."""


@dataclasses.dataclass(frozen=True)
class Counted:
    """A literal operand that depends on a number of channels: an offset plus a multiple of `(number + shift) ** power`.

    The multiple follows from the literal: it may hold a number of positions as well, which differs between images.
    """

    operand: int
    lengths: tuple[LengthOfAxis, ...]  # their product is the number of channels
    power: float
    shift: float
    offset: float

    def narrowed(self, widths: Sequence[int]) -> "Counted":
        """In a network of so many filters, whose jaxpr holds another number already."""
        return self

    def at(self, number: float, widths: Sequence[Any], full: Sequence[int]) -> Any:
        """What a number becomes where so many filters are kept of all."""
        now, whole = (self.curve(self.count(self.lengths, of) + self.shift, self.power) for of in (widths, full))
        return self.offset + (number - self.offset) * (now / whole)

    @staticmethod
    def count(lengths: Sequence[LengthOfAxis], widths: Sequence[Any]) -> Any:
        """The number of channels with so many filters kept."""
        return math.prod(length.at(widths) for length in lengths)

    @staticmethod
    def curve(number: Any, power: float) -> Any:
        """The power of a number, or its logarithm."""
        if power != LOGARITHM:
            return number**power
        return jnp.log(number) if isinstance(number, jax.Array) else np.log(number)


@dataclasses.dataclass(frozen=True)
class Scaled(_WithChannels):
    """An operand that is multiplied by a factor for each group: the filters that are kept count for all.

    It is out of reach inside a function with a derivative of its own, which would be lost.
    """

    in_reach: bool = True
    factors: tuple[Any, ...] = ()  # of the groups

    def by(self, factors: Sequence[Any]) -> "Scaled":
        """With these factors."""
        return dataclasses.replace(self, factors=tuple(factors))

    @property
    def groups(self) -> set[int]:
        """Those along the axes."""
        return {run.group for _, layout in self.axes for run in layout.runs if run.group is not None}


Action = Excluded | Counted | Scaled
Actions = Mapping[Place, tuple[Action, ...]]
Draws = Mapping[Place, Axes]


def narrowed(actions: Actions, widths: Sequence[int]) -> Actions:
    """In a network of so many filters."""
    return {place: tuple(action.narrowed(widths) for action in at) for place, at in actions.items()}


def acting(actions: Actions, full: Sequence[int], masks: Sequence[jax.Array] | None) -> dict[Place, Exchange]:
    """What is done in a network.

    Args:
      actions: Of the network, in this mode.
      full: Filters in each group.
      masks: Where dropped filters are at zero, for each group bool [filters], those that are kept. None: all filters are
        there, and all actions are `Scaled`.
    """
    masks = masks or ()
    widths = [mask.sum(dtype=jnp.float32) for mask in masks]

    def exchange(at: Sequence[Action], equation: core.JaxprEqn, operands: list[Any]) -> list[Any]:
        for action in at:
            value = operands[action.operand]
            if isinstance(action, Counted):
                described: Any = equation.invars[action.operand].aval
                kind = described.dtype
                new = action.at(float(value), widths, full)
                operands[action.operand] = (jnp.round(new) if jnp.issubdtype(kind, jnp.integer) else new).astype(kind)
            elif isinstance(action, Scaled):
                operands[action.operand] = _scaled(value, action, full)
            else:
                operands[action.operand] = _without(equation, value, action.axes, masks, full)
        return _bound(equation, operands, equation.params)

    return {place: functools.partial(exchange, at) for place, at in actions.items()}


def _without(
    equation: core.JaxprEqn, value: jax.Array, axes: Axes, masks: Sequence[jax.Array], full: Sequence[int]
) -> jax.Array:
    """An operand in which dropped channels hold what the equation is not disturbed by."""
    keep = jnp.ones((1,) * value.ndim, dtype=bool)
    for axis, layout in axes:
        shape = [1] * value.ndim
        shape[axis] = value.shape[axis]
        keep = keep & layout.stretched(value.shape[axis], full).spread(masks, fill=True).reshape(shape)
    name = equation.primitive.name
    fill = _NEUTRAL[name] if name in _NEUTRAL else _HARMLESS[name]
    if jnp.issubdtype(value.dtype, jnp.integer) and fill in (jnp.inf, -jnp.inf):
        limits = np.iinfo(value.dtype)
        fill = limits.max if fill > 0 else limits.min
    return jnp.where(keep, value, jnp.asarray(fill, value.dtype))


def _scaled(value: jax.Array, scaled: Scaled, full: Sequence[int]) -> jax.Array:
    """The operand times the factors of the groups along its axes."""
    factors = [jnp.full(count, factor, value.dtype) for count, factor in zip(full, scaled.factors, strict=True)]
    for axis, layout in scaled.axes:
        along = layout.stretched(value.shape[axis], full).spread(factors, fill=1)
        value = value * along.reshape((1,) * axis + (-1,) + (1,) * (value.ndim - axis - 1))
    return value


def drawing(draws: Draws, part: Sequence[Any]) -> dict[Place, Exchange]:
    """What is done in a sub-network, whose random draws are those that the whole network would make.

    Args:
      draws: Of the whole network, in this mode.
      part: For each group int [width], the filters of the whole network that the sub-network has.
    """
    widths = [len(chosen) for chosen in part]

    def exchange(axes: Axes, equation: core.JaxprEqn, operands: list[Any]) -> list[Any]:
        shape = list(equation.params["shape"])
        described: Any = equation.outvars[0].aval
        keys = described.ndim - len(shape)  # axes that several keys have
        wholes = [(axis, layout.stretched(shape[axis - keys], widths)) for axis, layout in axes if axis >= keys]
        for axis, whole in wholes:
            shape[axis - keys] = whole.length
        (drawn,) = _bound(equation, operands, {**equation.params, "shape": tuple(shape)})
        for axis, whole in wholes:
            drawn = jnp.take(drawn, whole.indices(part), axis=axis, mode="clip")
        return [drawn]

    return {place: functools.partial(exchange, axes) for place, axes in draws.items()}


def exchanged(function: Callable[..., Any], exchanges: Callable[..., Exchanges]) -> Callable[..., Any]:
    """The same function of pytrees of arrays, some of whose equations are exchanged.

    Args:
      function: The function.
      exchanges: Gives what is exchanged in its jaxpr, of that and of its arguments.
    """

    def run(*arguments: Any) -> Any:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = run_exchanged(closed, jax.tree.leaves(arguments), exchanges(closed, *arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return run


def _bound(equation: core.JaxprEqn, operands: Sequence[Any], params: Mapping[str, Any]) -> list[Any]:
    results = equation.primitive.bind(*operands, **params)
    return list(results) if equation.primitive.multiple_results else [results]
