"""Convolutions and poolings in numpy, by the parameters of JAX's primitives."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def padded(array: Array, config: Sequence[tuple[int, int, int]], fill: Any) -> Array:
    """An array with elements put before, after and between its own along each axis (the primitive `pad`).

    Args:
      array: [...].
      config: For each axis how many elements to put before, after, and between; negative numbers cut.
      fill: Their value.
    """
    shape = [length + max(0, length - 1) * inside for length, (_, _, inside) in zip(array.shape, config, strict=True)]
    spread = np.full(shape, fill, dtype=array.dtype)
    spread[tuple(slice(None, None, inside + 1) for _, _, inside in config)] = array
    added = [(max(0, low), max(0, high)) for low, high, _ in config]
    out = np.pad(spread, added, constant_values=fill) if any(map(any, added)) else spread
    cut = [slice(max(0, -low), length - max(0, -high)) for length, (low, high, _) in zip(out.shape, config, strict=True)]
    return out[tuple(cut)]


def _views(array: Array, window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Array:
    """All windows along the last axes: [..., positions of windows, elements of a window]."""
    count = len(window)
    spans = [(size - 1) * rate + 1 for size, rate in zip(window, dilation, strict=True)]
    axes = tuple(range(array.ndim - count, array.ndim))
    views = np.lib.stride_tricks.sliding_window_view(array, spans, axis=axes)
    steps = [slice(None)] * (array.ndim - count) + [slice(None, None, stride) for stride in strides]
    return views[tuple(steps + [slice(None, None, rate) for rate in dilation])]


def convolution(image: Array, kernel: Array, params: dict[str, Any]) -> Array:
    """The primitive `conv_general_dilated`, each group of channels as one product of matrices.

    Args:
      image: In the layout that the parameters name, such as [batch, height, width, channels].
      kernel: Likewise, such as [height, width, channels, filters].
      params: Of the primitive.

    Returns:
      In the layout that the parameters name, such as [batch, out height, out width, filters].
    """
    numbers = params["dimension_numbers"]
    image, kernel = image.transpose(numbers.lhs_spec), kernel.transpose(numbers.rhs_spec)
    spread = [(low, high, rate - 1) for (low, high), rate in zip(params["padding"], params["lhs_dilation"], strict=True)]
    image = padded(image, [(0, 0, 0), (0, 0, 0), *spread], 0)
    by_batch, by_feature = params["batch_group_count"], params["feature_group_count"]
    groups = max(by_batch, by_feature)
    window = kernel.shape[2:]
    views = _views(image, window, params["window_strides"], params["rhs_dilation"])  # [batch, channels, *out, *window]
    out = views.shape[2 : 2 + len(window)]
    if by_batch > 1:
        parts = views.reshape(by_batch, -1, *views.shape[1:])
    else:
        parts = np.moveaxis(views.reshape(views.shape[0], groups, -1, *views.shape[2:]), 1, 0)
    parts = np.moveaxis(parts, 2, 2 + len(window))  # [groups, batch, *out, channels, *window]
    batch = parts.shape[1]
    matrix = kernel.reshape(groups, kernel.shape[0] // groups, -1)
    product = parts.reshape(groups, batch * math.prod(out), -1) @ matrix.transpose(0, 2, 1)
    features = np.moveaxis(product.reshape(groups, batch, *out, -1), (0, -1), (1, 2))  # [batch, groups, features, *out]
    return features.reshape(batch, -1, *out).transpose(np.argsort(numbers.out_spec))


def reduced(array: Array, params: dict[str, Any], function: Callable[..., Any], neutral: float) -> Array:
    """A pooling.

    Args:
      array: [...], all axes are pooled by the windows of the parameters.
      params: Of the primitive.
      function: Reduces the elements of a window, such as `np.max`.
      neutral: What is put around the array.

    Returns:
      [...], of as many axes.
    """
    if array.dtype.kind in "iu" and not np.isfinite(neutral):
        neutral = np.iinfo(array.dtype).min if neutral < 0 else np.iinfo(array.dtype).max
    config = [(low, high, rate - 1) for (low, high), rate in zip(params["padding"], params["base_dilation"], strict=True)]
    views = _views(
        padded(array, config, neutral), params["window_dimensions"], params["window_strides"], params["window_dilation"]
    )
    return np.asarray(function(views, axis=tuple(range(array.ndim, 2 * array.ndim))))


def scattered(source: Array, operand: Array, params: dict[str, Any]) -> Array:
    """The primitive `select_and_scatter_add`, a pooling's derivative: each value goes to the first extreme of its window.

    Args:
      source: One value for each window, [...].
      operand: What was pooled, [...].
      params: Of the primitive.

    Returns:
      [...], of the shape of `operand`.
    """
    largest = params["select_prim"].name == "ge"
    config = [(low, high, 0) for low, high in params["padding"]]
    filled = padded(operand, config, -np.inf if largest else np.inf)
    places = padded(np.arange(1, operand.size + 1).reshape(operand.shape), config, 0)
    ones = (1,) * operand.ndim
    window, strides = params["window_dimensions"], params["window_strides"]
    values = _views(filled, window, strides, ones).reshape(*source.shape, -1)
    of = _views(places, window, strides, ones).reshape(*source.shape, -1)
    chosen = (np.argmax if largest else np.argmin)(values, axis=-1)
    target = np.take_along_axis(of, chosen[..., None], axis=-1)[..., 0]
    out = np.zeros(operand.size + 1, dtype=source.dtype)
    np.add.at(out, target.reshape(-1), source.reshape(-1))
    return out[1:].reshape(operand.shape)
