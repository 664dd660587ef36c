"""Derivatives of a network's own: those of its functions that are `jax.custom_vjp` or `jax.custom_jvp`.

The jaxpr of a forward pass does not show them. They may look at channels together, or count them, as any other step.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from distreal_jax.errors import InputError, in_one_line
from distreal_jax.tracing.inner import bodies, described, inner_jaxpr

_JAX = str(Path(jax.__file__).parent)


class NoGradientError(InputError):
    """A network can't be trained."""

    def __init__(self, error: Exception) -> None:
        """Says why."""
        super().__init__(f"the network has no gradient that JAX can compute ({in_one_line(error)})")


class Derivative(NamedTuple):
    """What a function with a derivative of its own computes where it is differentiated in reverse.

    Attributes:
      forward: From the variables among its operands (`variables_of`) to its results, and then what is saved.
      backward: From what is saved, and cotangents of the results that have any, to those of the variables that have any.
    """

    forward: core.ClosedJaxpr
    backward: core.ClosedJaxpr


def derivative_of(equation: core.JaxprEqn) -> Derivative | None:
    """The derivative that is the network's own; None where it is what JAX makes of the forward pass.

    Functions of JAX itself are among the latter: what they have is the derivative, to rounding.

    Raises:
      NoGradientError: It can't be computed.
    """
    if equation.primitive.name not in ("custom_jvp_call", "custom_vjp_call"):
        return None
    called = inner_jaxpr(equation)
    if called is None or _JAX in str(called.jaxpr.debug_info.func_src_info):
        return None
    # A jaxpr is looked at many times. What the derivative is made from is kept, so that no other takes its place.
    made_from = equation.params.get("bwd", equation.params.get("jvp_jaxpr_fun"))
    operands = tuple(
        str(atom) if isinstance(atom, core.Literal) else equation.invars.index(atom) for atom in equation.invars
    )
    known = _known.setdefault(called, {})
    if (id(made_from), operands) not in known:
        known[id(made_from), operands] = made_from, _derivative(equation, called)
    return known[id(made_from), operands][1]


_known: "weakref.WeakKeyDictionary[core.ClosedJaxpr, dict[Any, tuple[Any, Derivative | None]]]" = weakref.WeakKeyDictionary()


def _derivative(equation: core.JaxprEqn, called: core.ClosedJaxpr) -> Derivative | None:
    variables = [equation.invars[index] for index in variables_of(equation)]
    through, out = [*map(has_cotangent, variables)], [*map(has_cotangent, equation.outvars)]
    if not any(through) or not any(out):
        return None
    function = alone(equation, called.jaxpr)

    def forward(*values: Any) -> Any:
        def of_some(*some: Any) -> list[Any]:
            given = iter(some)
            return function(*(next(given) if is_given else value for value, is_given in zip(values, through, strict=True)))

        return jax.vjp(of_some, *(value for value, is_given in zip(values, through, strict=True) if is_given))

    def backward(pull: Callable[[Sequence[Any]], Any], cotangents: Sequence[Any]) -> Any:
        given = iter(cotangents)
        return pull(
            [
                next(given) if is_given else np.zeros(result.aval.shape, jax.dtypes.float0)  # type: ignore[attr-defined]
                for result, is_given in zip(equation.outvars, out, strict=True)
            ]
        )

    try:
        of_forward, (results, pull) = jax.make_jaxpr(forward, return_shape=True)(*map(described, variables))
        cotangents = [result for result, is_given in zip(results, out, strict=True) if is_given]
        return Derivative(of_forward, jax.make_jaxpr(backward)(pull, cotangents))
    except Exception as error:  # whatever a network of the user's may raise
        raise NoGradientError(error) from error


def derivatives_in(jaxpr: core.Jaxpr) -> Iterator[Derivative]:
    """Those of all equations, in calls, loops and branches as well."""
    for equation in jaxpr.eqns:
        if (own := derivative_of(equation)) is not None:
            yield own
        called = inner_jaxpr(equation)
        for inner in bodies(equation) if called is None else (called,):
            yield from derivatives_in(inner.jaxpr)


def variables_of(equation: core.JaxprEqn) -> list[int]:
    """Which operands are variables, each once."""
    first: dict[Any, int] = {}
    for index, atom in enumerate(equation.invars):
        if isinstance(atom, core.Var):
            first.setdefault(atom, index)
    return list(first.values())


def has_cotangent(atom: Any) -> bool:
    """Whether a variable or a literal of a jaxpr is a number that a derivative is taken by."""
    return bool(jnp.issubdtype(atom.aval.dtype, jnp.inexact))


def alone(equation: core.JaxprEqn, like: core.Jaxpr) -> Callable[..., list[Any]]:
    """An equation as a function of its variables: the public way to run one that holds functions.

    Args:
      equation: The equation.
      like: Any jaxpr.
    """
    jaxpr = like.replace(
        constvars=[],
        invars=[equation.invars[index] for index in variables_of(equation)],
        outvars=equation.outvars,
        eqns=[equation],
        effects=equation.effects,
        debug_info=like.debug_info.with_unknown_names(),
    )
    return core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, ()))
