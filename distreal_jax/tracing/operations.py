"""What the primitives of a jaxpr compute, in numpy, in double precision."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import scipy.special

from distreal_jax.tracing import windows

Array = npt.NDArray[Any]


def exact(value: Any) -> Array:
    """A number or an array [...] in double precision, of the same shape; keys of random numbers become zeros."""
    if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return np.zeros(value.shape, dtype=np.uint32)
    array = np.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(np.float64)
    return array.astype(np.complex128) if jnp.issubdtype(array.dtype, jnp.complexfloating) else array


def _divide(left: Array, right: Array) -> Array:
    if np.issubdtype(left.dtype, np.integer):
        return (np.sign(left) * np.sign(right) * (np.abs(left) // np.maximum(np.abs(right), 1))).astype(left.dtype)
    return left / right


def _select(which: Array, *cases: Array) -> Array:
    return np.where(which, cases[1], cases[0]) if which.dtype == bool else np.choose(which, cases)


def _broadcast(operands: Sequence[Array], params: dict[str, Any]) -> Array:
    shape = [1] * len(params["shape"])
    for axis, target in enumerate(params["broadcast_dimensions"]):
        shape[target] = operands[0].shape[axis]
    return np.broadcast_to(operands[0].reshape(shape), params["shape"])


def _reshape(operands: Sequence[Array], params: dict[str, Any]) -> Array:
    order = params["dimensions"]
    return (operands[0] if order is None else operands[0].transpose(order)).reshape(params["new_sizes"])


def _converted(operands: Sequence[Array], params: dict[str, Any]) -> Array:
    kind = params["new_dtype"]
    if jnp.issubdtype(kind, jnp.floating):
        return np.real(operands[0]).astype(np.float64)
    return operands[0].astype(np.complex128 if jnp.issubdtype(kind, jnp.complexfloating) else kind)


def _dot(operands: Sequence[Array], params: dict[str, Any]) -> Array:
    left, right = operands
    (left_contract, right_contract), (left_batch, right_batch) = params["dimension_numbers"]
    letters = list(range(left.ndim))
    others = list(range(left.ndim, left.ndim + right.ndim))
    for a, b in (*zip(left_contract, right_contract, strict=True), *zip(left_batch, right_batch, strict=True)):
        others[b] = letters[a]
    out = [letters[a] for a in left_batch]
    out += [letters[a] for a in range(left.ndim) if a not in (*left_contract, *left_batch)]
    out += [others[b] for b in range(right.ndim) if b not in (*right_contract, *right_batch)]
    return np.asarray(np.einsum(left, letters, right, others, out, optimize=True))


def _pad(operands: Sequence[Array], params: dict[str, Any]) -> Array:
    return windows.padded(operands[0], params["padding_config"], operands[1])


def _slice(operands: Sequence[Array], params: dict[str, Any]) -> Array:
    strides = params["strides"] or (1,) * operands[0].ndim
    along = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return operands[0][tuple(slice(*bounds) for bounds in along)]


def _starts(operand: Array, sizes: Sequence[int], indices: Sequence[Array]) -> tuple[slice, ...]:
    starts = [min(max(int(i), 0), length - size) for i, length, size in zip(indices, operand.shape, sizes, strict=True)]
    return tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))


def _dynamic_slice(operands: Sequence[Array], params: dict[str, Any]) -> Array:
    return operands[0][_starts(operands[0], params["slice_sizes"], operands[1:])]


def _dynamic_update(operands: Sequence[Array], _: dict[str, Any]) -> Array:
    out = operands[0].copy()
    out[_starts(operands[0], operands[1].shape, operands[2:])] = operands[1]
    return out


def _cumulative(function: Any, operands: Sequence[Array], params: dict[str, Any]) -> Array:
    axis = params["axis"]
    values = np.flip(operands[0], axis) if params["reverse"] else operands[0]
    out = function(values, axis=axis)
    return np.flip(out, axis) if params["reverse"] else out


def _sort(operands: Sequence[Array], params: dict[str, Any]) -> list[Array]:
    axis = params["dimension"]
    order = np.lexsort(tuple(reversed(operands[: params["num_keys"]])), axis=axis)
    return [np.take_along_axis(operand, order, axis) for operand in operands]


def _reduced(function: Any, operands: Sequence[Array], params: dict[str, Any]) -> Array:
    return np.asarray(function(operands[0], axis=tuple(params["axes"])))


def _place_of_extreme(function: Any, operands: Sequence[Array], params: dict[str, Any]) -> Array:
    return np.asarray(function(operands[0], axis=params["axes"][0])).astype(params["index_dtype"])


def _iota(_: Sequence[Array], params: dict[str, Any]) -> Array:
    shape, axis = params["shape"], params["dimension"]
    along = np.arange(shape[axis], dtype=params["dtype"]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return exact(np.broadcast_to(along, shape))


_NUMPY = "abs cbrt ceil conj cos cosh exp exp2 expm1 floor imag log log1p nextafter real sign sin sinh sqrt square tan tanh"

ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "random_gamma": lambda _, mean: mean,
    **{name: getattr(np, name) for name in _NUMPY.split()},
    **{f"a{name}": getattr(np, f"arc{name}") for name in "cos cosh sin sinh tan tanh".split()},
    "add": np.add,
    "add_any": np.add,
    "and": np.bitwise_and,
    "atan2": np.arctan2,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "complex": lambda real, imaginary: real + 1j * imaginary,
    "copy": np.array,
    "copy_p": np.array,
    "digamma": scipy.special.digamma,
    "div": _divide,
    "eq": np.equal,
    "erf": scipy.special.erf,
    "erf_inv": scipy.special.erfinv,
    "erfc": scipy.special.erfc,
    "ge": np.greater_equal,
    "gt": np.greater,
    "is_finite": np.isfinite,
    "le": np.less_equal,
    "lgamma": scipy.special.gammaln,
    "logistic": scipy.special.expit,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.invert,
    "optimization_barrier": lambda *operands: list(operands),
    "or": np.bitwise_or,
    "pow": np.power,
    "rem": np.fmod,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "select_n": _select,
    "shift_left": np.left_shift,
    "shift_right_arithmetic": np.right_shift,
    "shift_right_logical": np.right_shift,
    "stop_gradient": np.array,
    "sub": np.subtract,
    "xor": np.bitwise_xor,
}

WITH_PARAMS: dict[str, Callable[[Sequence[Array], dict[str, Any]], Any]] = {
    "argmax": functools.partial(_place_of_extreme, np.argmax),
    "argmin": functools.partial(_place_of_extreme, np.argmin),
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda operands, params: np.concatenate(operands, axis=params["dimension"]),
    "conv_general_dilated": lambda operands, params: windows.convolution(operands[0], operands[1], params),
    "convert_element_type": _converted,
    "cummax": functools.partial(_cumulative, np.maximum.accumulate),
    "cummin": functools.partial(_cumulative, np.minimum.accumulate),
    "cumprod": functools.partial(_cumulative, np.cumprod),
    "cumsum": functools.partial(_cumulative, np.cumsum),
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "integer_pow": lambda operands, params: operands[0] ** params["y"],
    "iota": _iota,
    "pad": _pad,
    "reduce_and": functools.partial(_reduced, np.all),
    "reduce_max": functools.partial(_reduced, np.max),
    "reduce_min": functools.partial(_reduced, np.min),
    "reduce_or": functools.partial(_reduced, np.any),
    "reduce_precision": lambda operands, _: operands[0],
    "reduce_prod": functools.partial(_reduced, np.prod),
    "reduce_sum": functools.partial(_reduced, np.sum),
    "reduce_window_max": lambda operands, params: windows.reduced(operands[0], params, np.max, -np.inf),
    "reduce_window_min": lambda operands, params: windows.reduced(operands[0], params, np.min, np.inf),
    "reduce_window_sum": lambda operands, params: windows.reduced(operands[0], params, np.sum, 0),
    "reshape": _reshape,
    "rev": lambda operands, params: np.flip(operands[0], params["dimensions"]),
    "round": lambda operands, params: (
        np.round(operands[0]) if int(params["rounding_method"]) else np.trunc(operands[0] + np.copysign(0.5, operands[0]))
    ),
    "select_and_scatter_add": lambda operands, params: windows.scattered(operands[0], operands[1], params),
    "slice": _slice,
    "sort": _sort,
    "split": lambda operands, params: np.split(operands[0], np.cumsum(params["sizes"])[:-1], axis=params["axis"]),
    "squeeze": lambda operands, params: np.squeeze(operands[0], axis=tuple(params["dimensions"])),
    "transpose": lambda operands, params: np.transpose(operands[0], params["permutation"]),
}
