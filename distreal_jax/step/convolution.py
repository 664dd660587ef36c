"""A convolution and its gradients in the one layout that XLA computes fast inside a loop on a CPU.

XLA has a fast convolution for CPUs, and brings convolutions into the layout that it takes, but outside loops alone; inside
one, as in a client's local training, whatever has another layout is computed by a kernel a hundred times slower. JAX writes
both gradients of a convolution in another layout. Here all three are written in the layout that is taken: images
[batch, ..., channels], kernels [..., channels, filters], nothing reversed.

Few filters are slow all the same, as the kernel fills vectors and registers with filters. So several neighbouring columns of
the output are computed as filters of one wider kernel (a *folded* convolution): with F columns at once the kernel is F - 1
columns wider, filled up with zeros, and takes F steps at once. 3x3, [20, 32, 32], one core, ms forwards, by columns at once:

| channels and filters | 1 | 2 | 4 | 8 | patches times matrix |
|---|---|---|---|---|---|
| 4 | 1.40 | 0.60 | 0.46 | 0.23 | 0.53 |
| 8 | 1.23 | 0.71 | 0.49 | 0.77 | 0.82 |
| 16 | 1.96 | 1.29 | 1.86 | | 1.96 |
| 32 (of [20, 16, 16]) | 0.93 | 1.20 | | | 1.42 |

(2 threads of one core of an AMD EPYC, 190 GFLOP/s, jax 0.10.2, 2026-11-25; the gradient of the kernel is computed unfolded, where
it takes 1.33 ms at 16 channels and 0.50 at 8, against 2.86 and 1.60 as a product of patches.)
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Measured (above, and for 3 to 64 channels by 2 to 64 filters): from 20 filters on the kernel is at its speed, from 40 on for
# images of up to three channels; with 24 channels and more it is so for any number of filters.
_ENOUGH_FILTERS, _ENOUGH_FILTERS_OF_COLOURS, _ENOUGH_CHANNELS = 20, 40, 24
_MOST_COLUMNS = 8


class Geometry(NamedTuple):
    """How windows lie over an image: one number, or pair, for each spatial axis."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]  # of the kernel


def columns_at_once(channels: int, filters: int, columns: int) -> int:
    """How many columns of the output a folded convolution computes at once.

    Args:
      channels: Of the image.
      filters: Of the kernel.
      columns: Of the output.

    Returns:
      1, 2, 4 or 8, a divisor of `columns`.
    """
    enough = _ENOUGH_FILTERS if channels > 3 else _ENOUGH_FILTERS_OF_COLOURS
    if channels >= _ENOUGH_CHANNELS:
        return 1
    at_once = 1
    while at_once * filters < enough and at_once < _MOST_COLUMNS and columns % (2 * at_once) == 0:
        at_once *= 2
    return at_once


