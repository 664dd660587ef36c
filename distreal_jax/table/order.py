"""The order of a table's entries: what they cost in its unit, and which of them are worth choosing at that."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.table.entry import TableEntry

MACS = "macs"


def relative_costs(
    entries: Sequence[TableEntry],
    unit: str,
    full_widths: tuple[int, ...],
    full_macs: int,
    full_seconds: Mapping[str, float],
) -> npt.NDArray[np.float64]:
    """What entries cost, as fractions of the full network's cost: float64 [entries].

    Args:
      entries: The entries.
      unit: `macs`, or `seconds:<device>` for the seconds measured on that device.
      full_widths: [groups]; an entry of these is the full network, whose cost is 1 in any unit.
      full_macs: MACs of training the full network with one example.
      full_seconds: Of the full network's step, by device.

    Raises:
      InputError: An unknown unit, or a device on which not every narrower entry and the full network were measured.
    """
    if unit == MACS:
        return np.array([entry.work / full_macs for entry in entries])
    device = device_of(unit)
    is_full = [entry.configuration.is_full(full_widths) for entry in entries]
    narrower = [entry.seconds for entry, full in zip(entries, is_full, strict=True) if not full]
    if narrower and not all(device in seconds for seconds in (full_seconds, *narrower)):
        measured = ", ".join(sorted(full_seconds)) or "none"
        raise InputError(f"the table has no seconds of {device!r} (devices measured: {measured}); run `distreal profile`")
    return np.array(
        [1.0 if full else entry.seconds[device] / full_seconds[device] for entry, full in zip(entries, is_full, strict=True)]
    )


def device_of(unit: str) -> str:
    """The device of a unit of seconds; raises `InputError` if the unit is no `seconds:<device>`."""
    kind, _, device = unit.partition(":")
    if kind != "seconds" or not device:
        raise InputError(f"unknown unit of cost {unit!r}; choose macs or seconds:<device>")
    return device


def worth_choosing(
    entries: Sequence[TableEntry], costs: Sequence[float] | npt.NDArray[np.float64], most: float = math.inf
) -> tuple[TableEntry, ...]:
    """Those of entries, from the least to the best progress, that cost less than every better one, and less than `most`."""
    kept, least = list[TableEntry](), most
    for entry, cost in zip(reversed(entries), reversed(costs), strict=True):
        if cost < least:
            kept.append(entry)
            least = cost
    return tuple(reversed(kept))


def check_order(entries: Sequence[TableEntry], costs: npt.NDArray[np.float64], unit: str) -> None:
    """Refuses, with an `InputError`, entries of which one is no dearer than the one before or, where known, no better."""
    name = "MACs" if unit == MACS else unit
    for index, (cheaper, dearer) in enumerate(itertools.pairwise(costs.tolist()), start=1):
        if dearer <= cheaper:
            raise InputError(
                f"entries[{index}] costs {dearer:.15g} of the full network in {name}, the entry before it {cheaper:.15g}; "
                f"{name} have to increase from entry to entry: sort them, or drop one of equal cost"
            )
    known = [(index, entry.progress) for index, entry in enumerate(entries) if entry.progress is not None]
    for (before, less), (index, more) in itertools.pairwise(known):
        if more <= less:
            raise InputError(
                f"entries[{index}].progress is {more!r}, dominated by the {less!r} of the cheaper entries[{before}]; "
                "keep only entries on the Pareto front"
            )
