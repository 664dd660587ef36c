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

(One thread on an AMD EPYC whose two threads share a core, 190 GFLOP/s, jax 0.10.2, 2026-11-25. The gradient of the kernel is
computed unfolded, where it takes 1.33 ms at 16 channels and 0.50 at 8, against 2.86 and 1.60 as a product of patches.)

The gradient of the kernel is a convolution whose channels are the batch. XLA's code computes it slowly at some numbers of
filters, and faster with filters of zeros besides (`filters_of_gradient`). GFLOP/s, the same machine:

| batch, image, window, channels to filters | as they are | up to a multiple of 16 | of 32 |
|---|---|---|---|
| 20, 16x16, 3x3, 28 to 28 | 45 | 58 | 57 |
| 20, 8x8, 3x3, 56 to 56 | 59 | 76 | 77 |
| 20, 8x8, 3x3, 40 to 40 | 74 | 70 | 55 |
| 20, 14x14, 5x5, 16 to 28 | 60 | 84 | 84 |
| 10, 30x30, 3x3, 24 to 48 | 23 | 23 | 58 |
| 10, 30x30, 3x3, 20 to 40 | 20 | 20 | 48 |
| 10, 30x30, 3x3, 12 to 24 | 46 | 47 | 47 |
| 10, 30x30, 3x3, 8 to 16 | 54 | 56 | 30 |

