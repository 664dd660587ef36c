"""An entry of the dropout table: a configuration of a mini-batch, its cost and its measured progress.

An entry stores the number of filters that are kept in each filter group; a dropout rate is the fraction that is missing. An
entry may also train on only a part of the mini-batch's examples, freeze the first layers, and change the step size.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from distreal_jax.errors import InputError
from distreal_jax.table.configuration import Configuration, check_configuration

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
    """One configuration of a mini-batch, with its cost and its measured progress.

    Attributes:
      widths: [groups], filters kept in each filter group.
      macs: Multiply-accumulates of training with one example: forward and backward pass, exact (`training_macs`).
      progress: Progress of a short training with this configuration, in the unit of the search; None if not measured.
      progress_stderr: Standard error of `progress` over repeated measurements.
      flops: Floating-point operations of a compiled training step, as counted by XLA; None if not counted.
      seconds: Median seconds of a training step, by name of the device on which they were measured.
      batch_share: The fraction of a mini-batch's examples that is trained, in (0, 1].
      depth: Number of layers before the first trained one, in the order in which they run. They only run forward.
      step_factor: The optimiser's step is multiplied by it.
      memory: Peak bytes of a device that trains it, for the batch size of the search; None if not counted.
    """

    widths: tuple[int, ...]
    macs: int
    progress: float | None = None
    progress_stderr: float | None = None
    flops: float | None = None
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    batch_share: float = 1.0
    depth: int = 0
    step_factor: float = 1.0
    memory: float | None = None

    @classmethod
    def of(cls, configuration: Configuration, macs: int, **measured: Any) -> Self:
        """An entry of a configuration and its `macs`, with what was measured of it, by the names of attributes."""
        fields = {field.name: getattr(configuration, field.name) for field in dataclasses.fields(configuration)}
        return cls(macs=macs, **fields, **measured)

    @property
    def configuration(self) -> Configuration:
        """How it trains a mini-batch, without what that costs and achieves."""
        return Configuration(self.widths, self.batch_share, self.depth, self.step_factor)

    @property
    def work(self) -> float:
        """MACs of training with a mini-batch, divided by the number of examples of a whole mini-batch."""
        return self.macs * self.batch_share


def costed_entries(
    network: "TracedNetwork",
    configurations: Sequence[Configuration],
    progress: Sequence[float] | None = None,
    progress_stderr: Sequence[float] | None = None,
) -> tuple[TableEntry, ...]:
    """Entries of given configurations in the order of their work; one given twice is taken once, as it was given first.

    Args:
      network: Counts the MACs.
      configurations: [entries].
      progress: [entries], if measured.
      progress_stderr: [entries], if measured.

    Raises:
      InputError: Another number of measurements than of entries.
    """
    for name, values in (("progress", progress), ("progress_stderr", progress_stderr)):
        if values is not None and len(values) != len(configurations):
            raise InputError(f"{len(values)} values of {name} for {len(configurations)} entries; give one for each")
    entries = {
        chosen: TableEntry.of(
            chosen,
            chosen.macs(network),
            progress=None if progress is None else float(progress[index]),
            progress_stderr=None if progress_stderr is None else float(progress_stderr[index]),
        )
        for index, chosen in reversed(list(enumerate(configurations)))
    }
    return tuple(sorted(entries.values(), key=lambda entry: entry.work))


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
    check_configuration(name, entry.configuration, group_names, group_filters)
    if not 1 <= entry.macs <= full_macs:
        raise InputError(f"{name}.macs is {entry.macs}, expected 1 to the full network's {full_macs}")
    if entry.progress is not None and not math.isfinite(entry.progress):
        raise InputError(f"{name}.progress is {entry.progress}, expected a finite number")
    if entry.progress_stderr is not None and not 0 <= entry.progress_stderr < math.inf:
        raise InputError(f"{name}.progress_stderr is {entry.progress_stderr}, expected a finite number of at least 0")
    measured = [*entry.seconds.values(), *(value for value in (entry.flops, entry.memory) if value is not None)]
    if not all(0 < value < math.inf for value in measured):
        raise InputError(f"{name}: seconds, flops and memory have to be finite and above 0; measure them again")
