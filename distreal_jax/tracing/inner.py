"""What an equation says of itself: the jaxprs that it runs, the call of a layer that it is in, the line it comes from."""

import re
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.extend import core

Occasion = tuple[str, int]  # (path of a module, which of its calls in one call of the network)

NO_LITERALS: Mapping[Any, Any] = {}
_CALLS = frozenset("jit pjit closed_call core_call checkpoint remat remat2 custom_jvp_call custom_vjp_call".split())
_LAYER = re.compile(r"layer:([^/()]*)@(\d+)")


def inner_jaxpr(equation: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """The jaxpr that the equation runs once on its own operands, if it is such a call."""
    if equation.primitive.name not in _CALLS:
        return None
    inner: core.Jaxpr | core.ClosedJaxpr = equation.params["jaxpr" if "jaxpr" in equation.params else "call_jaxpr"]
    return inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())


def described(atom: Any) -> jax.ShapeDtypeStruct:
    """The shape and type of a variable or a literal."""
    return jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)


def literals_of(equation: core.JaxprEqn, literals: Mapping[Any, Any]) -> tuple[Any, ...]:
    """The numbers that an equation computes with, None for its other operands.

    Args:
      equation: The equation.
      literals: Variables of the jaxpr that stand for such numbers.
    """
    return tuple(atom.val if isinstance(atom, core.Literal) else literals.get(atom) for atom in equation.invars)


def literals_inside(call: core.JaxprEqn, inner: core.ClosedJaxpr, literals: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The variables of an inner jaxpr that stand for numbers which it is handed.

    Args:
      call: The equation that runs it.
      inner: The jaxpr.
      literals: As for `literals_of`.
    """
    if call.primitive.name not in ("jit", "pjit"):  # others are differentiated by what they are handed
        return NO_LITERALS
    handed = zip(inner.jaxpr.invars, literals_of(call, literals), strict=True)
    return {variable: number for variable, number in handed if number is not None}


def bodies(equation: core.JaxprEqn) -> tuple[core.ClosedJaxpr, ...]:
    """The jaxprs that a loop or a branch runs, any number of times, on operands of their own."""
    params = equation.params
    match equation.primitive.name:
        case "scan":
            return (params["jaxpr"],)
        case "while":
            return params["cond_jaxpr"], params["body_jaxpr"]
        case "cond":
            return tuple(params["branches"])
    return ()


def scanned(params: Mapping[str, Any]) -> tuple[int, int]:
    """(constants, carried) of a `scan`: how many of its first operands are the same in each step, and how many go round.

    Args:
      params: Of the equation; since JAX 0.11 they hold these numbers in a tree of the operands.
    """
    if "ft_in" not in params:
        return params["num_consts"], params["num_carry"]
    constants, carried, _ = (len([*part]) for part in params["ft_in"].unpack())
    return constants, carried


def layer_scope(path: str, call: int) -> str:
    """The name of a scope from which `occasion_of` reads that it is this call of a layer."""
    return f"layer:{path}@{call}"


def occasion_of(equation: core.JaxprEqn, outer: Occasion) -> Occasion:
    """The innermost call of a layer that the equation is in; `outer` is that of the jaxpr which holds it."""
    found = _LAYER.findall(str(equation.source_info.name_stack))
    return (found[-1][0], int(found[-1][1])) if found else outer


class Place(NamedTuple):
    """An equation, so that it is found again where the network is called with other shapes."""

    layer: str
    call: int
    primitive: str
    number: int  # among the equations of this primitive in this call
    part: str = ""  # of a derivative of the network's own: "forward" or "backward"


class Places:
    """Numbers the equations of one jaxpr; calls of other jaxprs have no place, loops have one before their bodies."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, int, str, str]] = Counter()

    def next(self, occasion: Occasion, primitive: str, part: str = "") -> Place:
        """The place of the next equation of a primitive in a call of a layer, in a part of a derivative or in none."""
        key = (*occasion, primitive, part)
        self._counts[key] += 1
        return Place(*occasion, primitive, self._counts[key] - 1, part)


def line_of(sources: Iterable[Any]) -> str:
    """The user's own line that an equation comes from, such as " at model.py:17"; nothing if there is none.

    Args:
      sources: `source_info` of the calls that it is in, from the outermost, and its own. (JAX keeps the jaxprs of its own
        functions: the lines inside them are of the first call.)
    """
    lines = (
        _first_own((frame.file_name, frame.line_num) for frame in getattr(of.traceback, "frames", ())) for of in sources
    )
    return next(filter(None, lines), "")


def line_of_error(error: BaseException) -> str:
    """The user's own line that an exception comes from, as `line_of`."""
    frames = traceback.extract_tb(error.__traceback__)
    return _first_own((frame.filename, frame.lineno or 0) for frame in reversed(frames))


def _first_own(lines: Iterable[tuple[str, int]]) -> str:
    for name, number in lines:
        path = Path(name)
        if "site-packages" not in path.parts and _HERE not in path.parents:
            return f" at {path.name}:{number}"
    return ""


_HERE = Path(__file__).parent
