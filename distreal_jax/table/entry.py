"""An entry of the dropout table: a configuration of a mini-batch, its cost and its measured progress.

An entry stores the number of filters that are kept in each filter group; a dropout rate is the fraction that is missing. An
entry may also train on only a part of the mini-batch's examples.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from distreal_jax.errors import InputError

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork


def kept_filters(filters: Sequence[int] | np.ndarray, rates: Sequence[float] | np.ndarray) -> np.ndarray:
    """The integer widths that realise dropout rates: filters times one minus the rate, rounded, but at least one filter.

    Halves are rounded to the even neighbour, as Python's `round` and IEEE 754 do: half of 3 filters is 2, half of 5 is 2.

    Args:
      filters: [groups], the number of filters of each group.
      rates: [..., groups], each in [0, 1).

    Returns:
      [..., groups] int32, each between 1 and the group's filters.

    Raises:
      InputError: A rate is outside [0, 1).
    """
    fractions = np.asarray(rates, dtype=np.float64)
    wrong = fractions[~((fractions >= 0) & (fractions < 1))]
    if wrong.size:
        raise InputError(f"dropout rate {wrong.flat[0]:g} is outside [0, 1); give rates of at least 0 and below 1")
    return np.maximum(1, np.rint(np.asarray(filters) * (1 - fractions))).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class TableEntry:
    """One dropout vector, for all examples of a mini-batch or a part of them.

    Attributes:
      widths: [groups], filters kept in each filter group.
      macs: Multiply-accumulates of the forward pass of one example.
      progress: Progress of a short training with this vector, in the unit of the search; None if not measured.
      progress_stderr: Standard error of `progress` over repeated measurements.
      flops: Floating-point operations of a compiled training step, as counted by XLA; None if not counted.
      seconds: Median seconds of a training step, by name of the device on which they were measured.
      batch_share: The fraction of a mini-batch's examples that is trained, in (0, 1].
    """

    widths: tuple[int, ...]
    macs: int
    progress: float | None = None
    progress_stderr: float | None = None
    flops: float | None = None
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    batch_share: float = 1.0

    @property
    def work(self) -> float:
        """MACs of a mini-batch's forward pass, divided by the number of examples of a whole mini-batch."""
        return self.macs * self.batch_share


def costed_entries(
    network: "TracedNetwork",
    widths: Sequence[Sequence[int]] | np.ndarray,
    progress: Sequence[float] | None = None,
    progress_stderr: Sequence[float] | None = None,
) -> tuple[TableEntry, ...]:
    """Entries of given widths in the order of their MACs; widths given twice are taken once, as they were given first.

    Args:
      network: Counts the MACs.
      widths: [entries, groups], filters kept.
      progress: [entries], if measured.
      progress_stderr: [entries], if measured.

    Raises:
      InputError: Another number of measurements than of entries.
    """
    rows = [tuple(int(width) for width in row) for row in widths]
    for name, values in (("progress", progress), ("progress_stderr", progress_stderr)):
        if values is not None and len(values) != len(rows):
            raise InputError(f"{len(values)} values of {name} for {len(rows)} entries; give one for each")
    entries = {
        row: TableEntry(
            row,
            network.macs(row),
            None if progress is None else float(progress[index]),
            None if progress_stderr is None else float(progress_stderr[index]),
        )
        for index, row in reversed(list(enumerate(rows)))
    }
    return tuple(sorted(entries.values(), key=lambda entry: entry.macs))


def relative_seconds(
    entries: Sequence[TableEntry], full_widths: tuple[int, ...], full_seconds: Mapping[str, float], device: str
) -> np.ndarray:
    """Seconds of entries on a device, as fractions of the full network's: float64 [entries].

    Args:
      entries: The entries.
      full_widths: [groups]; an entry of these is the full network, and needs no measurement.
      full_seconds: Of the full network, by device.
      device: On which they were measured.

    Raises:
      InputError: Not every narrower entry, or not the full network, was measured on the device.
    """
    is_full = [entry.widths == full_widths and entry.batch_share == 1 for entry in entries]
    narrower = [entry.seconds for entry, full in zip(entries, is_full, strict=True) if not full]
    if narrower and not all(device in seconds for seconds in (full_seconds, *narrower)):
        measured = ", ".join(sorted(full_seconds)) or "none"
        raise InputError(f"the table has no seconds of {device!r} (devices measured: {measured}); run `distreal profile`")
    return np.array(
        [1.0 if full else entry.seconds[device] / full_seconds[device] for entry, full in zip(entries, is_full, strict=True)]
    )


def check_entry(
    name: str, entry: TableEntry, group_names: Sequence[str], group_filters: Sequence[int], full_macs: int
) -> None:
    """Refuses an entry that its network can't have.

    Args:
      name: What an error calls it.
      entry: The entry.
      group_names: [groups], of the network's filter groups.
      group_filters: [groups], their filters in the full network.
      full_macs: MACs of the full network.

    Raises:
      InputError: A width, a cost or a measured value is outside its range.
    """
    if len(entry.widths) != len(group_filters):
        raise InputError(f"{name}.widths has {len(entry.widths)} widths for {len(group_filters)} filter groups")
    for group, width, filters in zip(group_names, entry.widths, group_filters, strict=True):
        if not 1 <= width <= filters:
            raise InputError(f"{name}.widths keeps {width} filters of {group!r}, expected 1 to {filters}")
    if not 1 <= entry.macs <= full_macs:
        raise InputError(f"{name}.macs is {entry.macs}, expected 1 to the full network's {full_macs}")
    if not 0 < entry.batch_share <= 1:
        raise InputError(f"{name}.batch_share is {entry.batch_share}, expected a part above 0 and at most 1")
    if entry.progress is not None and not math.isfinite(entry.progress):
        raise InputError(f"{name}.progress is {entry.progress}, expected a finite number")
    if entry.progress_stderr is not None and not 0 <= entry.progress_stderr < math.inf:
        raise InputError(f"{name}.progress_stderr is {entry.progress_stderr}, expected a finite number of at least 0")
    measured = [*entry.seconds.values(), *([] if entry.flops is None else [entry.flops])]
    if not all(0 < value < math.inf for value in measured):
        raise InputError(f"{name}: seconds and flops have to be finite and above 0; measure them again")


def check_order(entries: Sequence[TableEntry]) -> None:
    """Refuses, with an `InputError`, entries of which one is no dearer than the one before or, where known, no better."""
    for index, (cheaper, dearer) in enumerate(itertools.pairwise(entries), start=1):
        if dearer.work <= cheaper.work:
            raise InputError(
                f"entries[{index}].macs is {dearer.work:.15g}, the entry before it has {cheaper.work:.15g}; "
                "MACs have to increase from entry to entry: sort them, or drop one of equal cost"
            )
    known = [(index, entry.progress) for index, entry in enumerate(entries) if entry.progress is not None]
    for (before, less), (index, more) in itertools.pairwise(known):
        if more <= less:
            raise InputError(
                f"entries[{index}].progress is {more!r}, dominated by the {less!r} of the cheaper entries[{before}]; "
                "keep only entries on the Pareto front"
            )
