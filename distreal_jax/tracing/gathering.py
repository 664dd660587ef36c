"""Gathering a sub-network's part of an array and writing it back, in the way that is fastest on each platform.

On a CPU, XLA scatters one element at a time, and a gather with the inverse permutation and a select touch the whole array
however little is kept. A loop that copies one kept filter after the other in place touches what is kept alone: 0.35 ms
against 2.7 ms for a quarter of the rows and columns of a 12544 x 128 matrix on one core (both with the gather before).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from distreal_jax.tracing.layout import AxisLayout, boolean_masks

# Elements; below, the loop costs more than it saves (measured with the biases and first layers of the LEAF CNN).
_SMALL = 1 << 14


class Gathering:
    """The part of arrays that belongs to the kept filters.

    Its index arrays are computed once for each layout: a network has far fewer layouts than variables and optimiser states,
    and DenseNet-40's compact step traces and compiles three times as fast for it.
    """

    def __init__(self, kept: Sequence[jax.Array], filters: Sequence[int]) -> None:
        """Says which filters are kept.

        Args:
          kept: For each group int [width].
          filters: [groups] filters in each group.
        """
        self._kept = kept
        self._widths = [len(chosen) for chosen in kept]
        masks = boolean_masks(kept, filters)
        slots = [
            jnp.zeros(count, jnp.int32).at[chosen].set(jnp.arange(len(chosen), dtype=jnp.int32))
            for chosen, count in zip(kept, filters, strict=True)
        ]
        self._indices = functools.cache(lambda layout: layout.indices(kept))
        self._sources = functools.cache(lambda layout: layout.sources(slots, self._widths))
        self._holds = functools.cache(lambda layout: layout.spread(masks, fill=True))

    def take(self, leaf: jax.Array, axes: Sequence[AxisLayout]) -> jax.Array:
        """The part of an array with these axes that the sub-network has.

        Args:
          leaf: [...], full along each axis.
          axes: Where filters lie along each axis of it.

        Returns:
          [...], smaller along the axes with dropped filters.
        """
        shrunk = self._shrunk(axes)
        if not shrunk:
            return leaf
        # One gather for all axes: one after the other was three times slower where two axes shrink.
        index: list[slice | jax.Array] = [slice(None)] * leaf.ndim
        first, last = shrunk[0], shrunk[-1]
        for axis in range(first, last + 1):
            along = self._indices(axes[axis]) if axis in shrunk else jnp.arange(leaf.shape[axis], dtype=jnp.int32)
            index[axis] = along.reshape((-1,) + (1,) * (last - axis))
        return jnp.asarray(leaf).at[tuple(index)].get(mode="promise_in_bounds", unique_indices=True)

    def put(self, full: jax.Array, small: jax.Array, axes: Sequence[AxisLayout]) -> jax.Array:
        """An array with the part that the sub-network has replaced; all other elements stay as they are, bit by bit.

        Args:
          full: [...].
          small: What `take` gives of it, or new values of the same shape.
          axes: Where filters lie along each axis.

        Returns:
          [...], of the shape of `full`.
        """
        shrunk = self._shrunk(axes)
        if not shrunk:
            return small
        # Along the first axis on which each filter has one place (or the same few); it is viewed as [outer, filter, inner].
        lead = next((axis for axis in shrunk if len(axes[axis].runs) == 1), shrunk[0])
        others = [axis for axis in shrunk if axis != lead]
        run = axes[lead].runs[0]
        if len(axes[lead].runs) == 1 and run.group is not None:
            places, outer, inner = self._kept[run.group], run.outer, run.inner
        else:
            places, outer, inner = self._indices(axes[lead]), 1, 1
        # Looked up here: what is computed inside a branch can't be kept for the next array.
        sources = {axis: self._sources(axes[axis]) for axis in shrunk}
        held = {axis: self._holds(axes[axis]) for axis in shrunk}
        indices = {axis: self._indices(axes[axis]) for axis in shrunk}

        def spread_out(part: jax.Array, which: Sequence[int], shift: int = 0) -> tuple[jax.Array, jax.Array]:
            """A part at its full length along some axes, and where it holds; `shift`: axes that stand before them."""
            holds = jnp.ones((1,) * part.ndim, dtype=bool)
            for axis in which:
                part = part.at[(slice(None),) * (axis + shift) + (sources[axis],)].get(mode="promise_in_bounds")
                shape = [1] * part.ndim
                shape[axis + shift] = axes[axis].length
                holds = holds & held[axis].reshape(shape)
            return part, holds

        def by_selection(full: jax.Array, small: jax.Array) -> jax.Array:
            part, holds = spread_out(small, shrunk)
            return jnp.where(holds, part, full)

        def by_copies(full: jax.Array, small: jax.Array) -> jax.Array:
            def view(array: jax.Array) -> jax.Array:
                # An axis of length 1 would get a layout of its own, and a copy of the whole array with it.
                split = (-1, inner) if inner > 1 else (-1,)
                return array.reshape(*array.shape[:lead], outer, *split, *array.shape[lead + 1 :])

            parts = view(small)

            def copy(position: jax.Array, out: jax.Array) -> jax.Array:
                part = jax.lax.dynamic_slice_in_dim(parts, position, 1, lead + 1)
                if others:
                    before = jax.lax.dynamic_slice_in_dim(out, places[position], 1, lead + 1)
                    part, holds = spread_out(part, [axis for axis in others if axis < lead])
                    part, also = spread_out(part, [axis for axis in others if axis > lead], shift=2 if inner > 1 else 1)
                    part = jnp.where(holds & also, part, before)
                return jax.lax.dynamic_update_slice_in_dim(out, part, places[position], lead + 1)

            return jax.lax.fori_loop(0, len(places), copy, view(full)).reshape(full.shape)

        def by_scatter(full: jax.Array, small: jax.Array) -> jax.Array:
            grid = [indices[axis] if axis in shrunk else jnp.arange(length) for axis, length in enumerate(full.shape)]
            return full.at[jnp.ix_(*grid)].set(small, mode="promise_in_bounds", unique_indices=True)

        on_cpu = by_selection if full.size < _SMALL else by_copies
        return jax.lax.platform_dependent(full, small, cpu=on_cpu, default=by_scatter)

    def _shrunk(self, axes: Sequence[AxisLayout]) -> list[int]:
        return [axis for axis, layout in enumerate(axes) if layout.shrinks(self._widths)]
