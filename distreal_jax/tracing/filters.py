"""Which filters a sub-network keeps: a random set, the first ones, a window, or those of the largest norm."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from distreal_jax.tracing.network import TracedNetwork
from distreal_jax.tracing.sub_networks import leaf_path

FilterRule = Literal["random", "first", "rolling", "ensemble", "partition", "norm", "update"]


BY_SCORES = ("norm", "update")


def sample_filters(key: jax.Array, network: TracedNetwork, widths: Sequence[int]) -> tuple[jax.Array, ...]:
    """Draws filters uniformly without replacement, exactly `widths[g]` in group g.

    Args:
      key: A PRNG key; groups draw independently.
      network: The traced network.
      widths: Filters to keep in each group (Python ints: they are shapes).

    Returns:
      For each group int32 [widths[g]], in increasing order. Works under `jit` and `vmap` over keys.

    Raises:
      InputError: Not one width for each group, or one outside [1, filters].
    """
    return draw_filters("random", key, 0, network, network.checked_widths(widths))


def draw_filters(
    rule: FilterRule,
    key: jax.Array,
    shift: jax.Array | int,
    network: TracedNetwork,
    widths: Sequence[int],
    scores: Sequence[jax.Array] = (),
) -> tuple[jax.Array, ...]:
    """The filters that a sub-network keeps, as indices.

    Args:
      rule: `random`: a uniform set; `first`: 0, 1, ...; `rolling`: a window that starts at `shift` and wraps around;
        `ensemble`: the filters of one of `ensemble_members`, drawn uniformly; `partition`: a part of the filters, drawn
        uniformly, where all parts together are all filters (the last part wraps around); `norm` and `update`: those of the
        highest scores.
      key: A PRNG key, used by `random`, `ensemble` and `partition`.
      shift: The start of the rolling window.
      network: The traced network.
      widths: Filters to keep in each group.
      scores: For `norm` and `update`, float32 [filters] for each group (`next_scores`).

    Returns:
      For each group int32 [widths[g]], in increasing order (windows: in the window's order; by scores: the highest first).
    """
    order = _orders(rule, key, shift, network, jnp.asarray(widths), scores)
    return tuple(
        jnp.arange(width, dtype=jnp.int32)
        if width == len(first)
        else jnp.sort(first[:width])
        if rule == "random"
        else first[:width]
        for first, width in zip(order, widths, strict=True)
    )


def draw_masks(
    rule: FilterRule,
    key: jax.Array,
    shift: jax.Array | int,
    network: TracedNetwork,
    widths: jax.Array,
    scores: Sequence[jax.Array] = (),
) -> tuple[jax.Array, ...]:
    """The same draw as `draw_filters`, as masks, for widths that are data of a program.

    Args:
      rule: Which filters are kept.
      key: Of the draw, a scalar.
      shift: As for `draw_filters`.
      network: The traced network.
      widths: Filters kept, int [groups].
      scores: As for `draw_filters`.

    Returns:
      bool [filters] for each group.
    """
    orders = _orders(rule, key, shift, network, widths, scores)
    return tuple(_mask_of(first, widths[group]) for group, first in enumerate(orders))


def draw_within(
    rule: FilterRule,
    key: jax.Array,
    shift: jax.Array | int,
    network: TracedNetwork,
    widths: jax.Array,
    within: Sequence[int],
    scores: Sequence[jax.Array] = (),
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """The same draw inside a larger sub-network whose widths are no data.

    Args:
      rule: As for `draw_filters`.
      key: A PRNG key, used by `random` and `ensemble`.
      shift: The start of the rolling window.
      network: The traced network.
      widths: int [groups], filters to keep.
      within: Filters of the larger sub-network in each group, at least as many.
      scores: As for `draw_filters`.

    Returns:
      For each group int32 [within[g]], the larger sub-network's filters in increasing order, all that are kept among
      them; and bool [filters], those that are kept, as from `draw_masks`.
    """
    larger, masks = [], []
    for group, first in enumerate(_orders(rule, key, shift, network, widths, scores)):
        count = len(first)
        larger.append(jnp.arange(count, dtype=jnp.int32) if within[group] == count else jnp.sort(first[: within[group]]))
        masks.append(_mask_of(first, widths[group]))
    return tuple(larger), tuple(masks)


def ensemble_members(network: TracedNetwork, widths: Sequence[int]) -> int:
    """How many networks of so many filters lie side by side in the full one without a filter in common."""
    return min(count // width for count, width in zip(network.full_widths, network.checked_widths(widths), strict=True))


def member_filters(member: int, widths: Sequence[int]) -> tuple[jax.Array, ...]:
    """The filters of a member of an ensemble: for each group int32 [widths[g]]."""
    return tuple(jnp.arange(member * width, (member + 1) * width, dtype=jnp.int32) for width in widths)


def _mask_of(order: jax.Array, width: jax.Array) -> jax.Array:
    """The first filters of an order, as bool [filters]."""
    return jnp.zeros(len(order), bool).at[order].set(jnp.arange(len(order)) < width)


def filter_norms(network: TracedNetwork, params: Any) -> list[jax.Array]:
    """For each group float32 [filters], the norm of all weights that belong to a filter: that make it, and that read it."""
    sums = [jnp.zeros(count, jnp.float32) for count in network.full_widths]
    for key, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        squares = jnp.square(leaf.astype(jnp.float32))
        for axis, layout in enumerate(network.layouts[leaf_path(key)]):
            along = squares.sum(axis=[other for other in range(squares.ndim) if other != axis])
            for run in layout.runs:
                if run.group is not None:
                    part = along[run.start : run.start + run.length].reshape(run.outer, run.filters, run.inner)
                    sums[run.group] += part.sum(axis=(0, 2))
    return [jnp.sqrt(each) for each in sums]


def next_scores(
    rule: FilterRule, network: TracedNetwork, params: Any, before: Any = None, scores: Sequence[jax.Array] = ()
) -> tuple[jax.Array, ...]:
    """What filters are chosen by in the next round, float32 [filters] for each group; empty for rules that need nothing.

    Args:
      rule: `norm`: the norms of the filters now. `update`: how far the last round moved them, relative to their norms
        before; a filter that did not move, since nobody trained it, keeps its score. (Invariant dropout: Wang et al.,
        NeurIPS 2023.)
      network: The traced network.
      params: The global parameters.
      before: Those of the round before; None: there was none, and all filters score alike, so that the first ones are kept.
      scores: Of the round before.
    """
    if rule not in BY_SCORES:
        return ()
    norms = filter_norms(network, params if before is None or rule == "norm" else before)
    if rule == "norm":
        return tuple(norms)
    if before is None:
        return tuple(jnp.ones_like(each) for each in norms)
    moved = filter_norms(network, jax.tree.map(jnp.subtract, params, before))
    rows = zip(moved, norms, scores, strict=True)
    return tuple(jnp.where(far > 0, far / jnp.maximum(norm, 1e-12), old) for far, norm, old in rows)


def _orders(
    rule: FilterRule,
    key: jax.Array,
    shift: jax.Array | int,
    network: TracedNetwork,
    widths: jax.Array,
    scores: Sequence[jax.Array],
) -> list[jax.Array]:
    """For each group, its filters in the order in which they are kept: int32 [filters]."""
    if rule in BY_SCORES:
        return [jnp.argsort(each, descending=True).astype(jnp.int32) for each in scores]
    orders = []
    member: jax.Array | int = 0
    if rule == "ensemble":
        member = jax.random.randint(key, (), 0, jnp.min(jnp.asarray(network.full_widths) // widths))
    for index, count in enumerate(network.full_widths):
        if rule == "random":
            bits = jax.random.bits(jax.random.fold_in(key, index), (count,))
            orders.append(jnp.argsort(bits).astype(jnp.int32))
            continue
        start: jax.Array | int = shift if rule == "rolling" else member * widths[index]
        if rule == "partition":  # the same part of all groups
            parts = (-(-count // widths[index])).astype(jnp.uint32)
            start = (jax.random.bits(key) % parts).astype(jnp.int32) * widths[index]
        orders.append((jnp.arange(count, dtype=jnp.int32) + start) % count)
    return orders
