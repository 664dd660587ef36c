"""Which values of a jaxpr a backward pass comes to: those that change an output in a way that has a derivative."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend import core

from distreal_jax.tracing.inner import bodies, inner_jaxpr, scanned

# What they put out is constant as far as a derivative goes.
_FLAT = frozenset("ceil floor round sign stop_gradient".split())


def has_gradient(equation: core.JaxprEqn, variable: Any) -> bool:
    """Whether a gradient can go through an equation by one of its outputs."""
    return equation.primitive.name not in _FLAT and _is_number(variable)


def reached(jaxpr: core.Jaxpr, outputs: Sequence[bool]) -> set[Any]:
    """The variables of a jaxpr that a gradient comes to.

    Args:
      jaxpr: The jaxpr.
      outputs: To which of its outputs one comes from outside.
    """
    found = {atom for atom, is_reached in zip(jaxpr.outvars, outputs, strict=True) if is_reached and _is_number(atom)}
    for equation in reversed(jaxpr.eqns):
        through = [variable in found and has_gradient(equation, variable) for variable in equation.outvars]
        if any(through):
            operands = zip(equation.invars, _passed_on(equation, through), strict=True)
            found.update(atom for atom, is_reached in operands if is_reached and _is_number(atom))
    return found


def reached_inside(equation: core.JaxprEqn, outputs: Sequence[bool]) -> list[list[bool]]:
    """To which outputs of each jaxpr that a loop or a branch runs a gradient comes, from the outputs of all of it."""
    match equation.primitive.name:
        case "scan":
            return [_carried(equation, 0, *scanned(equation.params), outputs)]
        case "while":
            fixed = equation.params["body_nconsts"]
            return [[False], _carried(equation, 1, fixed, len(outputs), outputs)]
    return [[*outputs] for _ in bodies(equation)]


def _carried(equation: core.JaxprEqn, body: int, fixed: int, carried: int, outputs: Sequence[bool]) -> list[bool]:
    """A gradient that comes to what is carried goes round until it comes to no more of it."""
    jaxpr, now = bodies(equation)[body].jaxpr, [*outputs]
    while True:
        found = reached(jaxpr, now)
        before = [variable in found for variable in jaxpr.invars[fixed : fixed + carried]]
        after = [one or other for one, other in zip(now, before, strict=False)] + now[carried:]
        if after == now:
            return now
        now = after


def _passed_on(equation: core.JaxprEqn, outputs: Sequence[bool]) -> list[bool]:
    """To which operands of an equation a gradient goes on."""
    called, name = inner_jaxpr(equation), equation.primitive.name
    if called is not None and not name.startswith("custom_vjp"):  # whose derivative is the network's own
        found = reached(called.jaxpr, outputs)
        return [variable in found for variable in called.jaxpr.invars]
    held = bodies(equation)
    if not held:
        return [True] * len(equation.invars)
    of_each = []
    for body, reached_outputs in zip(held, reached_inside(equation, outputs), strict=True):
        found = reached(body.jaxpr, reached_outputs)
        of_each.append([variable in found for variable in body.jaxpr.invars])
    if name == "while":
        test = equation.params["cond_nconsts"]
        return [*of_each[0][:test], *of_each[1]]
    if name == "cond":
        return [False, *map(any, zip(*of_each, strict=True))]
    return of_each[0]


def _is_number(atom: Any) -> bool:
    described: Any = atom.aval
    return isinstance(atom, core.Var) and bool(jnp.issubdtype(described.dtype, jnp.inexact))
