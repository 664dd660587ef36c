"""How primitives that index, place or order elements along some axes carry the labels of the others along.

An axis that is indexed keeps all of its elements: positions by their nature, channels so that an index that is written
down stays right.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distreal_jax.tracing.labels import AxisLabels, ValueLabels, pinned
from distreal_jax.tracing.site import Site, create


def _gather(site: Site) -> ValueLabels:
    operand, indices = site.operands
    numbers, sizes = site.params["dimension_numbers"], site.params["slice_sizes"]
    (shape,) = site.out_shapes
    windows = [
        axis
        for axis in range(len(operand.labels))
        if axis not in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    ]
    if operand.weight and not indices.weight:
        site.seen.lookups.add((site.train, site.place))
    out: list[AxisLabels] = [pinned(length) for length in shape]
    along = iter(indices.labels)
    for target in range(len(shape)):
        if target not in numbers.offset_dims:
            out[target] = next(along)
    for axis, labels in enumerate(operand.labels):
        if axis in numbers.operand_batching_dims:
            other = numbers.start_indices_batching_dims[numbers.operand_batching_dims.index(axis)]
            site.ties.tie_axes([labels, indices.labels[other]])
        elif axis in windows and sizes[axis] == len(labels):
            out[numbers.offset_dims[windows.index(axis)]] = labels
            if operand.weight and not indices.weight:
                create(site, labels, "dense")  # an embedding
        else:
            site.ties.pin(labels)
    return tuple(out)


def _scatter(site: Site) -> ValueLabels:
    operand, indices, updates = site.operands
    numbers = site.params["dimension_numbers"]
    windows = [
        axis
        for axis in range(len(operand.labels))
        if axis not in (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    ]
    out = list(operand.labels)
    for axis, labels in enumerate(operand.labels):
        update = updates.labels[numbers.update_window_dims[windows.index(axis)]] if axis in windows else None
        if update is not None and len(update) == len(labels):
            out[axis] = site.ties.tie_axes([labels, update])
        else:
            site.ties.pin(labels)
            if update is not None:
                site.ties.pin(update)
    for axis, labels in enumerate(updates.labels):
        if axis not in numbers.update_window_dims:
            site.ties.pin(labels)
    for labels in indices.labels:
        site.ties.pin(labels)
    return tuple(out)


def _dynamic_slice(site: Site) -> ValueLabels:
    out = []
    for labels, size in zip(site.operands[0].labels, site.params["slice_sizes"], strict=True):
        if size != len(labels):
            site.ties.pin(labels)
        out.append(labels if size == len(labels) else pinned(size))
    return tuple(out)


def _dynamic_update_slice(site: Site) -> ValueLabels:
    operand, update = site.operands[:2]
    out = []
    for labels, new in zip(operand.labels, update.labels, strict=True):
        if len(labels) == len(new):
            out.append(site.ties.tie_axes([labels, new]))
        else:
            site.ties.pin(labels)
            site.ties.pin(new)
            out.append(labels)
    return tuple(out)


def _tile(site: Site) -> ValueLabels:
    out = []
    for labels, times in zip(site.operands[0].labels, site.params["reps"], strict=True):
        if times > 1 and site.ties.tentative(labels):
            site.ties.pin(labels)
        out.append(np.tile(labels, times))
    return tuple(out)


def _stack(site: Site) -> ValueLabels:
    joined = list(_tied(site, [operand.labels for operand in site.operands]))
    joined.insert(site.params["axis"], pinned(len(site.operands)))
    return tuple(joined)


def _unstack(site: Site) -> list[ValueLabels]:
    labels, axis = site.operands[0].labels, site.params["axis"]
    site.ties.pin(labels[axis])
    return [(*labels[:axis], *labels[axis + 1 :])] * len(site.out_shapes)


def _running(site: Site) -> ValueLabels:
    labels = site.operands[0].labels
    site.keep_whole(labels[site.params["axis"]], "which runs over channels in their order")
    return labels


def _sort(site: Site) -> list[ValueLabels]:
    axis = site.params["dimension"]
    joined = _tied(site, [operand.labels for operand in site.operands])
    site.keep_whole(joined[axis], "which sorts channels")
    return [joined] * len(site.out_shapes)


def _top_k(site: Site) -> list[ValueLabels]:
    labels, axis = site.operands[0].labels, site.params.get("axis", -1) % len(site.operands[0].labels)
    site.keep_whole(labels[axis], "which chooses among channels")
    out = tuple(pinned(site.out_shapes[0][axis]) if other == axis else along for other, along in enumerate(labels))
    return [out] * len(site.out_shapes)


def _fft(site: Site) -> ValueLabels:
    labels, (shape,) = site.operands[0].labels, site.out_shapes
    over = len(labels) - len(site.params["fft_lengths"])
    for along in labels[over:]:
        site.keep_whole(along, "which transforms channels together")
    return (*labels[:over], *(pinned(length) for length in shape[over:]))


def _barrier(site: Site) -> list[ValueLabels]:
    return [operand.labels for operand in site.operands]


def _tied(site: Site, values: Sequence[ValueLabels]) -> ValueLabels:
    return tuple(site.ties.tie_axes(axes) for axes in zip(*values, strict=True))


CARRYING_RULES: dict[str, Callable[[Site], Any]] = {
    "gather": _gather,
    **dict.fromkeys(("scatter", "scatter-add", "scatter_add", "scatter_mul", "scatter_min", "scatter_max"), _scatter),
    "scatter-mul": _scatter,
    "scatter-min": _scatter,
    "scatter-max": _scatter,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "stack": _stack,
    "unstack": _unstack,
    "tile": _tile,
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _running),
    "sort": _sort,
    "top_k": _top_k,
    "fft": _fft,
    **dict.fromkeys(("optimization_barrier", "device_put"), _barrier),
}
