"""How the primitives that move elements and compute nothing carry labels along: transposing, joining, cutting, reshaping."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distreal_jax.tracing.factorings import varies_along
from distreal_jax.tracing.labels import ANY, AxisLabels, ValueLabels, anything, pinned
from distreal_jax.tracing.site import Factoring, Site


def _broadcast(site: Site) -> ValueLabels:
    (shape,) = site.out_shapes
    out = [anything(length) for length in shape]
    for axis, target in enumerate(site.params["broadcast_dimensions"]):
        if len(site.operands[0].labels[axis]) == shape[target]:
            out[target] = site.operands[0].labels[axis]
    return tuple(out)


def _bitcast(site: Site) -> ValueLabels:
    """The parts of a longer number are a new last axis, and go when they are put together."""
    labels, (shape,) = site.operands[0].labels, site.out_shapes
    return (*labels[: len(shape)], *map(pinned, shape[len(labels) :]))


def _transpose(site: Site) -> ValueLabels:
    return tuple(site.operands[0].labels[axis] for axis in site.params["permutation"])


def _squeeze(site: Site) -> ValueLabels:
    for axis in site.params["dimensions"]:
        site.ties.pin(site.operands[0].labels[axis])  # one filter alone, at a place that is written down
    return tuple(labels for axis, labels in enumerate(site.operands[0].labels) if axis not in site.params["dimensions"])


def _concatenate(site: Site) -> ValueLabels:
    joined = site.params["dimension"]
    operands = [operand.labels for operand in site.operands]
    parts = [labels[joined] for labels in operands]
    for channels in list(parts):
        parts = [site.filling(part, channels) for part in parts]
    return tuple(
        np.concatenate(parts) if axis == joined else site.ties.tie_axes([labels[axis] for labels in operands])
        for axis in range(len(operands[0]))
    )


def _slice(site: Site) -> ValueLabels:
    starts, limits = site.params["start_indices"], site.params["limit_indices"]
    strides = site.params["strides"] or (1,) * len(starts)
    for labels, start, limit, stride in zip(site.operands[0].labels, starts, limits, strides, strict=True):
        if len(range(start, limit, stride)) < len(labels):
            if site.ties.tentative(labels):
                site.ties.pin(labels)
            elif stride == 1:
                site.cut(labels, (start, limit))
    return tuple(
        labels[start:limit:stride]
        for labels, start, limit, stride in zip(site.operands[0].labels, starts, limits, strides, strict=True)
    )


def _split(site: Site) -> list[ValueLabels]:
    axis, sizes = site.params["axis"], site.params["sizes"]
    labels = site.operands[0].labels
    if site.ties.tentative(labels[axis]):
        site.ties.pin(labels[axis])
    site.cut(labels[axis], np.cumsum(sizes).tolist())
    parts = np.split(labels[axis], np.cumsum(sizes)[:-1])
    return [(*labels[:axis], part, *labels[axis + 1 :]) for part in parts]


def _pad(site: Site) -> ValueLabels:
    out = []
    for labels, (low, high, interior) in zip(site.operands[0].labels, site.params["padding_config"], strict=True):
        if low == high == interior == 0:
            out.append(labels)
            continue
        if site.ties.tentative(labels):
            site.ties.pin(labels)
        if interior or low < 0 or high < 0 or not site.ties.droppable(labels):
            site.keep_whole(labels, "which cuts channels off or spreads them")
            out.append(pinned(low + high + max(0, len(labels) + (len(labels) - 1) * interior)))
        else:
            below, above = (site.filling(anything(length), labels) for length in (low, high))
            out.append(np.concatenate([below, labels, above]))
    return tuple(out)


def _reverse(site: Site) -> ValueLabels:
    labels = site.operands[0].labels
    for axis in site.params["dimensions"]:
        site.keep_whole(labels[axis], "which reverses the order of channels")
    return tuple(along[::-1] if axis in site.params["dimensions"] else along for axis, along in enumerate(labels))


def _reshape(site: Site) -> ValueLabels:
    labels = site.operands[0].labels
    if site.params["dimensions"] is not None:
        labels = tuple(labels[axis] for axis in site.params["dimensions"])
    (shape,) = site.out_shapes
    out = [anything(length) for length in shape]
    for before, after in _matching_axes([len(axis) for axis in labels], shape):
        merged = _merge(site, [labels[axis] for axis in before])
        for axis, split in zip(after, _unmerge(site, merged, [shape[axis] for axis in after]), strict=True):
            out[axis] = split
    return tuple(out)


def _matching_axes(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The finest pairing of axes before a reshape with axes after it, by equal products; axes of length 1 are left out."""
    remaining = [[axis for axis, length in enumerate(lengths) if length != 1] for lengths in (before, after)]
    pairs: list[tuple[list[int], list[int]]] = []
    while remaining[0] and remaining[1]:
        left, right = [remaining[0].pop(0)], [remaining[1].pop(0)]
        while (left_size := math.prod(before[i] for i in left)) != (right_size := math.prod(after[j] for j in right)):
            if left_size < right_size:
                left.append(remaining[0].pop(0))
            else:
                right.append(remaining[1].pop(0))
        pairs.append((left, right))
    return pairs


def _merge(site: Site, axes: Sequence[AxisLabels]) -> AxisLabels:
    lengths = [len(labels) for labels in axes]
    droppable = [index for index, labels in enumerate(axes) if site.ties.droppable(labels)]
    if len(droppable) > 1:
        if all(not site.ties.tentative(axes[index]) for index in droppable):
            for index in droppable[1:]:
                site.keep_whole(axes[index], "which flattens two axes of channels into one")
        flat = site.ties.new(math.prod(lengths), tentative=True)
        site.seen.factorings.append(Factoring(flat, tuple(axes), site.layer, site.sources))
        return flat
    if not droppable:
        varies = any(np.any(labels != ANY) for labels in axes)
        return pinned(math.prod(lengths)) if varies else anything(math.prod(lengths))
    kept = droppable[0]
    shape = [1] * len(axes)
    shape[kept] = lengths[kept]
    return np.broadcast_to(axes[kept].reshape(shape), lengths).reshape(-1)


def _unmerge(site: Site, labels: AxisLabels, lengths: Sequence[int]) -> list[AxisLabels]:
    if len(lengths) == 1:
        return [labels]
    if not site.ties.droppable(labels):
        fill = anything if np.all(labels == ANY) else pinned
        return [fill(length) for length in lengths]
    table = site.ties.roots(labels).reshape(lengths)
    for axis in range(len(lengths)):
        if (along := varies_along(table, axis)) is not None:  # the exact inverse of a flatten
            return [along if other == axis else pinned(length) for other, length in enumerate(lengths)]
    for one in site.seen.factorings:
        if np.array_equal(one.flat, labels) and [*map(len, one.factors)] == [*lengths]:
            return list(one.factors)
    factors = tuple(site.ties.new(length, tentative=True) for length in lengths)
    site.seen.factorings.append(Factoring(labels, factors, site.layer, site.sources))
    return list(factors)


SHAPE_RULES: dict[str, Callable[[Site], Any]] = {
    "broadcast_in_dim": _broadcast,
    "bitcast_convert_type": _bitcast,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "concatenate": _concatenate,
    "slice": _slice,
    "split": _split,
    "pad": _pad,
    "rev": _reverse,
    "reshape": _reshape,
}