A window of one pixel is a matrix product. The gradient of its kernel, by itself, is up to three times as fast with an image
that is transposed beforehand (20480 pixels, 48 to 24: 1.1 ms, not 3.2), as XLA has no fast code for a matrix that lies
transposed in memory; the whole step of DenseNet-40-BC is not (0.95 to 1.0 of its speed), as the copy costs what it gains.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Measured (above, and for 3 to 64 channels by 2 to 64 filters): XLA's code is at its speed from 20 filters on, for images of
# up to three channels from 40 on, and with 24 channels and more at any number of filters.
_ENOUGH_FILTERS, _ENOUGH_FILTERS_OF_COLOURS, _ENOUGH_CHANNELS = 20, 40, 24
_MOST_COLUMNS = 16


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
      A power of two up to 16, a divisor of `columns` and less than it: a convolution whose output is one column wide is
      none of those that XLA has fast code for (0.31 to 0.38 ms for 3 filters of 3x3 on [20, 8, 8, 12], not 0.09).
    """
    enough = _ENOUGH_FILTERS if channels > 3 else _ENOUGH_FILTERS_OF_COLOURS
    if channels >= _ENOUGH_CHANNELS:
        return 1
    at_once = 1
    while at_once * filters < enough and at_once < _MOST_COLUMNS and columns % (2 * at_once) == 0 and 2 * at_once < columns:
        at_once *= 2
    return at_once


def filters_of_gradient(batch: int, filters: int) -> int:
    """How many filters the gradient of a kernel is computed with: those that there are, or some of zeros besides.

    Args:
      batch: Examples, which are the channels of that convolution.
      filters: Of the kernel.
    """
    if batch % 4 and filters > 16:
        return -(-filters // 32) * 32
    padded = -(-filters // 16) * 16
    return padded if filters >= 24 and 7 * padded <= 8 * filters else filters


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
    with jax.named_scope(scope_of(image, kernel)):
        return _convolution(image, kernel, geometry)


def scope_of(image: jax.Array, kernel: jax.Array) -> str:
    """The name of a convolution's operations in profiles, of its window and its image, such as `convolution:3x3:8x8`.

    Args:
      image: [batch, height, width, channels].
      kernel: [height, width, channels, filters].
    """
    return f"convolution:{'x'.join(map(str, kernel.shape[:-2]))}:{'x'.join(map(str, image.shape[1:-1]))}"


def pointwise_convolution(image: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """A convolution whose window is one pixel, as a matrix product.

    Args:
      image: [batch, spatial ..., channels].
      kernel: [1 ..., channels, filters].
      geometry: How its windows lie.

    Returns:
      [batch, out spatial ..., filters].
    """
    padded = jnp.pad(image, ((0, 0), *geometry.padding, (0, 0))) if any(map(any, geometry.padding)) else image
    seen = lax.slice(padded, (0,) * padded.ndim, padded.shape, (1, *geometry.strides, 1))
    with jax.named_scope(scope_of(image, kernel)):
        return _product(seen, kernel.reshape(kernel.shape[-2:]))


@jax.custom_vjp
def _product(pixels: jax.Array, matrix: jax.Array) -> jax.Array:
    return _of_every_pixel(pixels, matrix)


def _product_forward(pixels: jax.Array, matrix: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _of_every_pixel(pixels, matrix), (pixels, matrix)


def _product_backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    pixels, matrix = saved
    with jax.named_scope("to_image"):
        of_pixels = _of_every_pixel(cotangent, matrix.T)
    with jax.named_scope("to_kernel"):
        return of_pixels, pixels.reshape(-1, pixels.shape[-1]).T @ cotangent.reshape(-1, cotangent.shape[-1])


_product.defvjp(_product_forward, _product_backward)


def _of_every_pixel(pixels: jax.Array, matrix: jax.Array) -> jax.Array:
    return (pixels.reshape(-1, pixels.shape[-1]) @ matrix).reshape(*pixels.shape[:-1], matrix.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(image: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    return _folded(image, kernel, geometry)


def _forward(image: jax.Array, kernel: jax.Array, geometry: Geometry) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _folded(image, kernel, geometry), (image, kernel)


def _backward(geometry: Geometry, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    image, kernel = saved
    with jax.named_scope("to_image"):
        of_image = _image_gradient(image, kernel, geometry, cotangent)
    with jax.named_scope("to_kernel"):
        return of_image, _kernel_gradient(image, kernel, geometry, cotangent)


_convolution.defvjp(_forward, _backward)


def _image_gradient(image: jax.Array, kernel: jax.Array, geometry: Geometry, cotangent: jax.Array) -> jax.Array:
    """The convolution of the cotangent, its positions as far apart as the strides, with the kernel turned round."""
    spatial = range(kernel.ndim - 2)
    turned = jnp.flip(kernel, axis=tuple(spatial)).swapaxes(-1, -2)
    if max(geometry.strides) > 1 and max(geometry.dilation) == 1:
        return _by_phases(image.shape, turned, geometry, cotangent)
    padding = []
    for axis in spatial:
        reach = (kernel.shape[axis] - 1) * geometry.dilation[axis]
        dilated = (cotangent.shape[axis + 1] - 1) * geometry.strides[axis] + 1
        before = reach - geometry.padding[axis][0]
        padding.append((before, image.shape[axis + 1] + reach - dilated - before))
    ones = (1,) * len(spatial)
    return _folded(cotangent, turned, Geometry(ones, tuple(padding), geometry.dilation), geometry.strides)


def _by_phases(shape: tuple[int, ...], turned: jax.Array, geometry: Geometry, cotangent: jax.Array) -> jax.Array:
    """The gradient to an image under strides: its pixels that see the same taps of the kernel, one such set after the other.

    Most of a dilated cotangent is zeros: 0.61 ms against 0.20 for 8 filters of 3x3 on [20, 32, 32, 4] in strides of 2.

    Args:
      shape: Of the image.
      turned: The kernel, turned round, [window ..., filters, channels].
      geometry: How its windows lie; not dilated.
      cotangent: [batch, out spatial ..., filters].
    """
    spatial = range(turned.ndim - 2)
    counts = [-(-shape[axis + 1] // geometry.strides[axis]) for axis in spatial]

    def phase(position: tuple[int, ...]) -> jax.Array:
        """The gradient of the pixels `position`, `position + strides`, ..."""
        taps, padding = turned, []
        for axis in spatial:
            window, stride = turned.shape[axis], geometry.strides[axis]
            ahead, first = divmod(position[axis] + geometry.padding[axis][0], stride)
            number = len(range(first, window, stride))  # of taps that these pixels see
            if number == 0:
                return jnp.zeros((shape[0], *counts, shape[-1]), cotangent.dtype)
            begin = window - 1 - first - (number - 1) * stride
            taps = lax.slice_in_dim(taps, begin, begin + (number - 1) * stride + 1, stride, axis)
            low = number - 1 - ahead
            padding.append((low, counts[axis] - cotangent.shape[axis + 1] - low + number - 1))
        reached = cotangent
        for axis, (low, high) in enumerate(padding):  # XLA's kernel reads beyond the image where padding is negative
            size = reached.shape[axis + 1]
            reached = lax.slice_in_dim(reached, min(size, max(0, -low)), max(0, size + min(0, high)), axis=axis + 1)
        if 0 in reached.shape:
            return jnp.zeros((shape[0], *counts, shape[-1]), cotangent.dtype)
        ones = (1,) * len(spatial)
        return _folded(reached, taps, Geometry(ones, tuple((max(0, low), max(0, high)) for low, high in padding), ones))

    positions = itertools.product(*(range(stride) for stride in geometry.strides))
    pixels = jnp.stack([phase(position) for position in positions])
    pixels = pixels.reshape(*geometry.strides, *pixels.shape[1:])
    axes = [(len(spatial) + 1 + axis, axis) for axis in spatial]  # of pixels of one phase, and of phases
    pixels = pixels.transpose(len(spatial), *itertools.chain.from_iterable(axes), pixels.ndim - 1)
    whole = [count * stride for count, stride in zip(counts, geometry.strides, strict=True)]
    return lax.slice(pixels.reshape(shape[0], *whole, shape[-1]), (0,) * len(shape), shape)


def _kernel_gradient(image: jax.Array, kernel: jax.Array, geometry: Geometry, cotangent: jax.Array) -> jax.Array:
    """The convolution of the image with the cotangent, where channels are the batch and the batch is the channels."""
    spatial = range(kernel.ndim - 2)
    padding = []
    for axis in spatial:
        low = geometry.padding[axis][0]
        dilated = (cotangent.shape[axis + 1] - 1) * geometry.strides[axis] + 1
        padding.append((low, dilated + (kernel.shape[axis] - 1) * geometry.dilation[axis] - image.shape[axis + 1] - low))
    axes = tuple(axis + 1 for axis in spatial)
    swapped = _transposed(image, (image.ndim - 1, *axes, 0))
    filters = kernel.shape[-1]
    wide = _transposed(cotangent, (*axes, 0, cotangent.ndim - 1), filters_of_gradient(image.shape[0], filters))
    gradient = _plain(swapped, wide, Geometry(geometry.dilation, tuple(padding), geometry.strides))
    return gradient.transpose(*axes, 0, gradient.ndim - 1)[..., :filters]


def _transposed(array: jax.Array, order: tuple[int, ...], last: int | None = None) -> jax.Array:
    """The array with its axes in another order, and the last one filled up with zeros to a length of `last`.

    In a loop over halves of its rows, as XLA fuses nothing into a loop: otherwise it computes all elementwise work that made
    the array (normalisation, activation, the sums of a residual stream) once more for its transposition. A round of
    ResNet-20 is faster by 3 % at all filters and by 14 % at a quarter.
    """
    rows = array.shape[1]
    shape = [array.shape[axis] for axis in order]
    more = 0 if last is None else last - shape[-1]
    if rows < 2 or rows % 2:
        return lax.optimization_barrier(jnp.pad(array.transpose(order), ((0, 0),) * (array.ndim - 1) + ((0, more),)))
    half, to = rows // 2, order.index(1)

    def copy(index: int, out: jax.Array) -> jax.Array:
        part = lax.dynamic_slice_in_dim(array, index * half, half, axis=1).transpose(order)
        return lax.dynamic_update_slice_in_dim(out, part, index * half, axis=to)

    out = jnp.zeros([*shape[:-1], shape[-1] + more], array.dtype)
    # The barrier keeps XLA from taking a transposition into the convolution, which would then be of another layout.
    return lax.optimization_barrier(lax.fori_loop(0, 2, copy, out))


def _folded(
    image: jax.Array, kernel: jax.Array, geometry: Geometry, image_dilation: Sequence[int] | None = None
) -> jax.Array:
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
    # What no window reaches is cut: with negative padding XLA reads beyond the image (jax 0.10.2: gradients of 1e34).
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
