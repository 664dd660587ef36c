"""What an equation says of itself: the jaxpr that it calls, if it is such a call, and the line that it comes from."""

import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jax.extend import core

_CALLS = frozenset("jit pjit closed_call core_call checkpoint remat remat2 custom_jvp_call custom_vjp_call".split())


def inner_jaxpr(equation: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """The jaxpr that the equation runs once on its own operands, if it is such a call."""
    if equation.primitive.name not in _CALLS:
        return None
    inner: core.Jaxpr | core.ClosedJaxpr = equation.params["jaxpr" if "jaxpr" in equation.params else "call_jaxpr"]
    return inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())


def line_of(source: Any) -> str:
    """The user's own line that an equation comes from, such as " at model.py:17"; nothing if there is none.

    Args:
      source: Of the equation, `source_info`.
    """
    frames = getattr(source.traceback, "frames", ())
    return _first_own((frame.file_name, frame.line_num) for frame in frames)


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
