"""The dropout table: the vectors of per-layer dropout rates that every device stores, from the cheapest to the full network.

Before each mini-batch a device looks at what it can spend now and takes the best entry that fits (Rapp et al., AAAI 2022).
What is stored and costed is the number of filters kept in each filter group; a rate is what is missing from all of them.
"""

import bisect
import dataclasses
import itertools
import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from distreal_jax.document import plain_json
from distreal_jax.errors import InputError
from distreal_jax.table_file import read_table, table_file, write_table

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork

_REMEDY = "make the table again with experiments/search.py"


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
    """One dropout vector, what it costs and what it achieves.

    Attributes:
      widths: [groups], filters kept in each filter group.
      macs: Multiply-accumulates of one example's forward pass.
      progress: Progress of a short training with this vector, in the unit of the search; None: not measured.
      progress_stderr: Standard error of `progress` over repeated measurements.
      flops: Floating-point operations of a compiled training step, by XLA's count; None: not counted.
      seconds: Median seconds of a training step, by the name of the device they were measured on.
    """

    widths: tuple[int, ...]
    macs: int
    progress: float | None = None
    progress_stderr: float | None = None
    flops: float | None = None
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class DropoutTable:
    """Dropout vectors of one network, each dearer than the one before and, where progress is known, better.

    Attributes:
      network: Signature of the traced network that the table was made for.
      group_names: [groups], after the layers that create the filters.
      group_filters: [groups], the filters of each group in the full network.
      entries: In strictly increasing order of MACs; none dominated by another.
      provenance: Where the table comes from (command, seed, data set, commit, versions, machine, date): any JSON values.
      full_macs: MACs of the full network, of which costs are fractions, whether or not it is an entry.
      full_seconds: Seconds of the full network's training step, by device.

    Raises:
      InputError: On creation, if anything of the above does not hold.
    """

    network: str
    group_names: tuple[str, ...]
    group_filters: tuple[int, ...]
    entries: tuple[TableEntry, ...]
    provenance: Mapping[str, Any]
    full_macs: int
    full_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.entries:
            raise InputError("a dropout table needs at least one entry; give the widths of one")
        if len(self.group_names) != len(self.group_filters):
            raise InputError(
                f"{len(self.group_names)} group names for {len(self.group_filters)} filter counts; give one each"
            )
        if min(self.group_filters, default=1) < 1 or self.full_macs < 1:
            raise InputError(
                "the filters of a group and the MACs of the full network are at least 1; trace the network again"
            )
        for index, entry in enumerate(self.entries):
            self._check_entry(f"entries[{index}]", entry)
        if any(not _is_positive(value) for value in self.full_seconds.values()):
            raise InputError(f"full_seconds is {reprlib.repr(self.full_seconds)}; seconds have to be above 0: measure again")
        for index, (cheaper, dearer) in enumerate(itertools.pairwise(self.entries), start=1):
            if dearer.macs <= cheaper.macs:
                raise InputError(
                    f"entries[{index}].macs is {dearer.macs}, the entry before it has {cheaper.macs}; "
                    "MACs have to increase from entry to entry: sort them, or drop one of equal cost"
                )
        known = [(index, entry.progress) for index, entry in enumerate(self.entries) if entry.progress is not None]
        for (before, less), (index, more) in itertools.pairwise(known):
            if more <= less:
                raise InputError(
                    f"entries[{index}].progress is {more!r}, dominated by the {less!r} of the cheaper entries[{before}]; "
                    "keep only entries on the Pareto front"
                )
        object.__setattr__(self, "provenance", plain_json(dict(self.provenance), "the provenance"))

    def _check_entry(self, name: str, entry: TableEntry) -> None:
        if len(entry.widths) != len(self.group_filters):
            raise InputError(f"{name}.widths has {len(entry.widths)} widths for {len(self.group_filters)} filter groups")
        for group, width, filters in zip(self.group_names, entry.widths, self.group_filters, strict=True):
            if not 1 <= width <= filters:
                raise InputError(f"{name}.widths keeps {width} filters of {group!r}, expected 1 to {filters}")
        if not 1 <= entry.macs <= self.full_macs:
            raise InputError(f"{name}.macs is {entry.macs}, expected 1 to the full network's {self.full_macs}")
        if entry.progress is not None and not math.isfinite(entry.progress):
            raise InputError(f"{name}.progress is {entry.progress}, expected a finite number")
        if entry.progress_stderr is not None and not 0 <= entry.progress_stderr < math.inf:
            raise InputError(f"{name}.progress_stderr is {entry.progress_stderr}, expected a finite number of at least 0")
        if not all(map(_is_positive, [*entry.seconds.values(), *([] if entry.flops is None else [entry.flops])])):
            raise InputError(f"{name}: seconds and flops have to be finite and above 0; measure them again")

    @classmethod
    def from_widths(
        cls,
        network: "TracedNetwork",
        widths: Sequence[Sequence[int]] | np.ndarray,
        *,
        progress: Sequence[float] | None = None,
        progress_stderr: Sequence[float] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """A table of given widths, costed by the network and sorted; widths given twice are taken once.

        Args:
          network: The traced network.
          widths: [entries, groups], filters kept.
          progress: [entries], if measured.
          progress_stderr: [entries], if measured.
          provenance: JSON values that say where the widths come from.

        Raises:
          InputError: Widths outside 1 to the group's filters, two entries of equal cost, or one that is dominated.
        """
        filters = tuple(group.filters for group in network.filter_groups)
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
        return cls(
            network.signature(),
            tuple(group.name for group in network.filter_groups),
            filters,
            tuple(sorted(entries.values(), key=lambda entry: entry.macs)),
            provenance or {},
            network.macs(),
        )

    @classmethod
    def uniform(cls, network: "TracedNetwork", rates: Sequence[float], *, dense: bool = False) -> Self:
        """A table that drops every convolutional group at one rate, for the ablation of the searched vectors.

        Args:
          network: The traced network.
          rates: Each in [0, 1), rounded as in `kept_filters`; rates that keep the same filters make one entry.
          dense: Hidden dense units are dropped too; otherwise they are kept whole.

        Raises:
          InputError: No rate, or one outside [0, 1).
        """
        dropped = np.array([group.convolutional or dense for group in network.filter_groups])
        widths = kept_filters([group.filters for group in network.filter_groups], np.outer(rates, dropped))
        return cls.from_widths(network, widths, provenance={"made_by": "one rate for all layers", "dense": dense})

    @classmethod
    def full(cls, network: "TracedNetwork") -> Self:
        """A table with the full network as its only entry."""
        return cls.from_widths(network, [network.full_widths], provenance={"made_by": "the full network"})

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """Reads a table and checks all of it.

        Args:
          source: A path; or the bare name (no folder, no `.json`) of a table that comes with the package.

        Raises:
          InputError: No such table, or the file is damaged, of a newer schema, or says something that can't be.
        """
        return read_table(
            table_file(source),
            lambda entries, **fields: cls(entries=tuple(TableEntry(**entry) for entry in entries), **fields),
        )

    def save(self, path: str | Path) -> None:
        """Writes the table as JSON, replacing a file at `path` as a whole; raises `InputError` if it can't be written."""
        write_table(Path(path), dataclasses.asdict(self))

    def select_index(self, budget_macs: float) -> int:
        """Index of `select`'s entry."""
        if math.isnan(budget_macs):
            raise InputError("the budget is NaN, expected a number of MACs; check what it was computed from")
        return max(0, bisect.bisect_right(self.entries, budget_macs, key=lambda entry: entry.macs) - 1)

    def select(self, budget_macs: float) -> TableEntry:
        """The best entry that fits the budget: the dearest, as none is dominated. The cheapest entry if none fits."""
        return self.entries[self.select_index(budget_macs)]

    def select_share(self, share: float, unit: str = "macs") -> TableEntry:
        """The best entry whose cost is at most this share of the full network's; the cheapest entry if none is.

        Args:
          share: Of `full_macs`, or of `full_seconds` on the device.
          unit: As for `costs`.

        Raises:
          InputError: As `costs`, or the share is NaN.
        """
        if math.isnan(share):
            raise InputError("the share is NaN, expected a fraction of the full network's cost; check what it came from")
        costs = self.costs(unit)
        fitting = np.flatnonzero(costs <= share)
        return self.entries[fitting[-1] if fitting.size else costs.argmin()]

    def costs(self, unit: str = "macs") -> np.ndarray:
        """[entries] float64: each entry's cost as a fraction of the full network's, whose own is 1 in any unit.

        Seconds need not increase from entry to entry, nor stay below 1: see `undominated`.

        Args:
          unit: `macs`, or `seconds:<device>` for the seconds measured on that device.

        Raises:
          InputError: An unknown unit, or a device on which not every entry and the full network were measured.
        """
        if unit == "macs":
            return np.array([entry.macs / self.full_macs for entry in self.entries])
        kind, _, device = unit.partition(":")
        if kind != "seconds" or not device:
            raise InputError(f"unknown unit of cost {unit!r}; choose macs or seconds:<device>")
        narrower = [entry.seconds for entry in self.entries if entry.widths != self.group_filters]
        if narrower and not all(device in seconds for seconds in (self.full_seconds, *narrower)):
            measured = ", ".join(sorted(self.full_seconds)) or "none"
            raise InputError(
                f"the table has no seconds of {device!r} (devices measured: {measured}); run experiments/profile_device.py"
            )
        return np.array(
            [
                1.0 if entry.widths == self.group_filters else entry.seconds[device] / self.full_seconds[device]
                for entry in self.entries
            ]
        )

    def undominated(self, unit: str = "macs") -> Self:
        """The entries worth choosing at their cost in this unit, which then increases from entry to entry.

        In MACs these are all of them. Measured seconds need not follow MACs: an entry goes if a better one, or the full
        network, is as fast or faster.

        Args:
          unit: As for `costs`.

        Raises:
          InputError: As `costs`, or every entry is slower than the full network.
        """
        kept, least = list[TableEntry](), math.nextafter(1.0, 2.0)
        for entry, cost in zip(reversed(self.entries), reversed(self.costs(unit)), strict=True):
            if cost < least:
                kept, least = [entry, *kept], cost
        if not kept:
            raise InputError(
                f"by {unit} every entry of the table is slower than the full network; add the full network to it"
            )
        return dataclasses.replace(self, entries=tuple(kept))

    def dropout_rates(self) -> np.ndarray:
        """[entries, groups] float64: the fraction of each group's filters that an entry drops."""
        widths = np.array([entry.widths for entry in self.entries], dtype=np.float64)
        return 1 - widths / np.array(self.group_filters, dtype=np.float64)

    def with_seconds(self, device: str, seconds: Sequence[float], full_seconds: float) -> Self:
        """The same table with the seconds of a training step on a device: [entries], and the full network's."""
        if len(seconds) != len(self.entries):
            raise InputError(f"{len(seconds)} measured seconds for {len(self.entries)} entries; measure each entry")
        entries = tuple(
            dataclasses.replace(entry, seconds={**entry.seconds, device: float(measured)})
            for entry, measured in zip(self.entries, seconds, strict=True)
        )
        return dataclasses.replace(self, entries=entries, full_seconds={**self.full_seconds, device: float(full_seconds)})

    def with_flops(self, flops: Sequence[float]) -> Self:
        """The same table with the floating-point operations of a compiled training step: [entries]."""
        if len(flops) != len(self.entries):
            raise InputError(f"{len(flops)} counts of flops for {len(self.entries)} entries; count each entry")
        counted = zip(self.entries, flops, strict=True)
        return dataclasses.replace(
            self, entries=tuple(dataclasses.replace(entry, flops=float(count)) for entry, count in counted)
        )

    def checked_for(self, network: "TracedNetwork") -> Self:
        """The table itself, if it was made for this network.

        Raises:
          InputError: It was made for another network, or the network counts other MACs for an entry.
        """
        filters = tuple(group.filters for group in network.filter_groups)
        if filters != self.group_filters or network.signature() != self.network:
            raise InputError(
                f"the table was made for another network (groups of {reprlib.repr(self.group_filters)} filters, this one "
                f"{reprlib.repr(filters)}; signature {self.network[:12]}, this one's {network.signature()[:12]}); {_REMEDY}"
            )
        for index, entry in enumerate(self.entries):
            if network.macs(entry.widths) != entry.macs:
                raise InputError(
                    f"entries[{index}].macs is {entry.macs}, the network counts {network.macs(entry.widths)}; {_REMEDY}"
                )
        return self


def _is_positive(value: float) -> bool:
    return 0 < value < math.inf
