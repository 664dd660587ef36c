"""A jaxpr evaluated with some of its equations exchanged, wherever they are: in inner calls, loops and branches as well."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from distreal_jax.tracing.derivatives import alone, derivative_of, has_cotangent, variables_of
from distreal_jax.tracing.inner import Occasion, Place, Places, bodies, described, inner_jaxpr, occasion_of, scanned

Exchange = Callable[[core.JaxprEqn, list[Any]], list[Any]]  # what is done for an equation, given its operands
Exchanges = Mapping[Place, Exchange]
Note = Callable[[Any], None]


def run_exchanged(
    closed: core.ClosedJaxpr,
    arguments: Sequence[Any],
    exchanges: Exchanges,
    note: Note | None = None,
) -> list[Any]:
    """The results of a jaxpr.

    Calls and loops that hold no equation to be exchanged stay what they are. Of one that does, a derivative of the network's
    own is exchanged with it, and what is computed again in the backward pass stays so; that a call is compiled once is lost.

    Args:
      closed: The jaxpr.
      arguments: What it is given.
      exchanges: Of equations, by their places.
      note: Is shown each result of each equation, in order; not of those that are inside loops.
    """
    steps = _steps(closed.jaxpr, exchanges, ("", 0), Places())
    return _run(closed.jaxpr, steps, closed.consts, arguments, exchanges, note)


class _Step(NamedTuple):
    """An equation with the steps of the jaxprs inside it."""

    equation: core.JaxprEqn
    place: Place | None
    inside: tuple["_Inner", ...]
    derivative: tuple["_Inner", ...]  # forward and backward, if it is the network's own
    exchanged: bool  # it, or one inside


_Inner = tuple[core.ClosedJaxpr, list[_Step]]


def _steps(jaxpr: core.Jaxpr, exchanges: Exchanges, outer: Occasion, numbers: Places, part: str = "") -> list[_Step]:
    steps = []
    for equation in jaxpr.eqns:
        where = occasion_of(equation, outer)
        called = inner_jaxpr(equation)
        place = numbers.next(where, equation.primitive.name, part) if called is None else None
        held = bodies(equation) if called is None else (called,)
        inside = tuple((inner, _steps(inner.jaxpr, exchanges, where, numbers, part)) for inner in held)
        own = None if part else derivative_of(equation)
        parts = {} if own is None else own._asdict()
        derivative = tuple((inner, _steps(inner.jaxpr, exchanges, where, numbers, name)) for name, inner in parts.items())
        exchanged = place in exchanges or any(step.exchanged for _, inner in (*inside, *derivative) for step in inner)
        steps.append(_Step(equation, place, inside, derivative, exchanged))
    return steps


def _run(
    jaxpr: core.Jaxpr,
    steps: Sequence[_Step],
    constants: Sequence[Any],
    arguments: Sequence[Any],
    exchanges: Exchanges,
    note: Note | None,
) -> list[Any]:
    known: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def value_of(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for step in steps:
        operands = [value_of(atom) for atom in step.equation.invars]
        called = bool(step.inside) and step.place is None
        if step.derivative and step.exchanged and not note:
            results = _run_with_derivative(step, operands, exchanges)
        elif called and (step.exchanged or note):
            ((inner, inside),) = step.inside
            run = functools.partial(_run, inner.jaxpr, inside, inner.consts, exchanges=exchanges, note=note)
            if "prevent_cse" in step.equation.params and not note:  # what it computes is computed again, not kept
                kept = {name: step.equation.params[name] for name in ("prevent_cse", "policy")}
                results = jax.checkpoint(lambda *given, run=run: run(given), **kept)(*operands)
            else:
                results = run(operands)
        elif not step.exchanged:
            results = evaluated(jaxpr, step.equation, operands)
        elif step.inside:
            results = _run_loop(step, operands, exchanges)
        else:
            assert step.place is not None
            results = exchanges[step.place](step.equation, operands)
        if note and not called:
            for result in results:
                note(result)
        known.update(zip(step.equation.outvars, results, strict=True))
    return [value_of(atom) for atom in jaxpr.outvars]


def _run_with_derivative(step: _Step, operands: list[Any], exchanges: Exchanges) -> list[Any]:
    """The results of a call whose derivative is exchanged as well."""
    equation, variables = step.equation, variables_of(step.equation)
    through = [has_cotangent(equation.invars[index]) for index in variables]
    out = [has_cotangent(atom) for atom in equation.outvars]
    (inner, inside), *derivative = step.inside[0], *step.derivative

    def called(*values: Any) -> list[Any]:
        given = {equation.invars[index]: value for index, value in zip(variables, values, strict=True)}
        arguments = [atom.val if isinstance(atom, core.Literal) else given[atom] for atom in equation.invars]
        return _run(inner.jaxpr, inside, inner.consts, arguments, exchanges, None)

    def part(number: int, *values: Any) -> list[Any]:
        closed, steps = derivative[number]
        return _run(closed.jaxpr, steps, closed.consts, values, exchanges, None)

    values = [operands[index] for index in variables]
    # What they close over, such as masks, is handed to the function: it may be gone when a derivative is taken.
    function = jax.make_jaxpr(called)(*values)
    forward = jax.make_jaxpr(functools.partial(part, 0))(*values)
    backward = jax.make_jaxpr(functools.partial(part, 1))(*map(described, derivative[1][0].jaxpr.invars))

    @jax.custom_vjp
    def own(closed_over: Sequence[Sequence[Any]], *values: Any) -> list[Any]:
        return core.jaxpr_as_fun(core.ClosedJaxpr(function.jaxpr, closed_over[0]))(*values)

    def own_forward(closed_over: Sequence[Sequence[Any]], *values: Any) -> tuple[list[Any], Any]:
        results = core.jaxpr_as_fun(core.ClosedJaxpr(forward.jaxpr, closed_over[1]))(*values)
        return results[: len(out)], (closed_over[2], results[len(out) :])

    def own_backward(kept: Any, cotangents: Sequence[Any]) -> tuple[Any, ...]:
        closed_over, saved = kept
        given = [cotangent for cotangent, is_given in zip(cotangents, out, strict=True) if is_given]
        gradients = iter(core.jaxpr_as_fun(core.ClosedJaxpr(backward.jaxpr, closed_over))(*saved, *given))
        return None, *(next(gradients) if is_given else None for is_given in through)

    own.defvjp(own_forward, own_backward)
    return own([function.consts, forward.consts, backward.consts], *values)


def _run_loop(step: _Step, operands: list[Any], exchanges: Exchanges) -> list[Any]:
    params = step.equation.params

    def body(index: int, arguments: Sequence[Any]) -> list[Any]:
        closed, inside = step.inside[index]
        return _run(closed.jaxpr, inside, closed.consts, arguments, exchanges, None)

    match step.equation.primitive.name:
        case "scan":
            fixed, carried = scanned(params)
            constants, carry = operands[:fixed], operands[fixed : fixed + carried]

            def once(carry: list[Any], slices: list[Any]) -> tuple[list[Any], list[Any]]:
                out = body(0, [*constants, *carry, *slices])
                return out[:carried], out[carried:]

            settings = {name: params[name] for name in ("length", "reverse", "unroll")}
            carry, gathered = jax.lax.scan(once, carry, operands[fixed + carried :], **settings)
            return [*carry, *gathered]
        case "while":
            test, fixed = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
            return list(
                jax.lax.while_loop(
                    lambda carry: body(0, [*operands[:test], *carry])[0],
                    lambda carry: body(1, [*operands[test:fixed], *carry]),
                    operands[fixed:],
                )
            )
        case _:
            branches = [functools.partial(body, index) for index in range(len(step.inside))]
            return list(jax.lax.switch(operands[0], branches, operands[1:]))


def evaluated(jaxpr: core.Jaxpr, equation: core.JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """The outputs of one equation of a jaxpr, unchanged.

    Args:
      jaxpr: That holds the equation.
      equation: The equation.
      operands: Their values, [operands].
    """
    if not any(_holds_functions(value) for value in equation.params.values()):
        results = equation.primitive.bind(*operands, **equation.params)
        return list(results) if equation.primitive.multiple_results else [results]
    return alone(equation, jaxpr)(*(operands[index] for index in variables_of(equation)))


def _holds_functions(value: Any) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return any(callable(part) or isinstance(part, core.Jaxpr | core.ClosedJaxpr) for part in parts)