def convolution(image: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """A convolution, with gradients to image and kernel (reverse mode alone).

    Args:
      image: [batch, spatial ..., channels].
      kernel: [window ..., channels, filters].
      geometry: How its windows lie.

    Returns:
      [batch, out spatial ..., filters].
    """
    reach = [(window - 1) * between for window, between in zip(kernel.shape, geometry.dilation, strict=False)]
    if any(max(sides) > far for sides, far in zip(geometry.padding, reach, strict=True)):
        # A window that lies in the padding alone would make the padding of a gradient negative.
        image = jnp.pad(image, ((0, 0), *geometry.padding, (0, 0)))
        geometry = geometry._replace(padding=((0, 0),) * len(reach))
    return _convolution(image, kernel, geometry)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(image: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    return _folded(image, kernel, geometry)


def _forward(
    image: jax.Array, kernel: jax.Array, geometry: Geometry
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _folded(image, kernel, geometry), (image, kernel)


def _backward(geometry: Geometry, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    image, kernel = saved
    return _image_gradient(image, kernel, geometry, cotangent), _kernel_gradient(image, kernel, geometry, cotangent)


_convolution.defvjp(_forward, _backward)


def _image_gradient(image: jax.Array, kernel: jax.Array, geometry: Geometry, cotangent: jax.Array) -> jax.Array:
    """The convolution of the cotangent, its positions as far apart as the strides, with the kernel turned round."""
    spatial = range(kernel.ndim - 2)
    turned = jnp.flip(kernel, axis=tuple(spatial)).swapaxes(-1, -2)
    padding = []
    for axis in spatial:
        reach = (kernel.shape[axis] - 1) * geometry.dilation[axis]
        dilated = (cotangent.shape[axis + 1] - 1) * geometry.strides[axis] + 1
        before = reach - geometry.padding[axis][0]
        padding.append((before, image.shape[axis + 1] + reach - dilated - before))
    ones = (1,) * len(spatial)
    return _folded(cotangent, turned, Geometry(ones, tuple(padding), geometry.dilation), geometry.strides)


def _kernel_gradient(image: jax.Array, kernel: jax.Array, geometry: Geometry, cotangent: jax.Array) -> jax.Array:
    """The convolution of the image with the cotangent, where channels are the batch and the batch is the channels."""
    spatial = range(kernel.ndim - 2)
    padding = []
    for axis in spatial:
        low = geometry.padding[axis][0]
        dilated = (cotangent.shape[axis + 1] - 1) * geometry.strides[axis] + 1
        padding.append((low, dilated + (kernel.shape[axis] - 1) * geometry.dilation[axis] - image.shape[axis + 1] - low))
    axes = tuple(axis + 1 for axis in spatial)
    # The barriers keep XLA from taking the transpositions into the convolution, which would then be of another layout.
    swapped, wide = lax.optimization_barrier(
        (image.transpose(image.ndim - 1, *axes, 0), cotangent.transpose(*axes, 0, cotangent.ndim - 1))
    )
    gradient = _plain(swapped, wide, Geometry(geometry.dilation, tuple(padding), geometry.strides))
    return gradient.transpose(*axes, 0, gradient.ndim - 1)


def _folded(image: jax.Array, kernel: jax.Array, geometry: Geometry, image_dilation: Sequence[int] | None = None) -> jax.Array:
    """The convolution, several columns of its output at once."""
    channels, filters = kernel.shape[-2:]
    dilation = (1,) * (kernel.ndim - 2) if image_dilation is None else tuple(image_dilation)
    stride, between = geometry.strides[-1], geometry.dilation[-1]
    length = (image.shape[-2] - 1) * dilation[-1] + 1 + sum(geometry.padding[-1])
    columns = (length - (kernel.shape[-3] - 1) * between - 1) // stride + 1
    at_once = columns_at_once(channels, filters, columns)
    if at_once == 1 or between > 1:
        return _plain(image, lax.optimization_barrier(kernel), geometry, dilation)
    further = [stride * position for position in range(at_once)]
    before_columns = [(0, 0)] * (kernel.ndim - 3)
    wide = [jnp.pad(kernel, (*before_columns, (begin, further[-1] - begin), (0, 0), (0, 0))) for begin in further]
    folded = lax.optimization_barrier(jnp.concatenate(wide, axis=-1))
    # What lies behind the last window of all columns is cut, or it would count as one more step.
    low, high = geometry.padding[-1]
    reached = (columns - 1) * stride + kernel.shape[-3]
    strides = (*geometry.strides[:-1], stride * at_once)
    padding = (*geometry.padding[:-1], (low, high - (length - reached)))
    out = _plain(image, folded, Geometry(strides, padding, geometry.dilation), dilation)
    return out.reshape(*out.shape[:-2], columns, filters)


def _plain(
    image: jax.Array, kernel: jax.Array, geometry: Geometry, image_dilation: Sequence[int] | None = None
) -> jax.Array:
    """XLA's convolution in the layout that it takes as it is."""
    spatial = range(kernel.ndim - 2)
    dilation = (1,) * len(spatial) if image_dilation is None else tuple(image_dilation)
    # What no window reaches is cut: with negative padding XLA's kernel reads beyond the image (jax 0.10.2: gradients of 1e34).
    unreached = [min(0, high) for _, high in geometry.padding]
    ends = [size + cut for size, cut in zip(image.shape, (0, *unreached, 0), strict=True)]
    padding = [(low, max(0, high)) for low, high in geometry.padding]
    letters = "XYZ"[: len(spatial)]
    return lax.conv_general_dilated(
        lax.slice(image, [0] * image.ndim, ends),
        kernel,
        geometry.strides,
        padding,
        lhs_dilation=dilation,
        rhs_dilation=geometry.dilation,
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )
