"""Where the filters of the groups lie along one axis, and the gathers that follow from it."""

import dataclasses
import functools
import operator
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError

Member = tuple[int, int] | None  # (group, filter) of an element, None for one that is never dropped


class MisorderedError(Exception):
    """Filters of a group don't all lie along an axis in the order that the layer which creates them has.

    Attributes:
      group: Their group.
    """

    def __init__(self, group: int) -> None:
        """Notes the group."""
        super().__init__()
        self.group = group


class StretchError(InputError):
    """Images have another size than the traced ones, and it can't be told where the filters lie along an axis."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A stretch of an axis: `outer` copies of all filters of a group, each filter `inner` elements long.

    A flatten of [height, width, channels] has outer = height x width; a GroupNorm's have inner = channels in a block.
    A stretch that is never dropped has group None and counts `filters` elements.
    """

    start: int
    group: int | None
    filters: int
    outer: int = 1
    inner: int = 1

    @property
    def length(self) -> int:
        """Elements in the run with all filters kept."""
        return self.outer * self.filters * self.inner


@dataclasses.dataclass(frozen=True)
class LengthOfAxis:
    """The length of an axis as a linear function of the widths: `constant + sum(per_filter[g] * widths[g])`."""

    constant: int
    per_filter: tuple[int, ...]

    @classmethod
    def of_elements(cls, members: Sequence[Member], num_groups: int) -> "LengthOfAxis":
        """From the members along the axis; every filter of a group has the same number of elements there."""
        counts = np.zeros(num_groups, dtype=np.int64)
        filters: list[set[int]] = [set() for _ in range(num_groups)]
        for member in members:
            if member is not None:
                counts[member[0]] += 1
                filters[member[0]].add(member[1])
        per_filter = tuple(int(count) // max(1, len(seen)) for count, seen in zip(counts, filters, strict=True))
        return cls(sum(member is None for member in members), per_filter)

    def plus(self, other: "LengthOfAxis") -> "LengthOfAxis":
        """Of both axes together."""
        per_filter = tuple(map(operator.add, self.per_filter, other.per_filter))
        return LengthOfAxis(self.constant + other.constant, per_filter)

    def at(self, widths: Sequence[Any]) -> Any:
        """The length with so many filters kept in the groups."""
        return self.constant + sum(each * width for each, width in zip(self.per_filter, widths, strict=True))


@dataclasses.dataclass(frozen=True)
class AxisLayout:
    """The runs along one axis, in order."""

    length: int
    runs: tuple[Run, ...]

    @property
    def droppable(self) -> bool:
        """Whether any filter group lies along this axis."""
        return any(run.group is not None for run in self.runs)

    def kept_length(self, widths: Sequence[int]) -> int:
        """The axis's length with `widths` filters kept in the groups."""
        return sum(run.outer * (run.filters if run.group is None else widths[run.group]) * run.inner for run in self.runs)

    def members(self) -> list[Member]:
        """For each element its (group, filter), or None."""
        return [
            None if run.group is None else (run.group, index)
            for run in self.runs
            for _ in range(run.outer)
            for index in range(run.filters)
            for _ in range(run.inner)
        ]

    def shrinks(self, widths: Sequence[int]) -> bool:
        """Whether the axis is shorter when `widths` filters are kept in the groups."""
        return any(run.group is not None and widths[run.group] < run.filters for run in self.runs)

    def narrowed(self, widths: Sequence[int]) -> "AxisLayout":
        """The same axis in a network of so many filters."""
        return self._of_runs(
            run if run.group is None else dataclasses.replace(run, filters=widths[run.group]) for run in self.runs
        )

    @classmethod
    def _of_runs(cls, runs: Iterable[Run]) -> "AxisLayout":
        """The axis of some runs, one behind the other."""
        placed, start = [], 0
        for run in runs:
            placed.append(dataclasses.replace(run, start=start))
            start += run.length
        return cls(start, tuple(placed))

    def stretched(self, length: int, widths: Sequence[int]) -> "AxisLayout":
        """The axis where there are more or fewer positions: of this length with `widths` filters kept.

        Positions are copies of all runs, copies of the filters within each run, or elements of each filter.

        Raises:
          StretchError: There is no such axis, or it could be another as well.
        """
        now = self.kept_length(widths)
        if now == length:
            return self
        share = Fraction(length, now)
        ways = (self._repeated(share), self._scaled(share, "outer"), self._scaled(share, "inner"))
        found = [way for way in ways if way]
        if len(found) != 1:
            raise StretchError(
                f"an axis of {now} elements, on which filters and positions lie, has {length} where images have another "
                "size, and where the filters are can't be told; give images of the size that was traced"
            )
        return self._of_runs(found[0])

    def _repeated(self, share: Fraction) -> list[Run]:
        """Runs that are so many times as many, if they repeat; an axis of one position repeats once."""
        runs = [dataclasses.replace(run, start=0) for run in self.runs]
        period = next(some for some in range(1, len(runs) + 1) if runs == runs[:some] * (len(runs) // some))
        times = share * (len(runs) // period)
        within = period == len(runs) and any(run.outer > 1 or run.inner > 1 for run in runs)
        return [] if within or times.denominator > 1 else runs[:period] * int(times)

    def _scaled(self, share: Fraction, factor: Literal["outer", "inner"]) -> list[Run]:
        """Runs in which one of the factors is so many times as large, if positions lie there in all of them."""
        if any(run.group is not None and getattr(run, factor) == 1 for run in self.runs):
            return []
        factors = ["filters" if run.group is None else factor for run in self.runs]
        values = [share * getattr(run, name) for run, name in zip(self.runs, factors, strict=True)]
        if any(value.denominator > 1 for value in values):
            return []
        changed = zip(self.runs, factors, values, strict=True)
        return [dataclasses.replace(run, **{name: int(value)}) for run, name, value in changed]

    @classmethod
    def of_elements(cls, members: Sequence[Member], filters: Sequence[int]) -> "AxisLayout":
        """The runs of an axis.

        Args:
          members: [length] (group, filter) of each element, None where it is never dropped.
          filters: [groups] filters in each group.

        Raises:
          MisorderedError: The filters of a group are not all there in their order of creation.
        """
        runs: list[Run] = []
        start = 0
        while start < len(members):
            member = members[start]
            group = None if member is None else member[0]
            end = start
            while end < len(members) and (None if members[end] is None else members[end][0]) == group:  # type: ignore[index]
                end += 1
            if group is None:
                runs.append(Run(start, None, end - start))
            else:
                order = np.array([members[position][1] for position in range(start, end)])  # type: ignore[index]
                inner = int(np.argmax(order != order[0])) if np.any(order != order[0]) else len(order)
                if filters[group] == 1:
                    inner = 1
                outer, rest = divmod(len(order), inner * filters[group])
                if rest or not np.array_equal(order, np.tile(np.repeat(np.arange(filters[group]), inner), outer)):
                    raise MisorderedError(group)
                runs.append(Run(start, group, filters[group], outer, inner))
            start = end
        return cls(len(members), tuple(runs))

    def indices(self, kept: Sequence[jax.Array]) -> jax.Array:
        """The elements that a sub-network keeps, in its order.

        Args:
          kept: For each group, int [width], the filters that it keeps.

        Returns:
          int32 [kept elements].
        """
        parts = []
        for run in self.runs:
            chosen = jnp.arange(run.filters) if run.group is None else jnp.asarray(kept[run.group])
            outer, inner = np.arange(run.outer), np.arange(run.inner)
            grid = (
                outer[:, None, None] * (run.filters * run.inner)
                + chosen.astype(jnp.int32)[None, :, None] * run.inner
                + inner[None, None, :]
            )
            parts.append(run.start + grid.reshape(-1))
        return jnp.concatenate(parts)

    def positions(self, kept: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
        """Places along the axis of what is kept, ascending within each run: int64 [kept length]. `indices`, in numpy.

        Args:
          kept: For each group the filters that are kept, int64 [width].
        """
        parts = []
        for run in self.runs:
            chosen = np.arange(run.filters) if run.group is None else kept[run.group]
            outer, inner = np.arange(run.outer) * (run.filters * run.inner), np.arange(run.inner)
            grid = outer[:, None, None] + chosen[None, :, None] * run.inner + inner[None, None, :]
            parts.append(run.start + grid.reshape(-1))
        return np.concatenate(parts)

    def spread(self, per_filter: Sequence[jax.Array], fill: float | bool) -> jax.Array:
        """Per-filter values [filters] of each group, spread along the axis; `fill` where nothing is ever dropped.

        Returns:
          [length], of the type of `per_filter`.
        """
        kind = per_filter[0].dtype
        # Where several groups lie behind each other at every position, most runs are alike.
        of_group = functools.cache(lambda group, outer, inner: jnp.tile(jnp.repeat(per_filter[group], inner), outer))
        parts = [
            jnp.full(run.length, fill, kind) if run.group is None else of_group(run.group, run.outer, run.inner)
            for run in self.runs
        ]
        return jnp.concatenate(parts)

    def sources(self, slots: Sequence[jax.Array], widths: Sequence[int]) -> jax.Array:
        """For each element of the full axis, where a sub-network's axis holds it (anything where it does not).

        Args:
          slots: For each group, int [filters], the place of a filter among the kept ones.
          widths: For each group, how many are kept.

        Returns:
          int32 [length].
        """
        parts, start = [], 0
        for run in self.runs:
            kept = run.filters if run.group is None else widths[run.group]
            slot = jnp.arange(run.filters) if run.group is None else slots[run.group]
            outer, inner = np.arange(run.outer), np.arange(run.inner)
            grid = (
                start
                + outer[:, None, None] * (kept * run.inner)
                + slot.astype(jnp.int32)[None, :, None] * run.inner
                + inner[None, None, :]
            )
            parts.append(grid.reshape(-1))
            start += run.outer * kept * run.inner
        return jnp.concatenate(parts)


def boolean_masks(kept: Sequence[jax.Array | npt.ArrayLike], filters: Sequence[int]) -> tuple[jax.Array, ...]:
    """For each group a bool [filters] array, True where kept; boolean masks are passed through.

    Args:
      kept: For each group, int [width] indices or bool [filters].
      filters: [groups] filters in each group.
    """
    masks = []
    for chosen, count in zip(kept, filters, strict=True):
        array = jnp.asarray(chosen)
        masks.append(array if array.dtype == bool else jnp.any(jnp.arange(count)[:, None] == array[None, :], axis=1))
    return tuple(masks)
