"""The variables of a network's sub-networks: taken from the full ones, put back, masked."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from distreal_jax.errors import InputError
from distreal_jax.tracing.filter_group import FilterGroup
from distreal_jax.tracing.gathering import Gathering
from distreal_jax.tracing.layout import AxisLayout, boolean_masks

Path = tuple[str, ...]
Kept = Sequence[jax.Array]  # for each group, int [width] filters kept, or bool [filters]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubNetworks:
    """Where the filter groups of a network lie in its variables.

    Attributes:
      filter_groups: The groups, in the order in which their layers run.
      layouts: For each variable, where the groups lie along each of its axes.
      consumed: (variable, axis) along which a kernel takes in channels of filter groups.
      narrowed_from: Filters in each group of the network that this one is a part of, where it is one (`narrowed`).
    """

    filter_groups: tuple[FilterGroup, ...]
    layouts: Mapping[Path, tuple[AxisLayout, ...]]
    consumed: frozenset[tuple[Path, int]]
    narrowed_from: tuple[int, ...] | None = None

    @functools.cached_property
    def full_widths(self) -> tuple[int, ...]:
        """Filters in each group."""
        return tuple(group.filters for group in self.filter_groups)

    def checked_widths(self, widths: Sequence[int] | None) -> tuple[int, ...]:
        """The widths as a tuple of ints; None stands for all filters.

        Raises:
          InputError: Not one width for each group, or one outside [1, filters].
        """
        if widths is None:
            return self.full_widths
        checked = tuple(int(width) for width in widths)
        if len(checked) != len(self.filter_groups):
            raise InputError(
                f"{len(checked)} widths given for {len(self.filter_groups)} filter groups; give one for each group"
            )
        for width, group in zip(checked, self.filter_groups, strict=True):
            if not 1 <= width <= group.filters:
                raise InputError(
                    f"width {width} of group {group.name!r} is outside [1, {group.filters}]; keep at least one filter"
                )
        return checked

    def take(self, params: Any, kept: Kept) -> Any:
        """The sub-network's smaller variables.

        Args:
          params: A pytree of the network's variables, or one that holds trees of their structure (an Optax state); leaves
            that are no variable of the network are passed through.
          kept: For each group, int [width] indices of the filters that it keeps, without repeats. A group that keeps all
            its filters keeps them in their own order.

        Returns:
          The same tree with smaller arrays.

        Raises:
          InputError: `kept` is not one array of indices for each group.
        """
        gathering = Gathering(self._indices(kept), self.full_widths)
        return self.map(lambda axes, leaf: gathering.take(leaf, axes), params)

    def shapes(self, params: Any, widths: Sequence[int]) -> Any:
        """What `take` would give, as `jax.ShapeDtypeStruct`s."""
        return self.map(
            lambda axes, leaf: jax.ShapeDtypeStruct(tuple(layout.kept_length(widths) for layout in axes), leaf.dtype), params
        )

    def put(self, params: Any, sub: Any, kept: Kept) -> Any:
        """Writes a sub-network's variables back into the full ones; what was dropped keeps its value bit by bit.

        Args:
          params: The full variables, any pytree that `take` accepts.
          sub: What `take(params, kept)` gave, changed.
          kept: The same indices.

        Raises:
          InputError: `kept` is not one array of indices for each group.
        """
        gathering = Gathering(self._indices(kept), self.full_widths)
        return self.map(lambda axes, small, full: gathering.put(full, small, axes), sub, params)

    def select(self, kept: Kept, where_kept: Any, where_dropped: Any) -> Any:
        """Element by element: the first tree where all filters involved are kept, the second where one is dropped.

        Args:
          kept: For each group, int [width] indices, or bool [filters] (whose number of True may depend on data).
          where_kept: Any pytree that `take` accepts.
          where_dropped: A tree of the same structure and shapes.

        Raises:
          InputError: `kept` is not one array for each group.
        """
        masks = self.masks(kept)

        def chosen(axes: Sequence[AxisLayout], new: jax.Array, old: jax.Array) -> jax.Array:
            droppable = [axis for axis, layout in enumerate(axes) if layout.droppable]
            return jnp.where(_outer(axes, masks, droppable, new.ndim), new, old) if droppable else new

        return self.map(chosen, where_kept, where_dropped)

    def mask(self, params: Any, kept: Kept) -> Any:
        """The full variables with everything that belongs to a dropped filter set to zero.

        Args:
          params: Any pytree that `take` accepts.
          kept: For each group, int [width] indices, or bool [filters].
        """
        return self.select(kept, params, jax.tree.map(jnp.zeros_like, params))

    def masks(self, kept: Kept) -> tuple[jax.Array, ...]:
        """For each group bool [filters], True where kept; `kept` are such masks or int [width] indices.

        Raises:
          InputError: `kept` is not one array for each group.
        """
        self._check_groups(kept)
        return boolean_masks(kept, self.full_widths)

    def _indices(self, kept: Kept) -> tuple[jax.Array, ...]:
        """The kept filters of each group; a group that keeps all of them keeps them in their own order."""
        self._check_groups(kept)
        indices = []
        for chosen, group in zip(map(jnp.asarray, kept), self.filter_groups, strict=True):
            if chosen.dtype == bool:
                raise InputError(
                    f"a mask was given for group {group.name!r}; give the indices of the kept filters (masks are for `mask`)"
                )
            indices.append(jnp.arange(group.filters) if len(chosen) == group.filters else chosen)
        return tuple(indices)

    def _check_groups(self, kept: Kept) -> None:
        if len(kept) != len(self.filter_groups):
            raise InputError(
                f"{len(kept)} arrays of kept filters given for {len(self.filter_groups)} filter groups; give one for each"
            )

    def map(self, function: Callable[..., Any], *trees: Any, with_path: bool = False) -> Any:
        """Maps over the leaves of the first tree that are variables of the network; passes the others of it through."""

        def mapped(key: Any, *leaves: Any) -> Any:
            path = leaf_path(key)
            while path and path not in self.layouts:
                path = path[1:]  # an Optax state holds trees of the variables' structure at some depth
            if not path or jnp.ndim(leaves[0]) != len(self.layouts[path]):
                return leaves[0]
            return function(self.layouts[path], *leaves, path) if with_path else function(self.layouts[path], *leaves)

        return jax.tree_util.tree_map_with_path(mapped, *trees)


def leaf_path(key: tuple[Any, ...]) -> Path:
    """The path of a leaf of a pytree as strings, without the `.value` that a Flax variable adds."""
    parts = [str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part)))) for part in key]
    return tuple(parts[:-1] if parts and parts[-1] == "value" and not hasattr(key[-1], "key") else parts)


def _outer(axes: Sequence[AxisLayout], masks: Sequence[jax.Array], which: Sequence[int], ndim: int) -> jax.Array:
    """Bool, broadcastable to a variable: True where the filters along all axes of `which` are kept."""
    keep = jnp.ones((1,) * ndim, dtype=bool)
    for axis in which:
        shape = [1] * ndim
        shape[axis] = axes[axis].length
        keep = keep & axes[axis].spread(masks, fill=True).reshape(shape)
    return keep
