"""What a person names as MODULE:NAME on a command line: a network, a data set, a method or a load of their own.

MODULE is imported as Python imports it, from the current folder or from what is installed; NAME is a class, a function or a
value in it. Importing runs the module, so name only modules that you would run.
"""

import difflib
import hashlib
import importlib
import inspect
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distreal_jax.errors import InputError

_NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_PACKAGE = Path(__file__).parent
_hashes: dict[str, str] = {}


def is_own(name: str) -> bool:
    """Whether a text is written as MODULE:NAME."""
    return _NAMED.fullmatch(name) is not None


def own(name: str, what: str) -> Any:
    """The object of that name.

    Args:
      name: MODULE:NAME.
      what: It is meant for, as an error says it: `network`.

    Raises:
      InputError: No such module or name, or the module can't be imported.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        reason = "is neither in this folder nor installed" if missing else f"can't be imported: {_told(error)}"
        raise InputError(f"{what} {name!r}: module {module_name!r} {reason}") from error
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, vars(module), n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"give one of its names as {module_name}:NAME"
        raise InputError(f"{what} {name!r}: module {module_name!r} has no {attribute!r}; {meant}")
    file = getattr(module, "__file__", None)
    if file:
        _hashes[module_name] = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
    return getattr(module, attribute)


def called(function: Callable[..., Any], name: str, what: str, **given: Any) -> Any:
    """What a person's class or function returns, called with those of the given arguments that it takes, by their names.

    Args:
      function: The class or function.
      name: MODULE:NAME.
      what: It is meant for.
      **given: What it may take.

    Raises:
      InputError: It is not callable, takes another argument that has no default, or fails.
    """
    try:
        # A class of Flax says by its __init__ what it takes, and not by its own signature.
        start = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
        takes = inspect.signature(start)
        parameters = list(takes.parameters.values())[1 if isinstance(function, type) else 0 :]
    except (TypeError, ValueError):
        raise InputError(f"{what} {name!r} is a {type(function).__name__}; give a class or a function") from None
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    unknown = [parameter for parameter in needed if parameter not in given]
    if unknown:
        called_with = f"it may take {', '.join(given)}, by name" if given else "it is called without arguments"
        raise InputError(f"{what} {name!r} takes {', '.join(unknown)}, which is not known here; {called_with}")
    names = [parameter.name for parameter in parameters]
    try:
        return function(**{key: value for key, value in given.items() if takes_all or key in names})
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what} {name!r} fails: {_told(error)}") from error


def own_code() -> dict[str, str]:
    """Every module that a name was taken from, and a hash of its file: what is computed depends on it."""
    return dict(_hashes)


def _told(error: Exception) -> str:
    """An error in one line, with the place in the person's code."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    theirs = (frame for frame in frames if not Path(frame.filename).is_relative_to(_PACKAGE) and frame.lineno)
    last = next((frame for frame in theirs if not {"site-packages", "importlib"} & set(Path(frame.filename).parts)), None)
    place = f" ({Path(last.filename).name}, line {last.lineno})" if last and not isinstance(error, SyntaxError) else ""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}{place}"
