"""How each primitive of a jaxpr ties the labels of its operands: one small rule per primitive.

Sources of the ties: a kernel's input axis and the channels that flow into it, a bias or a scale and the channels it is
applied to, both sides of a residual sum, the parts of a concatenation, the copies that a flatten makes of a channel.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distreal_jax.errors import InputError
from distreal_jax.tracing.labels import ANY, AxisLabels, Ties, ValueLabels, anything, pinned

ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy copy_p cos cosh "
    "digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le lgamma log log1p logistic lt "
    "max min mul ne neg nextafter not or pow real reduce_precision rem round rsqrt select_n shift_left "
    "shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor".split()
)
REDUCTIONS = frozenset("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin".split())
WINDOWS = frozenset("reduce_window reduce_window_max reduce_window_min reduce_window_sum".split())


@dataclasses.dataclass(frozen=True)
class Value:
    """What is known of one value: its labels, and whether it depends on parameters alone (and not on the input)."""

    labels: ValueLabels
    weight: bool


@dataclasses.dataclass(frozen=True)
class Product:
    """A convolution or a dot: its multiply-accumulates are `constant` times the lengths of `axes`."""

    constant: int
    axes: tuple[AxisLabels, ...]


@dataclasses.dataclass(frozen=True)
class Creation:
    """Channels that a layer creates: the output axis of the kernel."""

    labels: AxisLabels
    layer: str
    convolutional: bool


class Observations:
    """What the walk over the jaxpr collects on its way, beside the ties."""

    def __init__(self) -> None:
        self.products: list[Product] = []
        self.creations: list[Creation] = []
        self.contracted: list[AxisLabels] = []
        self.normalised_over: dict[str, AxisLabels] = {}
        self.refusals: list[tuple[AxisLabels, InputError]] = []


@dataclasses.dataclass(frozen=True)
class Site:
    """One equation, with what a rule needs to know about it."""

    primitive: str
    params: dict[str, Any]
    operands: tuple[Value, ...]
    out_shapes: tuple[tuple[int, ...], ...]
    layer: str  # path of the innermost module that is being called, "" outside all
    masks_statistics: bool  # that module can be told which channels count in its statistics (Flax's `mask=`)
    ties: Ties
    seen: Observations

    def refuse(self, labels: AxisLabels, why: str, remedy: str) -> None:
        """Notes that the equation can't be followed if any of the labels turns out to be droppable in the end.

        Whether it does is known only after the walk: the classes that a final softmax reduces over are pinned last.
        """
        where = f"layer {self.layer!r}" if self.layer else "the network's own __call__"
        error = InputError(f"can't trace {where}: primitive {self.primitive!r} {why}; {remedy}")
        self.seen.refusals.append((labels, error))


def apply_rule(site: Site) -> tuple[ValueLabels, ...]:
    """Ties labels as the equation demands and returns those of its outputs.

    Raises:
      InputError: There is no rule and a droppable axis is involved, or the equation mixes channels in a way that a
        sub-network can't reproduce.
    """
    name = site.primitive
    if name in ELEMENTWISE:
        return (_elementwise(site),)
    if name in REDUCTIONS:
        return (_reduce(site),)
    if name in WINDOWS:
        return (_window(site),) * len(site.out_shapes)
    if name in _RULES:
        result = _RULES[name](site)
        return result if isinstance(result[0], tuple) else (result,)
    axes = [labels for operand in site.operands for labels in operand.labels]
    for labels in axes:
        site.refuse(
            labels,
            "has no rule for filters that may be dropped",
            "write the layer with convolutions, dots, elementwise operations and reductions over positions, "
            "or add a rule to distreal_jax/tracing/rules.py",
        )
    # What comes out may meet filters: were it pinned, it would keep them all whole and so hide the refusal.
    unknown = site.ties.new if any(site.ties.droppable(labels) for labels in axes) else pinned
    return tuple(tuple(unknown(length) for length in shape) for shape in site.out_shapes)


def _elementwise(site: Site) -> ValueLabels:
    (shape,) = site.out_shapes
    ranked = [operand.labels for operand in site.operands if len(operand.labels) == len(shape)]
    return tuple(
        site.ties.tie_axes([labels[axis] for labels in ranked]) if ranked else pinned(length)
        for axis, length in enumerate(shape)
    )


def _reduce(site: Site) -> ValueLabels:
    operand = site.operands[0]
    for axis in site.params["axes"]:
        labels = operand.labels[axis]
        if site.masks_statistics and axis == len(operand.labels) - 1:
            if site.ties.droppable(labels):
                site.seen.normalised_over.setdefault(site.layer, labels)
        else:
            site.refuse(
                labels,
                "reduces over channels that may be dropped, so its result would change with how many are kept",
                "reduce over positions only, or use flax.nnx.LayerNorm, RMSNorm or GroupNorm for statistics over channels",
            )
    return tuple(labels for axis, labels in enumerate(operand.labels) if axis not in site.params["axes"])


def _window(site: Site) -> ValueLabels:
    operand = site.operands[0]
    for labels, window in zip(operand.labels, site.params["window_dimensions"], strict=True):
        if window != 1:
            site.refuse(labels, "pools over channels that may be dropped", "pool over positions only")
    (shape, *_) = site.out_shapes
    return tuple(
        labels if len(labels) == length else pinned(length) for labels, length in zip(operand.labels, shape, strict=True)
    )


def _convolution(site: Site) -> ValueLabels:
    image, kernel = site.operands
    numbers = site.params["dimension_numbers"]
    groups = site.params["feature_group_count"]
    if site.params["batch_group_count"] != 1:
        site.refuse(kernel.labels[numbers.rhs_spec[0]], "has batch_group_count > 1", "use feature_group_count")
    channels = image.labels[numbers.lhs_spec[1]]
    creates, consumes = kernel.labels[numbers.rhs_spec[0]], kernel.labels[numbers.rhs_spec[1]]
    for axis in numbers.rhs_spec[2:]:
        site.ties.pin(kernel.labels[axis])
    if groups == 1:
        site.seen.contracted.append(consumes)
        site.ties.tie_axes([channels, consumes])
    else:
        # A grouped convolution loses whole groups: what flows into one and what comes out of it are one unit.
        site.ties.pin(consumes)
        for inputs, outputs in zip(np.split(channels, groups), np.split(creates, groups), strict=True):
            site.ties.tie_all(np.concatenate([inputs, outputs]))
    (shape,) = site.out_shapes
    out = [pinned(length) for length in shape]
    out[numbers.out_spec[0]] = image.labels[numbers.lhs_spec[0]]
    out[numbers.out_spec[1]] = creates
    # A transposed convolution multiplies what it is given; the zeros that it spreads between are not counted.
    transposed = any(rate != 1 for rate in site.params["lhs_dilation"])
    counted = (
        [len(image.labels[axis]) for axis in numbers.lhs_spec] if transposed else [shape[axis] for axis in numbers.out_spec]
    )
    positions = math.prod(counted[2:])
    window = math.prod(len(kernel.labels[axis]) for axis in numbers.rhs_spec[2:])
    batch = len(image.labels[numbers.lhs_spec[0]])
    site.seen.products.append(Product(batch * positions * window, (creates, consumes)))
    site.seen.creations.append(Creation(creates, site.layer, convolutional=True))
    return tuple(out)


def _dot(site: Site) -> ValueLabels:
    left, right = site.operands
    (left_contract, right_contract), (left_batch, right_batch) = site.params["dimension_numbers"]
    contracted = []
    for a, b in zip(left_contract, right_contract, strict=True):
        if left.weight or right.weight:
            site.seen.contracted.append(right.labels[b] if right.weight else left.labels[a])
        else:
            # Queries times keys: attention scales the sum by how many there are, so all of them are kept.
            site.ties.pin(left.labels[a])
            site.ties.pin(right.labels[b])
        contracted.append(site.ties.tie_axes([left.labels[a], right.labels[b]]))
    batch = [site.ties.tie_axes([left.labels[a], right.labels[b]]) for a, b in zip(left_batch, right_batch, strict=True)]
    free = [
        [labels for axis, labels in enumerate(value.labels) if axis not in (*contract, *shared)]
        for value, contract, shared in ((left, left_contract, left_batch), (right, right_contract, right_batch))
    ]
    site.seen.products.append(Product(1, (*batch, *free[0], *free[1], *contracted)))
    for value, axes in ((left, free[0]), (right, free[1])):
        if value.weight:
            site.seen.creations.extend(Creation(labels, site.layer, convolutional=False) for labels in axes)
    return (*batch, *free[0], *free[1])


def _broadcast(site: Site) -> ValueLabels:
    (shape,) = site.out_shapes
    out = [anything(length) for length in shape]
    for axis, target in enumerate(site.params["broadcast_dimensions"]):
        if len(site.operands[0].labels[axis]) == shape[target]:
            out[target] = site.operands[0].labels[axis]
    return tuple(out)


def _transpose(site: Site) -> ValueLabels:
    return tuple(site.operands[0].labels[axis] for axis in site.params["permutation"])


def _squeeze(site: Site) -> ValueLabels:
    return tuple(labels for axis, labels in enumerate(site.operands[0].labels) if axis not in site.params["dimensions"])


def _concatenate(site: Site) -> ValueLabels:
    joined = site.params["dimension"]
    operands = [operand.labels for operand in site.operands]
    return tuple(
        np.concatenate([labels[axis] for labels in operands])
        if axis == joined
        else site.ties.tie_axes([labels[axis] for labels in operands])
        for axis in range(len(operands[0]))
    )


def _slice(site: Site) -> ValueLabels:
    starts, limits = site.params["start_indices"], site.params["limit_indices"]
    strides = site.params["strides"] or (1,) * len(starts)
    return tuple(
        labels[start:limit:stride]
        for labels, start, limit, stride in zip(site.operands[0].labels, starts, limits, strides, strict=True)
    )


def _split(site: Site) -> tuple[ValueLabels, ...]:
    axis, sizes = site.params["axis"], site.params["sizes"]
    labels = site.operands[0].labels
    parts = np.split(labels[axis], np.cumsum(sizes)[:-1])
    return tuple((*labels[:axis], part, *labels[axis + 1 :]) for part in parts)


def _pad(site: Site) -> ValueLabels:
    out = []
    for labels, (low, high, interior) in zip(site.operands[0].labels, site.params["padding_config"], strict=True):
        if low == high == interior == 0:
            out.append(labels)
        elif interior or low < 0 or high < 0 or not site.ties.droppable(labels):
            site.refuse(labels, "cuts or spreads channels that may be dropped", "pad channels at their ends only")
            out.append(pinned(low + high + max(0, len(labels) + (len(labels) - 1) * interior)))
        else:
            out.append(np.concatenate([anything(low), labels, anything(high)]))
    return tuple(out)


def _reverse(site: Site) -> ValueLabels:
    return tuple(
        labels[::-1] if axis in site.params["dimensions"] else labels for axis, labels in enumerate(site.operands[0].labels)
    )


def _reshape(site: Site) -> ValueLabels:
    labels = site.operands[0].labels
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
    droppable = [index for index, labels in enumerate(axes) if site.ties.droppable(labels)]
    for index in droppable[1:]:
        site.refuse(axes[index], "flattens two axes of filters into one", "flatten positions and one axis of channels only")
    lengths = [len(labels) for labels in axes]
    if not droppable:
        varies = any(np.any(labels != ANY) for labels in axes)
        return pinned(math.prod(lengths)) if varies else anything(math.prod(lengths))
    kept = droppable[0]
    shape = [1] * len(axes)
    shape[kept] = lengths[kept]
    return np.broadcast_to(axes[kept].reshape(shape), lengths).reshape(-1)


def _unmerge(site: Site, labels: AxisLabels, lengths: Sequence[int]) -> list[AxisLabels]:
    if not site.ties.droppable(labels):
        fill = anything if np.all(labels == ANY) else pinned
        return [fill(length) for length in lengths]
    table = site.ties.roots(labels).reshape(lengths)
    for axis in range(len(lengths)):
        line = np.moveaxis(table, axis, 0).reshape(lengths[axis], -1)
        if np.all(line == line[:, :1]):  # the exact inverse of a flatten
            return [line[:, 0] if other == axis else pinned(length) for other, length in enumerate(lengths)]
    # Channels are split into blocks (GroupNorm): a block is dropped or kept as a whole.
    first = next(axis for axis, length in enumerate(lengths) if length != 1)
    blocks = labels.reshape(lengths[first], -1)
    tied = np.array([site.ties.tie_all(block) for block in blocks], dtype=np.int64)
    return [tied if axis == first else pinned(length) for axis, length in enumerate(lengths)]


_RULES: dict[str, Callable[[Site], Any]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "concatenate": _concatenate,
    "slice": _slice,
    "split": _split,
    "pad": _pad,
    "rev": _reverse,
    "reshape": _reshape,
}
