"""Options that several commands have, each with its help written once."""

import dataclasses
from typing import Annotated, Any, TypeVar

import tyro

from distreal_jax.experiment.command_line import parsed_list
from distreal_jax.experiment.speed import SpeedOf, estimated_speed, measured_speed
from distreal_jax.fleet.programs import Execution
from distreal_jax.methods import METHODS, that_train_on

_NAMES = ", ".join(METHODS)
_Compared = TypeVar("_Compared", bound=Any)  # the options of a command, which are a dataclass

OneMethod = Annotated[
    str,
    tyro.conf.arg(
        help=f"{_NAMES}, or your own as MODULE:NAME. Other choices go in brackets: distreal[filters=first,drawn=round]."
    ),
]
"""Names a method; the help lists them."""

ManyMethods = Annotated[
    str,
    tyro.conf.arg(
        help=f"Methods, separated by commas: {_NAMES}, or your own as MODULE:NAME. Other choices of a method go in "
        "brackets: distreal[filters=first,drawn=round]."
    ),
]
"""Names several methods; the help lists them."""

IsoCompute = Annotated[
    bool,
    tyro.conf.arg(
        help="All devices train until the deadline (idle=train for every method, and named so), so that no method leaves "
        "resources idle."
    ),
]
"""Whether methods are compared at equal computing."""

GivenTable = Annotated[
    str | None,
    tyro.conf.arg(
        help="Dropout table: a file, or the name of one that comes with the package. By default the one that comes with the "
        "package for the network, if there is one."
    ),
]
"""Names a dropout table."""

HowExecuted = Annotated[
    Execution,
    tyro.conf.arg(
        help="compact: dropped filters are not computed; masked: they are computed as zeros, in one program for all entries."
    ),
]
"""How training steps are executed."""

ManySeeds = Annotated[str, tyro.conf.arg(help="Seeds, such as 0,1,2 or 0-4.")]
"""Seeds of runs."""

DryRun = Annotated[
    bool,
    tyro.conf.arg(help="Print what would be done, what it costs and about how long it takes. Nothing is run or written."),
]
"""Whether a command says what it would do in place of doing it."""

Quiet = Annotated[bool, tyro.conf.arg(help="Print the result alone, no progress.")]
"""Whether a command without a folder of its own leaves out what it says on the way; others have it in `OutputSettings`."""

Measure = Annotated[
    bool,
    tyro.conf.arg(help="With --dry-run: compile and time two training steps, for a better estimate; may take minutes."),
]
"""Whether a dry run measures how fast this machine is."""


def speed_of(*, measure: bool) -> SpeedOf:
    """How a dry run finds out how fast this machine is."""
    return measured_speed if measure else estimated_speed


def at_equal_computing(options: _Compared) -> _Compared:
    """Options of a command that compares methods, as `iso_compute` wants them: with `methods` and `reference` named so.

    Raises:
      InputError: As `methods_named`.
    """
    if not options.iso_compute:
        return options
    changed = {"methods": ",".join(that_train_on(parsed_list(options.methods, "methods")))}
    if getattr(options, "reference", None) is not None:
        changed["reference"] = that_train_on([options.reference])[0]
    return dataclasses.replace(options, **changed)
