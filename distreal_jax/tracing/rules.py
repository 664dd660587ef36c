"""How each primitive of a jaxpr ties the labels of its operands: one small rule per primitive.

Sources of the ties: a kernel's input axis and the channels that flow into it, a bias or a scale and the channels it is
applied to, both sides of a residual sum, the parts of a concatenation, the copies that a flatten makes of a channel.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distreal_jax.tracing.carrying_rules import CARRYING_RULES
from distreal_jax.tracing.labels import ANY, PINNED, ValueLabels, pinned
from distreal_jax.tracing.masking import REDUCTIONS, RISKY
from distreal_jax.tracing.shape_rules import SHAPE_RULES
from distreal_jax.tracing.site import Product, Site, create

ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp "
    "clz complex conj convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 "
    "floor ge gt imag integer_pow is_finite le lgamma log log1p logistic lt max min mul mulhi name ne neg nextafter not or "
    "polygamma population_count pow real reduce_precision rem round rsqrt select_n sharding_constraint shift_left "
    "shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta".split()
)
PLACES_OF_ONE = frozenset("argmax argmin reduce_xor".split())  # what they give depends on which channels there are
# Work that grows faster than the elements which it is done to, and that is in no count of MACs.
_UNCOUNTED = frozenset(
    "cholesky cholesky_update custom_linear_solve dot_product_attention_fwd dot_product_attention_fwd_wrapper eig eigh "
    "ffi_call fft geqp3 geqrf hessenberg householder_product lu ormqr pallas_call scaled_matmul scaled_matmul_wrapper schur "
    "svd symmetric_product triangular_solve tridiagonal tridiagonal_solve".split()
)
WINDOWS = frozenset("reduce_window reduce_window_max reduce_window_min reduce_window_sum".split())


def register_rule(primitive: str, rule: Callable[[Site], ValueLabels | list[ValueLabels]]) -> None:
    """Says how a primitive that tracing does not know ties filters.

    A rule is given the equation (`Site`) and returns the labels of its output, one integer array for each axis; of several
    outputs a list of such. `site.operands[i].labels` are those of an operand. Axes that are passed on keep their labels;
    `site.ties.tie_axes` makes filters of several operands one; `site.keep_whole` is for axes that the primitive mixes. The
    proof at the end of a trace shows whether the rule is right.

    Args:
      primitive: The name that the refusal gave.
      rule: `elementwise_rule` for one that computes each element from those at its place.
    """
    _RULES[primitive] = rule


def known_rules() -> frozenset[tuple[str, Callable[[Site], Any]]]:
    """The rules there are now: what a trace says holds under these."""
    return frozenset(_RULES.items())


def apply_rule(site: Site) -> tuple[ValueLabels, ...]:
    """Ties labels as the equation demands and returns those of its outputs."""
    name = site.primitive
    if name in _UNCOUNTED:
        site.seen.uncounted.append(site.where)
    if name in _RULES:
        result = _RULES[name](site)
        return tuple(result) if isinstance(result, list) else (result,)
    if name in ELEMENTWISE:
        return (elementwise_rule(site),)
    if name in REDUCTIONS or name in PLACES_OF_ONE:
        return (_reduce(site),)
    if name in WINDOWS:
        return (_window(site),) * len(site.out_shapes)
    if name.startswith(("random_", "threefry")):
        return tuple(_of_keys(site, shape) for shape in site.out_shapes)
    axes = [labels for operand in site.operands for labels in operand.labels]
    # What comes out may meet filters: were it pinned, that would be what keeps them whole.
    unknown = site.ties.new if any(site.ties.droppable(labels) for labels in axes) else pinned
    for labels in axes:
        site.keep_whole(labels, "which has no rule (register_rule, see docs/extending.md)")
    return tuple(tuple(unknown(length) for length in shape) for shape in site.out_shapes)


def elementwise_rule(site: Site) -> ValueLabels:
    """The rule of primitives that compute each element from those at its place."""
    (shape,) = site.out_shapes
    ranked = [operand.labels for operand in site.operands if len(operand.labels) == len(shape)]
    if site.primitive in RISKY and site.params.get("y", -1) < 0:
        divisor = site.primitive in ("div", "rem")
        operands = {
            index: operand.labels
            for index, operand in enumerate(site.operands)
            if index >= divisor and any(np.any(labels > PINNED) for labels in operand.labels)
        }
        site.seen.risky.setdefault((site.train, site.place), operands)
    return tuple(
        site.ties.tie_axes([labels[axis] for labels in ranked]) if ranked else pinned(length)
        for axis, length in enumerate(shape)
    )


def _reduce(site: Site) -> ValueLabels:
    operand, over = site.operands[0], site.params["axes"]
    for axis in over:
        labels = operand.labels[axis]
        if site.primitive in PLACES_OF_ONE:
            site.keep_whole(labels, "which says where among the channels something is")
        elif not operand.weight and site.ties.tentative(labels):
            site.ties.pin(labels)
        elif site.normalises:
            site.seen.normalised.append(labels)
    if site.primitive in REDUCTIONS:
        site.exclude(over)
    return tuple(labels for axis, labels in enumerate(operand.labels) if axis not in over)


def _of_keys(site: Site, shape: tuple[int, ...]) -> ValueLabels:
    """Random numbers, and keys of these: whose draws they are is seen where they meet filters."""
    keys = site.operands[0].labels if site.operands else ()
    if site.primitive in ("random_bits", "random_split"):
        labels = (*keys, *(site.ties.new(length, tentative=True) for length in shape[len(keys) :]))
        site.seen.draws.setdefault((site.train, site.place), labels)
        return labels
    if site.primitive == "random_gamma":  # it draws inside itself: what meets it is kept whole
        return tuple(map(pinned, shape))
    return (*keys[: len(shape)], *map(pinned, shape[len(keys) :]))


def _window(site: Site) -> ValueLabels:
    operand = site.operands[0]
    for labels, window in zip(operand.labels, site.params["window_dimensions"], strict=True):
        if window != 1:
            site.keep_whole(labels, "which pools over neighbouring channels")
    (shape, *_) = site.out_shapes
    return tuple(
        labels if len(labels) == length else pinned(length) for labels, length in zip(operand.labels, shape, strict=True)
    )


def _convolution(site: Site) -> ValueLabels:
    image, kernel = site.operands
    numbers = site.params["dimension_numbers"]
    groups = site.params["feature_group_count"]
    examples = image.labels[numbers.lhs_spec[0]]  # and channels, where the same kernel is vmapped over them
    if (parts := site.params["batch_group_count"]) != 1:
        site.keep_whole(kernel.labels[numbers.rhs_spec[0]], "which is grouped by examples")
        site.keep_whole(examples, "which is grouped by examples")
        examples = pinned(len(examples) // parts)
    channels = image.labels[numbers.lhs_spec[1]]
    creates, consumes = kernel.labels[numbers.rhs_spec[0]], kernel.labels[numbers.rhs_spec[1]]
    for axis in numbers.rhs_spec[2:]:
        site.ties.pin(kernel.labels[axis])
    for axis in numbers.lhs_spec[2:]:
        site.ties.pin(image.labels[axis])
    inputs, outputs = channels.reshape(groups, -1), creates.reshape(groups, -1)
    if groups == 1 or (not kernel.weight and np.all(inputs == inputs[:1]) and np.all(outputs == outputs[:1])):
        # With one kernel for each example, the groups are examples.
        site.seen.contracted.append(consumes)
        site.ties.tie_axes([inputs[0], consumes])
        site.take_in(1, [numbers.rhs_spec[1]], image)
    else:
        # A grouped convolution loses whole groups: what flows into one and what comes out of it are one unit.
        site.ties.pin(consumes)
        units = [site.ties.tie_all(np.concatenate(unit)) for unit in zip(inputs, outputs, strict=True)]
        # Kernels that are alike for all channels, such as one that blurs, have none of their own.
        creates = np.where(outputs == ANY, np.array(units)[:, None], outputs).reshape(-1)
    (shape,) = site.out_shapes
    out = [pinned(length) for length in shape]
    out[numbers.out_spec[0]] = examples
    out[numbers.out_spec[1]] = creates
    # A transposed convolution multiplies what it is given; the zeros that it spreads between are not counted.
    transposed = any(rate != 1 for rate in site.params["lhs_dilation"])
    counted = (
        [len(image.labels[axis]) for axis in numbers.lhs_spec] if transposed else [shape[axis] for axis in numbers.out_spec]
    )
    positions = math.prod(counted[2:])
    window = math.prod(len(kernel.labels[axis]) for axis in numbers.rhs_spec[2:])
    operands = image.trained_by, kernel.trained_by
    site.seen.products.append(Product(positions * window, (out[numbers.out_spec[0]], creates, consumes), operands))
    create(site, creates, "conv")
    return tuple(out)


def _dot(site: Site) -> ValueLabels:
    return _multiplied(site, site.params["dimension_numbers"])


def _ragged_dot(site: Site) -> ValueLabels:
    """Each row, of an axis that groups share out, meets the matrix of its group."""
    left, right, sizes = site.operands[:3]
    numbers = site.params["ragged_dot_dimension_numbers"]
    matrices = numbers.rhs_group_dimensions
    for labels in (
        *(left.labels[axis] for axis in numbers.lhs_ragged_dimensions),
        *(right.labels[axis] for axis in matrices),
        *sizes.labels,
    ):
        site.keep_whole(labels, "which shares them out among groups")
    out = _multiplied(site, numbers.dot_dimension_numbers, matrices)
    (shape,) = site.out_shapes
    return (*map(pinned, shape[: len(shape) - len(out)]), *out)


def _multiplied(site: Site, numbers: Any, matrices: Sequence[int] = ()) -> ValueLabels:
    """Of a product of matrices; `matrices` are axes of the second operand of which each element takes one."""
    left, right = site.operands[:2]
    (left_contract, right_contract), (left_batch, right_batch) = numbers
    contracted, heads = [], any(site.ties.droppable(left.labels[axis]) for axis in left_batch)
    for a, b in zip(left_contract, right_contract, strict=True):
        if left.weight or right.weight:
            site.seen.contracted.append(right.labels[b] if right.weight else left.labels[a])
        elif heads or site.ties.tentative(left.labels[a]) or site.ties.tentative(right.labels[b]):
            # Queries times keys: heads are dropped, and each keeps all its channels.
            site.ties.pin(left.labels[a])
            site.ties.pin(right.labels[b])
        contracted.append(site.ties.tie_axes([left.labels[a], right.labels[b]]))
    site.exclude(left_contract if left.weight == right.weight else ())
    if right.weight and not right.repeated and (left.repeated or not left.weight):
        site.take_in(1, right_contract, left)
    elif left.weight and not left.repeated and (right.repeated or not right.weight):
        site.take_in(0, left_contract, right)
    batch = [site.ties.tie_axes([left.labels[a], right.labels[b]]) for a, b in zip(left_batch, right_batch, strict=True)]
    if not (left.weight or right.weight):
        site.seen.heads.extend(batch)
    free = [
        [labels for axis, labels in enumerate(value.labels) if axis not in gone]
        for value, gone in (
            (left, (*left_contract, *left_batch)),
            (right, (*right_contract, *right_batch, *matrices)),
        )
    ]
    if (
        left.weight and right.weight
    ):  # of no example, such as a norm of a kernel, or of the zeros that a recurrence begins with
        for labels in (*free[0], *free[1]):
            site.ties.certain(labels)
        if left.repeated or right.repeated:
            lengths = (*batch, *free[0], *free[1], *contracted)
            site.seen.products.append(Product(1, lengths, (left.trained_by, right.trained_by)))
        return (*batch, *free[0], *free[1])
    lengths = (*batch, *free[0], *free[1], *contracted)
    site.seen.products.append(Product(1, lengths, (left.trained_by, right.trained_by)))
    for value, axes in ((left, free[0]), (right, free[1])):
        if value.weight:
            for labels in axes:
                create(site, labels, "dense")
    return (*batch, *free[0], *free[1])


_RULES: dict[str, Callable[[Site], Any]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "ragged_dot_general": _ragged_dot,
    **SHAPE_RULES,
    **CARRYING_RULES,
}
