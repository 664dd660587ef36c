"""A jaxpr computed in numpy, in double precision and without compiling anything.

A trace is proved by numbers, in networks that are each computed once: compiling them would take a hundred times as long as
computing them. In double precision, what is equal differs by a millionth of a millionth, so that nothing has to be blamed
on rounding; numbers of half precision are computed in double as well.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from threadpoolctl import threadpool_limits

from distreal_jax.errors import InputError, in_one_line
from distreal_jax.tracing.inner import inner_jaxpr, line_of, scanned
from distreal_jax.tracing.operations import ELEMENTWISE, WITH_PARAMS, Array, exact


def compute(jaxpr: core.ClosedJaxpr, arguments: Sequence[Array]) -> list[Array]:
    """The results of a jaxpr.

    Args:
      jaxpr: With its constants.
      arguments: As `exact` gives them, of the shapes [...] of the jaxpr's inputs.

    Returns:
      One array for each output, in double precision.
    """
    # Products are small: several threads would wait for each other. And JAX may be tracing something else.
    with np.errstate(all="ignore"), threadpool_limits(1, "blas"), jax.ensure_compile_time_eval():
        return _run(jaxpr.jaxpr, [exact(constant) for constant in jaxpr.consts], arguments)


def _run(jaxpr: core.Jaxpr, constants: Sequence[Array], arguments: Sequence[Array]) -> list[Array]:
    known: dict[Any, Array] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def value_of(atom: Any) -> Array:
        return exact(atom.val) if isinstance(atom, core.Literal) else known[atom]

    last_use = {atom: index for index, equation in enumerate(jaxpr.eqns) for atom in equation.invars if _is_variable(atom)}
    kept = {atom for atom in jaxpr.outvars if _is_variable(atom)}
    for index, equation in enumerate(jaxpr.eqns):
        operands = [value_of(atom) for atom in equation.invars]
        inner = inner_jaxpr(equation)
        if inner is not None:
            results = _run(inner.jaxpr, [exact(constant) for constant in inner.consts], operands)
        else:
            results = _results(equation, operands)
        known.update(zip(equation.outvars, results, strict=True))
        for atom in equation.invars:  # large networks would not fit otherwise
            if _is_variable(atom) and last_use[atom] == index and atom not in kept:
                known.pop(atom, None)
    return [value_of(atom) for atom in jaxpr.outvars]


def _is_variable(atom: Any) -> bool:
    return not isinstance(atom, core.Literal)


def _results(equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    name, params = equation.primitive.name, equation.params
    if name in _LOOPS:
        return _LOOPS[name](operands, params)
    if name in ELEMENTWISE:
        results: Any = ELEMENTWISE[name](*operands)
    elif name in WITH_PARAMS:
        results = WITH_PARAMS[name](operands, params)
    elif name == "bitcast_convert_type":
        results = _bitcast(equation, operands[0])
    elif name.startswith(("random_", "threefry")):
        results = _draws(equation, operands)
    else:
        results = _by_jax(equation, operands)
    return [np.asarray(result) for result in results] if isinstance(results, (list, tuple)) else [np.asarray(results)]


def _draws(equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    """Random bits, and keys of these: numbers that say how they were made, so that equal keys draw equal bits."""
    outputs: list[Any] = [variable.aval for variable in equation.outvars]
    first = np.asarray(operands[0], dtype=np.uint32) if operands else np.zeros((), np.uint32)
    match equation.primitive.name:
        case "random_seed" | "random_clone":
            return [first]
        case "random_split":
            shape = equation.params["shape"]
            places = np.arange(math.prod(shape), dtype=np.uint32).reshape(shape)
            return [_renumbered(first.reshape(*first.shape, *(1,) * len(shape)), places)]
        case "random_fold_in":
            return [_renumbered(first, operands[1].astype(np.uint32))]
        case "random_wrap":
            return [first.sum(axis=-1, dtype=np.uint32)]
        case "random_unwrap":
            return [np.where(np.arange(outputs[0].shape[-1]) == 0, first[..., None], np.uint32(0))]
        case "random_bits":
            shape = outputs[0].shape[first.ndim :]
            most = np.iinfo(outputs[0].dtype).max
            drawn = [
                np.random.default_rng((16, key)).integers(most, size=shape, dtype=outputs[0].dtype, endpoint=True)
                for key in first.reshape(-1).tolist()
            ]
            return [np.reshape(drawn, outputs[0].shape).astype(outputs[0].dtype)]
    draw = np.random.default_rng(16)
    return [draw.integers(np.iinfo(of.dtype).max, size=of.shape, dtype=of.dtype, endpoint=True) for of in outputs]


def _renumbered(keys: Array, number: Array) -> Array:
    return keys * np.uint32(2654435761) + number + np.uint32(1)


def _bitcast(equation: core.JaxprEqn, operand: Array) -> Array:
    """The bits of a number are those that it has in its own precision."""
    before: Any = equation.invars[0].aval
    after: Any = equation.outvars[0].aval
    bits = np.ascontiguousarray(operand.astype(before.dtype)).reshape(-1).view(after.dtype)
    return exact(bits.reshape(after.shape))


def _by_jax(equation: core.JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    """An operation that is too rare to be written down here, in single precision.

    Raises:
      InputError: JAX does not compute it by itself.
    """
    kinds: list[Any] = [getattr(atom.aval, "dtype", None) for atom in equation.invars]
    typed = [
        jnp.asarray(value, dtype=None if kind is not None and jnp.issubdtype(kind, jax.dtypes.extended) else kind)
        for value, kind in zip(operands, kinds, strict=True)
    ]
    try:
        results = equation.primitive.bind(*typed, **equation.params)
        return [exact(result) for result in (results if equation.primitive.multiple_results else [results])]
    except Exception as error:  # whatever a primitive may raise
        raise InputError(
            f"can't compute primitive {equation.primitive.name!r}{line_of([equation.source_info])} by itself "
            f"({in_one_line(error)}), so nothing shows whether smaller networks are right; write it in "
            "other operations, or trace with proof=False"
        ) from error


def _closed(jaxpr: core.ClosedJaxpr, arguments: Sequence[Array]) -> list[Array]:
    return _run(jaxpr.jaxpr, [exact(constant) for constant in jaxpr.consts], arguments)


def _scan(operands: Sequence[Array], params: dict[str, Any]) -> list[Array]:
    fixed, carried = scanned(params)
    constants, carry, sequences = operands[:fixed], list(operands[fixed : fixed + carried]), operands[fixed + carried :]
    steps = range(params["length"])
    gathered: list[list[Array]] = []
    for step in reversed(steps) if params["reverse"] else steps:
        out = _closed(params["jaxpr"], [*constants, *carry, *(sequence[step] for sequence in sequences)])
        carry = out[:carried]
        gathered.append(out[carried:])
    if params["reverse"]:
        gathered.reverse()
    return [*carry, *(np.stack(parts) for parts in zip(*gathered, strict=True))]


def _while(operands: Sequence[Array], params: dict[str, Any]) -> list[Array]:
    of_test, of_body = params["cond_nconsts"], params["body_nconsts"]
    test, body = operands[:of_test], operands[of_test : of_test + of_body]
    carry = list(operands[of_test + of_body :])
    while np.any(goes_on := _closed(params["cond_jaxpr"], [*test, *carry])[0]):  # an array of a loop that is vmapped
        after = _closed(params["body_jaxpr"], [*body, *carry])
        carry = [
            np.where(goes_on.reshape(goes_on.shape + (1,) * (new.ndim - goes_on.ndim)), new, old)
            for new, old in zip(after, carry, strict=True)
        ]
    return carry


def _cond(operands: Sequence[Array], params: dict[str, Any]) -> list[Array]:
    branches = params["branches"]
    return _closed(branches[min(max(int(operands[0]), 0), len(branches) - 1)], operands[1:])


_LOOPS: dict[str, Callable[[Sequence[Array], dict[str, Any]], list[Array]]] = {"scan": _scan, "while": _while, "cond": _cond}
