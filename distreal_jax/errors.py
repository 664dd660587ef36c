"""What the project says when it is given something it can't use."""

from collections.abc import Callable
from typing import Any


class InputError(Exception):
    """Bad input from a person or a file: one line that says what was given, what was expected, and what to do.

    The command lines of `experiments/` print it without a traceback and exit with status 2, before any training starts. It
    is no `ValueError`: of those, the parser of the command lines makes boxes of several lines.
    """


def check_settings(
    settings: object,
    *rules: tuple[str, Callable[[Any], bool], str],
    message: str = "{option} is {value}; give {expected}",
) -> None:
    """Refuses settings that make no sense, and says the first that makes none.

    Args:
      settings: Their attributes are checked.
      *rules: Each (names of attributes, separated by spaces; whether a value will do; what is expected). A comparison with
        NaN is false, so a rule refuses NaN if it says what will do and not what won't.
      message: May hold `{name}`, `{option}` (the name as on a command line), `{value}` and `{expected}`.

    Raises:
      InputError: A value won't do.
    """
    for names, will_do, expected in rules:
        for name in names.split():
            value = getattr(settings, name)
            if not will_do(value):
                raise InputError(message.format(name=name, option=name.replace("_", "-"), value=value, expected=expected))
