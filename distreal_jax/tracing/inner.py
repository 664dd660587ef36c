"""Jaxprs inside equations: calls that run another jaxpr once, on their own operands, are no operations of their own."""

from jax.extend import core

_CALLS = frozenset("jit pjit closed_call core_call checkpoint remat remat2 custom_jvp_call custom_vjp_call".split())


def inner_jaxpr(equation: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """The jaxpr that the equation runs once on its own operands, if it is such a call."""
    if equation.primitive.name not in _CALLS:
        return None
    inner: core.Jaxpr | core.ClosedJaxpr = equation.params["jaxpr" if "jaxpr" in equation.params else "call_jaxpr"]
    return inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())
