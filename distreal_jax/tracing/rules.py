"""How each primitive of a jaxpr ties the labels of its operands: one small rule per primitive.

Sources of the ties: a kernel's input axis and the channels that flow into it, a bias or a scale and the channels it is
applied to, both sides of a residual sum, the parts of a concatenation, the copies that a flatten makes of a channel.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from distreal_jax.tracing.carrying_rules import CARRYING_RULES
from distreal_jax.tracing.labels import ValueLabels, anything, pinned
from distreal_jax.tracing.shape_rules import SHAPE_RULES
from distreal_jax.tracing.site import Product, Site, create

ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e bitcast_convert_type cbrt ceil "
    "clamp complex conj convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 "
    "floor ge gt imag integer_pow is_finite le lgamma log log1p logistic lt max min mul name ne neg nextafter not or "
    "pow real reduce_precision rem round rsqrt select_n sharding_constraint shift_left shift_right_arithmetic "
    "shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor".split()
)
REDUCTIONS = frozenset("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin".split())
WINDOWS = frozenset("reduce_window reduce_window_max reduce_window_min reduce_window_sum".split())


def register_rule(primitive: str, rule: Callable[[Site], ValueLabels | list[ValueLabels]]) -> None:
    """Says how a primitive that tracing does not know ties filters.

    A rule is given the equation (`Site`) and returns the labels of its output, one integer array for each axis; of several
    outputs a list of such. `site.operands[i].labels` are those of an operand. Axes that are passed on keep their labels;
    `site.ties.tie_axes` makes filters of several operands one; `site.refuse` is for axes that the primitive mixes. The
    proof at the end of a trace shows whether the rule is right.

    Args:
      primitive: The name that the refusal gave.
      rule: `elementwise_rule` for one that computes each element from those at its place.
    """
    _RULES[primitive] = rule


def apply_rule(site: Site) -> tuple[ValueLabels, ...]:
    """Ties labels as the equation demands and returns those of its outputs.

    Raises:
      InputError: There is no rule and a droppable axis is involved, or the equation mixes channels in a way that a
        sub-network can't reproduce.
    """
    name = site.primitive
    if name in _RULES:
        result = _RULES[name](site)
        return tuple(result) if isinstance(result, list) else (result,)
    if name in ELEMENTWISE:
        return (elementwise_rule(site),)
    if name in REDUCTIONS:
        return (_reduce(site),)
    if name in WINDOWS:
        return (_window(site),) * len(site.out_shapes)
    if name.startswith(("random_", "threefry")):
        # Draws that are alike: which filters meet which draw matters to nothing.
        return tuple(tuple(anything(length) for length in shape) for shape in site.out_shapes)
    axes = [labels for operand in site.operands for labels in operand.labels]
    for labels in axes:
        site.refuse(
            labels,
            "has no rule for filters that may be dropped",
            "write it with convolutions, dots, elementwise operations and reductions over positions, give it a rule "
            "(register_rule)",
        )
    # What comes out may meet filters: were it pinned, it would keep them all whole and so hide the refusal.
    unknown = site.ties.new if any(site.ties.droppable(labels) for labels in axes) else pinned
    return tuple(tuple(unknown(length) for length in shape) for shape in site.out_shapes)


def elementwise_rule(site: Site) -> ValueLabels:
    """The rule of primitives that compute each element from those at its place."""
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
                # A call that is compiled once may stand at several places: its mask is one, so their filters are.
                known = site.seen.normalised_over.setdefault(site.occasion, labels)
                site.ties.tie_axes([known, labels])
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
    for axis in numbers.lhs_spec[2:]:
        site.ties.pin(image.labels[axis])
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
    create(site, creates, "conv")
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
    if not (left.weight or right.weight):
        site.seen.heads.extend(batch)
    free = [
        [labels for axis, labels in enumerate(value.labels) if axis not in (*contract, *shared)]
        for value, contract, shared in ((left, left_contract, left_batch), (right, right_contract, right_batch))
    ]
    site.seen.products.append(Product(1, (*batch, *free[0], *free[1], *contracted)))
    for value, axes in ((left, free[0]), (right, free[1])):
        if value.weight:
            for labels in axes:
                create(site, labels, "dense")
    return (*batch, *free[0], *free[1])


_RULES: dict[str, Callable[[Site], Any]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    **SHAPE_RULES,
    **CARRYING_RULES,
}
