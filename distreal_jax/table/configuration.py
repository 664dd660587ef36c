"""What a device may choose for a mini-batch: its filters, its examples, the layers that it trains, its step size."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork

Integers = npt.NDArray[np.int64]
LONGEST_STEP = 1e3  # chosen by us: a factor beyond it is a mistake


@dataclasses.dataclass(frozen=True)
class Configuration:
    """How a mini-batch is trained.

    Attributes:
      widths: [groups], filters kept in each filter group.
      batch_share: The part of the mini-batch's examples that is trained, in (0, 1].
      depth: Layers before the first that is trained, in the order in which they run (`TracedNetwork.order`). They run
        forwards alone. 0: all are trained.
      step_factor: The optimiser's step is this much longer.
    """

    widths: tuple[int, ...]
    batch_share: float = 1.0
    depth: int = 0
    step_factor: float = 1.0

    def macs(self, network: "TracedNetwork") -> int:
        """Multiply-accumulates of training with one example, forwards and backwards."""
        return network.training_macs(self.widths, self.depth)

    def examples(self, batch_size: int) -> int:
        """Examples of a mini-batch of that size that it trains, at least one."""
        return max(1, round(self.batch_share * batch_size))

    def contains(self, other: Self) -> bool:
        """Whether it trains all that another configuration of the network trains, and perhaps more."""
        wider = all(mine >= theirs for mine, theirs in zip(self.widths, other.widths, strict=True))
        return wider and self.batch_share >= other.batch_share and self.depth <= other.depth

    def is_full(self, filters: tuple[int, ...]) -> bool:
        """Whether it trains all filters, [groups], of all layers with all examples, by whatever step."""
        return (self.widths, self.batch_share, self.depth) == (filters, 1, 0)

    @property
    def at_usual_step(self) -> Self:
        """The same with the optimiser's own step, whose length takes neither time nor memory."""
        return dataclasses.replace(self, step_factor=1.0)


class Configurations(NamedTuple):
    """Those of a table's entries, as arrays."""

    widths: Integers  # [entries, groups]
    batch_shares: npt.NDArray[np.float64]  # [entries]
    depths: Integers  # [entries]
    step_factors: npt.NDArray[np.float64]  # [entries]

    @classmethod
    def of(cls, entries: Sequence[Configuration]) -> Self:
        """The arrays of given configurations of one network."""
        return cls(
            np.array([entry.widths for entry in entries], dtype=np.int64).reshape(len(entries), -1),
            np.array([entry.batch_share for entry in entries], dtype=np.float64),
            np.array([entry.depth for entry in entries], dtype=np.int64),
            np.array([entry.step_factor for entry in entries], dtype=np.float64),
        )

    @classmethod
    def of_widths(cls, widths: npt.ArrayLike) -> Self:
        """Those that drop filters alone: [entries, groups]."""
        rows = np.asarray(widths, dtype=np.int64)
        return cls(rows, np.ones(len(rows)), np.zeros(len(rows), np.int64), np.ones(len(rows)))

    @property
    def filters_alone(self) -> bool:
        """Whether none leaves out anything but filters, or takes other than the optimiser's own steps."""
        return self.bits == self.of_widths(self.widths).bits

    @property
    def bits(self) -> tuple[bytes, ...]:
        """All of them, to compare or to hash."""
        return tuple(array.tobytes() for array in self)

    def examples(self, batch_size: int) -> Integers | None:
        """Examples of a mini-batch of that size that each entry trains, [entries], at least one; None: all train all.

        `DropoutTable.for_batches` makes them divisors.
        """
        if np.all(self.batch_shares == 1):
            return None
        return np.maximum(1, np.rint(self.batch_shares * batch_size)).astype(np.int64)

    def macs(self, network: "TracedNetwork") -> Integers:
        """Multiply-accumulates of training with one example, [entries]."""
        return network.training_macs_of_many(self.widths, self.depths)


def check_configuration(
    name: str, entry: Configuration, group_names: Sequence[str], group_filters: Sequence[int], layers: int | None = None
) -> None:
    """Refuses a configuration that its network can't train.

    Args:
      name: What an error calls it.
      entry: The configuration.
      group_names: [groups], of the network's filter groups.
      group_filters: [groups], their filters in the full network.
      layers: Of the network; None: not known here.

    Raises:
      InputError: A width, the share of examples, the depth or the step factor is outside its range.
    """
    if len(entry.widths) != len(group_filters):
        raise InputError(f"{name}.widths has {len(entry.widths)} widths for {len(group_filters)} filter groups")
    for group, width, filters in zip(group_names, entry.widths, group_filters, strict=True):
        if not 1 <= width <= filters:
            raise InputError(f"{name}.widths keeps {width} filters of {group!r}, expected 1 to {filters}")
    if not 0 < entry.batch_share <= 1:
        raise InputError(f"{name}.batch_share is {entry.batch_share}, expected a part above 0 and at most 1")
    if not 0 < entry.step_factor <= LONGEST_STEP:
        raise InputError(
            f"{name}.step_factor is {entry.step_factor}, expected a factor on the step size, above 0 and at most "
            f"{LONGEST_STEP:g}"
        )
    if entry.depth < 0 or not math.isfinite(entry.depth) or int(entry.depth) != entry.depth:
        raise InputError(f"{name}.depth is {entry.depth}, expected a whole number of layers of at least 0")
    if layers is not None and entry.depth >= layers:
        raise InputError(
            f"{name}.depth is {entry.depth}, and the network has {layers} layers: nothing would be trained; give at most "
            f"{layers - 1}"
        )
