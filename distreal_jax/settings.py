"""Types and ranges of settings, declared once beside each field, and checked for command lines and programs alike.

@dataclasses.dataclass(frozen=True)
class Settings:
rounds: Annotated[int, Within(1, 1_000_000)] = 50
optimizer: Literal["sgd", "adam"] = "sgd"

def __post_init__(self) -> None:
check_settings(self)
"""

import dataclasses
import functools
import json
import math
import numbers
import reprlib
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, Union

from distreal_jax.errors import InputError

SEEDS = 2**32  # JAX's keys take no more bits: a seed of 2**32 would be that of 0


@dataclasses.dataclass(frozen=True)
class Within:
    """The range of a number, its ends included but where they are said not to be; infinity and NaN are in none.

    Attributes:
      least: The lower end.
      most: The upper end.
      above: The lower end itself is excluded.
      below: The upper end itself is excluded.
    """

    least: float
    most: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: Any) -> bool:
        over = value > self.least if self.above else value >= self.least
        return bool(over and (value < self.most if self.below else value <= self.most))

    def __str__(self) -> str:
        low = f"above {_shown(self.least)}" if self.above else f"of at least {_shown(self.least)}"
        return f"{low} and {'below' if self.below else 'at most'} {_shown(self.most)}"


# Chosen by us: far beyond use, and small enough for counters, memory and float32.
COUNT = Within(1, 10**7)  # rounds, evaluations, repetitions
STEPS = Within(1, 10**5)  # in a round, and examples in a mini-batch
FACTOR = Within(0, 1e30)  # of a term, which float32 holds
STEP_SIZE = Within(1e-30, 1e30)  # of an optimiser
SECONDS = Within(1e-6, 1e9)
SEED = Within(0, SEEDS, below=True)


def check_settings(settings: Any, *, message: str = "{option} is {value}; give {expected}") -> None:
    """Refuses settings that are not of the types and ranges that their class declares, and says the first that is not.

    Args:
      settings: A dataclass. Fields that are dataclasses themselves have been checked when they were made.
      message: May hold `{name}`, `{option}` (the name as on a command line), `{value}` and `{expected}`.

    Raises:
      InputError: A value won't do.
    """
    for name, (hint, within) in _declared(settings.__class__).items():
        value = getattr(settings, name)
        if not _fits(value, hint, within):
            expected, option = _expected(hint, within), name.replace("_", "-")
            raise InputError(message.format(name=name, option=option, value=_shown(value), expected=expected))


@functools.cache
def _declared(kind: Any) -> dict[str, tuple[Any, Within | None]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: _unwrapped(hints[field.name]) for field in dataclasses.fields(kind)}


def _unwrapped(hint: Any) -> tuple[Any, Within | None]:
    """A type without its annotations, and the range among these."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint, None
    inner, *notes = typing.get_args(hint)
    return inner, next((note for note in notes if isinstance(note, Within)), None)


def _fits(value: Any, hint: Any, within: Within | None) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, *_with(within, argument)) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, *_unwrapped(arguments[0])) for item in value)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint in (int, float):
        # True is a whole number to Python, and to nobody else; so are numpy's numbers, to everybody
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool) and _finite(value) and (not within or value in within)
    if hint is Path:
        return isinstance(value, str | Path)
    return not isinstance(hint, type) or isinstance(value, hint)


def _with(within: Within | None, hint: Any) -> tuple[Any, Within | None]:
    inner, own = _unwrapped(hint)
    return inner, own or within


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return True


def _expected(hint: Any, within: Within | None) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(*_with(within, argument)) for argument in arguments if argument is not type(None))
    if origin is tuple:
        return f"a list, each {_expected(*_unwrapped(arguments[0]))}"
    if origin is Literal:
        return f"one of: {', '.join(map(str, arguments))}"
    if hint in (int, float):
        kind = "a whole number" if hint is int else "a finite number"
        return f"{kind} {within}" if within else kind
    return {str: "a text", bool: "True or False", Path: "a path"}.get(hint, f"a {getattr(hint, '__name__', hint)}")


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**20:  # Python itself writes no number of 4,300 digits
        return "a number of more than 20 digits"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return value if isinstance(value, str) and value.isprintable() and len(value) < 40 else reprlib.repr(value)


def first_difference(one: Any, other: Any, but_for: Collection[str] = (), name: str = "") -> tuple[str, str, str] | None:
    """Where two settings, JSON values, differ first.

    Args:
      one: The first.
      other: The second.
      but_for: Names that may differ.
      name: Of what is compared.

    Returns:
      The name with those of what it lies in, as `training.rounds`, and both values as JSON, or "not set"; None: nowhere.
    """
    if name in but_for:
        return None
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            where = f"{name}.{key}" if name else key
            if (key not in one or key not in other) and where not in but_for:
                return where, "set" if key in one else "not set", "set" if key in other else "not set"
            if difference := first_difference(one.get(key), other.get(key), but_for, where):
                return difference
        return None
    # 1 == True to Python, and 1 == 1.0, but not to a reader of the settings
    first, second = json.dumps(one), json.dumps(other)
    return None if first == second else (name, first, second)
