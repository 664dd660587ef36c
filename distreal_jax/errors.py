"""The error for input that can't be used, in one line, and suggestions for names that are misspelt."""

import difflib
from collections.abc import Iterable

_NEAR = 0.75  # of difflib's ratio, chosen by us: a slip of the keyboard is nearer, another method's name is not


class InputError(Exception):
    """Bad input from a person or a file: one line that says what was given, what was expected, and what to do.

    The command lines of `experiments/` print it without a traceback and exit with status 2, before any training starts. It
    is no `ValueError`: of those, the parser of the command lines makes boxes of several lines.

    Attributes:
      in_all: All processes of a job raise it, each for itself.
    """

    in_all = False


def in_one_line(error: BaseException) -> str:
    """What an error says, shortened to a line; its kind where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def choose_from(given: str, names: Iterable[str]) -> str:
    """What to do about an unknown name, for an error: the nearest of those that there are, if any is near, and all."""
    names = list(names)
    return f"{did_you_mean(given, names)}choose from: {', '.join(names)}"


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """The question whether the nearest of the names was meant, for an error; empty if none is near."""
    near = difflib.get_close_matches(given, list(names), n=1, cutoff=_NEAR)
    return f"did you mean {near[0]}? " if near else ""
