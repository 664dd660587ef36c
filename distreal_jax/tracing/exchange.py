"""A jaxpr evaluated with some of its equations exchanged, wherever they are: in inner calls, loops and branches as well."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from distreal_jax.tracing.inner import Occasion, Place, Places, bodies, inner_jaxpr, occasion_of

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

    Calls and loops that hold no equation to be exchanged stay what they are. One that does loses what it was beside its
    jaxpr: a call that is compiled once, or a derivative of its own. What is computed again instead of kept stays so.

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
    inside: tuple[tuple[core.ClosedJaxpr, list["_Step"]], ...]
    exchanged: bool  # it, or one inside


def _steps(jaxpr: core.Jaxpr, exchanges: Exchanges, outer: Occasion, numbers: Places) -> list[_Step]:
    steps = []
    for equation in jaxpr.eqns:
        where = occasion_of(equation, outer)
        called = inner_jaxpr(equation)
        place = numbers.next(where, equation.primitive.name) if called is None else None
        held = bodies(equation) if called is None else (called,)
        inside = tuple((inner, _steps(inner.jaxpr, exchanges, where, numbers)) for inner in held)
        exchanged = place in exchanges or any(step.exchanged for _, inner in inside for step in inner)
        steps.append(_Step(equation, place, inside, exchanged))
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
        if called and (step.exchanged or note):
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


def _run_loop(step: _Step, operands: list[Any], exchanges: Exchanges) -> list[Any]:
    params = step.equation.params

    def body(index: int, arguments: Sequence[Any]) -> list[Any]:
        closed, inside = step.inside[index]
        return _run(closed.jaxpr, inside, closed.consts, arguments, exchanges, None)

    match step.equation.primitive.name:
        case "scan":
            fixed, carried = params["num_consts"], params["num_carry"]
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
    # The public way to run one that holds functions, such as a custom derivative.
    atoms = [(atom, value) for atom, value in zip(equation.invars, operands, strict=True) if isinstance(atom, core.Var)]
    variables = dict(atoms)
    alone = jaxpr.replace(
        constvars=[],
        invars=list(variables),
        outvars=equation.outvars,
        eqns=[equation],
        effects=equation.effects,
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    return core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))(*variables.values())


def _holds_functions(value: Any) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return any(callable(part) or isinstance(part, core.Jaxpr | core.ClosedJaxpr) for part in parts)
