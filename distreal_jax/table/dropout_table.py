"""The dropout table: the vectors of per-layer dropout rates that every device stores, from the cheapest to the full network.

Before each mini-batch a device checks what it can spend now and takes the best entry that fits (Rapp et al., AAAI 2022). An
entry may choose more than filters: a part of the mini-batch's examples, the first layer that is trained, and the step size
(`Configuration`).
"""

import dataclasses
import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from distreal_jax.document import plain_json
from distreal_jax.errors import InputError
from distreal_jax.table import shown
from distreal_jax.table.configuration import Configuration, Configurations, check_configuration
from distreal_jax.table.entry import TableEntry, check_entry, costed_entries, kept_filters
from distreal_jax.table.file import read_table, shipped_tables, table_file, write_table
from distreal_jax.table.order import MACS, check_order, relative_costs, worth_choosing
from distreal_jax.tracing.filter_group import dropped_groups

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork

_REMEDY = "make the table again with `distreal search`"


@dataclasses.dataclass(frozen=True)
class DropoutTable:
    """Dropout vectors of one network. Each costs more than the one before and, where progress was measured, is better.

    Attributes:
      network: Signature of the traced network for which the table was made.
      group_names: [groups], named after the layers that create the filters.
      group_filters: [groups], the filters of each group in the full network.
      entries: The entries in strictly increasing order of cost in `unit`; none is dominated by another.
      provenance: The origin of the table (command, seed, data set, commit, versions, machine, date) as JSON values.
      full_macs: MACs of training the full network with one example, to which costs are relative; it need not be an entry.
      full_seconds: Seconds of the full network's training step, by device.
      estimated: Whether MACs are three times those of the forward pass, as in files of before 2026-11-26; `checked_for`
        counts them exactly.
      unit: In which entries are ordered: `macs`, or `seconds:<device>`.

    Raises:
      InputError: On creation, if one of the above does not hold.
    """

    network: str
    group_names: tuple[str, ...]
    group_filters: tuple[int, ...]
    entries: tuple[TableEntry, ...]
    provenance: Mapping[str, Any]
    full_macs: int
    full_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    estimated: bool = False
    unit: str = MACS

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
            check_entry(f"entries[{index}]", entry, self.group_names, self.group_filters, self.full_macs)
        if not all(0 < value < math.inf for value in self.full_seconds.values()):
            raise InputError(f"full_seconds is {reprlib.repr(self.full_seconds)}; seconds have to be above 0: measure again")
        check_order(self.entries, self.costs(self.unit), self.unit)
        object.__setattr__(self, "provenance", plain_json(dict(self.provenance), "the provenance"))

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
        """A table of given widths, all else as usual; see `from_configurations`.

        Args:
          network: The traced network.
          widths: [entries, groups], filters kept.
          progress: [entries], if measured.
          progress_stderr: [entries], if measured.
          provenance: JSON values that say where the widths come from.

        Raises:
          InputError: As `from_configurations`.
        """
        rows = [Configuration(tuple(int(width) for width in row)) for row in widths]
        return cls.from_configurations(
            network, rows, progress=progress, progress_stderr=progress_stderr, provenance=provenance
        )

    @classmethod
    def from_configurations(
        cls,
        network: "TracedNetwork",
        configurations: Sequence[Configuration],
        *,
        progress: Sequence[float] | None = None,
        progress_stderr: Sequence[float] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """A table of given configurations, costed by the network and sorted; one given twice is taken once.

        Args:
          network: The traced network.
          configurations: [entries].
          progress: [entries], if measured.
          progress_stderr: [entries], if measured.
          provenance: JSON values that say where the configurations come from.

        Raises:
          InputError: A configuration that the network can't train, two of equal cost, or one that is dominated.
        """
        names, filters = [group.name for group in network.filter_groups], network.full_widths
        for index, entry in enumerate(configurations):
            check_configuration(f"configurations[{index}]", entry, names, filters, len(network.order.layers))
        return cls(
            network.signature(),
            tuple(names),
            filters,
            costed_entries(network, configurations, progress, progress_stderr),
            provenance or {},
            network.training_macs(),
        )

    @classmethod
    def uniform(cls, network: "TracedNetwork", rates: Sequence[float], *, dense: bool = False) -> Self:
        """A table with one rate for all groups that may be dropped (`dropped_groups`): the baseline for searched vectors.

        Args:
          network: The traced network.
          rates: Each in [0, 1), rounded as in `kept_filters`; rates that keep the same filters make one entry.
          dense: Whether hidden dense units are dropped too; if not, networks with convolutions keep them whole.

        Raises:
          InputError: No rate, or one outside [0, 1).
        """
        dropped = dropped_groups(network.filter_groups, dense=dense)
        widths = kept_filters([group.filters for group in network.filter_groups], np.outer(rates, dropped))
        return cls.from_widths(network, widths, provenance={"made_by": "one rate for all layers", "dense": dense})

    @classmethod
    def frozen(cls, network: "TracedNetwork") -> Self:
        """A table of the full network with its first layers frozen: none, one, two, up to all but the last.

        Of depths that cost the same (nothing is saved below a layer that runs beside another) the one that trains
        most stays.
        """
        by_cost = {}
        for depth in reversed(range(len(network.order.layers))):
            chosen = Configuration(network.full_widths, depth=depth)
            by_cost[chosen.macs(network)] = chosen
        provenance = {"made_by": "frozen first layers, all filters"}
        return cls.from_configurations(network, list(by_cost.values()), provenance=provenance)

    @classmethod
    def full(cls, network: "TracedNetwork") -> Self:
        """A table with the full network as its only entry."""
        return cls.from_widths(network, [network.full_widths], provenance={"made_by": "the full network"})

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """Reads a table and checks all of its fields.

        Args:
          source: A path, or the bare name (no folder, no `.json`) of a table that comes with the package.

        Raises:
          InputError: There is no such table, or the file is damaged, has a newer schema, or holds an impossible value.
        """
        return read_table(
            table_file(source),
            lambda entries, **fields: cls(entries=tuple(TableEntry(**entry) for entry in entries), **fields),
        )

    @classmethod
    def shipped_for(cls, network: "TracedNetwork") -> Self | None:
        """The table in the package that drops filters alone, as the paper's do, of this network, or None.

        Args:
          network: With its input size and its classes.
        """
        own = cls.all_shipped_for(network).values()
        return next((table for table in own if table.configurations.filters_alone), None)

    @classmethod
    def all_shipped_for(cls, network: "TracedNetwork") -> dict[str, Self]:
        """All tables in the package of this network, with its input size and its classes, by name."""
        signature = network.signature()
        return {name: table for name in shipped_tables() if (table := cls.load(name)).network == signature}

    def __str__(self) -> str:
        return shown.as_text(self)

    def _repr_html_(self) -> str:
        return shown.as_html(self)

    def save(self, path: str | Path) -> None:
        """Writes the table as JSON, replacing a file at `path` as a whole; raises `InputError` if it can't be written."""
        write_table(Path(path), dataclasses.asdict(self))

    def select_index(self, budget_macs: float) -> int:
        """Index of the entry that `select` returns.

        Raises:
          InputError: The budget is NaN.
        """
        if math.isnan(budget_macs):
            raise InputError("the budget is NaN, expected a number of MACs; check what it was computed from")
        work = np.array([entry.work for entry in self.entries])
        fitting = np.flatnonzero(work <= budget_macs)
        return int(fitting[-1] if fitting.size else work.argmin())

    def select(self, budget_macs: float) -> TableEntry:
        """The best entry that fits the budget (the last of these, as no entry is dominated), or the cheapest if none fits.

        Args:
          budget_macs: MACs of training that can be spent for each example of a whole mini-batch.

        Raises:
          InputError: The budget is NaN.
        """
        return self.entries[self.select_index(budget_macs)]

    def select_share(self, share: float, unit: str = "macs") -> TableEntry:
        """The best entry whose cost is at most this share of the full network's, or the cheapest if there is none.

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

        In another unit than its own they need not increase from entry to entry, nor stay below 1: see `undominated`.

        Args:
          unit: `macs`, or `seconds:<device>` for the seconds measured on that device.

        Raises:
          InputError: An unknown unit, or a device on which not every entry and the full network were measured.
        """
        return relative_costs(self.entries, unit, self.group_filters, self.full_macs, self.full_seconds)

    def worth_choosing(self, unit: str = "macs") -> tuple[TableEntry, ...]:
        """The entries of `undominated`; none, where every entry is slower than the full network.

        Args:
          unit: As for `costs`.

        Raises:
          InputError: As `costs`.
        """
        return worth_choosing(self.entries, self.costs(unit), most=math.nextafter(1.0, 2.0))

    def undominated(self, unit: str = "macs") -> Self:
        """The entries worth choosing at their cost in this unit, which then increases from entry to entry.

        In the table's own unit these are all of them. Measured seconds need not follow MACs: an entry goes if a better one,
        or the full network, costs no more.

        Args:
          unit: As for `costs`.

        Raises:
          InputError: As `costs`, or every entry is slower than the full network.
        """
        kept = self.worth_choosing(unit)
        if not kept:
            raise InputError(
                f"by {unit} every entry of the table is slower than the full network; add the full network to it"
            )
        return dataclasses.replace(self, entries=kept, unit=unit)

    def with_cut_batches(self, batch_size: int) -> Self:
        """The table of a device that leaves out examples of a mini-batch before it drops filters.

        The dearest entry is offered with all examples down to one example; cheaper entries follow with one example. The
        number of examples is always a divisor of the batch size: repeated, they fill the mini-batch, so that masked
        execution has the same mean. Measurements on whole mini-batches are removed.

        Args:
          batch_size: Examples of a whole mini-batch.
        """
        *cheaper, dearest = self.undominated(MACS).entries  # of parts of mini-batches nothing else is known
        sizes = [size for size in range(1, batch_size + 1) if batch_size % size == 0]
        ladder = [*((entry, 1) for entry in cheaper), *((dearest, size) for size in sizes)]
        entries = [
            TableEntry(
                entry.widths,
                entry.macs,
                batch_share=entry.batch_share * size / batch_size,
                depth=entry.depth,
                step_factor=entry.step_factor,
            )
            for entry, size in ladder
        ]
        return dataclasses.replace(self, entries=tuple(entries), unit=MACS)

    def for_batches(self, batch_size: int) -> Self:
        """The table for mini-batches of that size: each share of examples is that of the nearest divisor.

        Divisors, repeated, fill a mini-batch, so that masked execution has the same mean. Costs follow the share, and an
        entry goes that costs no less than a better one. Seconds and memory of an entry whose share changes are left out,
        and a table that was ordered by seconds is ordered by MACs then.

        Args:
          batch_size: Examples of a whole mini-batch.
        """
        sizes = np.array([size for size in range(1, batch_size + 1) if batch_size % size == 0])
        shares = [
            float(sizes[np.abs(np.log(sizes / (entry.batch_share * batch_size))).argmin()] / batch_size)
            for entry in self.entries
        ]
        if all(math.isclose(share, entry.batch_share) for share, entry in zip(shares, self.entries, strict=True)):
            return self
        changed = [
            entry
            if math.isclose(share, entry.batch_share)
            else dataclasses.replace(entry, batch_share=share, seconds={}, flops=None, memory=None)
            for share, entry in zip(shares, self.entries, strict=True)
        ]
        kept = worth_choosing(changed, [entry.work for entry in changed])
        return dataclasses.replace(self, entries=kept, unit=MACS)

    def dropout_rates(self) -> np.ndarray:
        """[entries, groups] float64: the fraction of each group's filters that an entry drops."""
        widths = np.array([entry.widths for entry in self.entries], dtype=np.float64)
        return 1 - widths / np.array(self.group_filters, dtype=np.float64)

    def with_seconds(self, device: str, seconds: Sequence[float], full_seconds: float) -> Self:
        """The same table with the measured seconds of a training step on a device.

        Of a table that is ordered by these seconds, entries go that are not worth choosing by the new ones.

        Args:
          device: Its name, as in `--cost seconds:NAME`.
          seconds: Of each entry, [entries].
          full_seconds: Of the full network.

        Raises:
          InputError: Not one measurement for each entry.
        """
        if len(seconds) != len(self.entries):
            raise InputError(f"{len(seconds)} measured seconds for {len(self.entries)} entries; measure each entry")
        entries = tuple(
            dataclasses.replace(entry, seconds={**entry.seconds, device: float(measured)})
            for entry, measured in zip(self.entries, seconds, strict=True)
        )
        full = {**self.full_seconds, device: float(full_seconds)}
        if self.unit == f"seconds:{device}":
            costs = relative_costs(entries, self.unit, self.group_filters, self.full_macs, full)
            entries = worth_choosing(entries, costs, most=math.nextafter(1.0, 2.0))
        return dataclasses.replace(self, entries=entries, full_seconds=full)

    def with_flops(self, flops: Sequence[float]) -> Self:
        """The same table with the floating-point operations of each entry's compiled training step, [entries].

        Raises:
          InputError: Not one count for each entry.
        """
        if len(flops) != len(self.entries):
            raise InputError(f"{len(flops)} counts of flops for {len(self.entries)} entries; count each entry")
        counted = zip(self.entries, flops, strict=True)
        return dataclasses.replace(
            self, entries=tuple(dataclasses.replace(entry, flops=float(count)) for entry, count in counted)
        )

    def checked_for(self, network: "TracedNetwork") -> Self:
        """The table, if it was made for this network, with exactly counted MACs.

        Raises:
          InputError: It was made for another network, or the network counts other MACs for an entry, or an entry freezes
            all of its layers.
        """
        filters = tuple(group.filters for group in network.filter_groups)
        if filters != self.group_filters or network.signature() != self.network:
            raise InputError(
                f"the table was made for another network (groups of {reprlib.repr(self.group_filters)} filters, this one "
                f"{reprlib.repr(filters)}; signature {self.network[:12]}, this one's {network.signature()[:12]}); {_REMEDY}"
            )
        for index, entry in enumerate(self.entries):
            check_configuration(
                f"entries[{index}]", entry.configuration, self.group_names, filters, len(network.order.layers)
            )
            counted = 3 * network.macs(entry.widths) if self.estimated else entry.configuration.macs(network)
            if counted != entry.macs:
                raise InputError(f"entries[{index}].macs is {entry.macs}, the network counts {counted}; {_REMEDY}")
        return self._counted_exactly(network) if self.estimated else self

    def _counted_exactly(self, network: "TracedNetwork") -> Self:
        """The same entries with the exact cost of training; of two whose order it changes, the better one stays."""
        exact = [dataclasses.replace(entry, macs=entry.configuration.macs(network)) for entry in self.entries]
        kept = worth_choosing(exact, [entry.work for entry in exact])
        return dataclasses.replace(self, entries=kept, full_macs=network.training_macs(), estimated=False)

    @property
    def has_full(self) -> bool:
        """Whether the full network on all examples, every layer trained, is an entry."""
        return self.entries[-1].configuration.is_full(self.group_filters)

    def as_settings(self) -> list[Any]:
        """What decides a run that uses this table, as JSON values: widths alone of entries that choose nothing else."""
        plain = Configuration(())
        return [
            list(entry.widths)
            if dataclasses.replace(entry.configuration, widths=()) == plain
            else dataclasses.asdict(entry.configuration)
            for entry in self.entries
        ]

    @property
    def configurations(self) -> Configurations:
        """Those of the entries, as arrays."""
        return Configurations.of([entry.configuration for entry in self.entries])
