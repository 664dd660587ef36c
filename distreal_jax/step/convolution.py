"""The form in which a convolution is computed: XLA's own, or patches of the image times a matrix.

Clients train different weights side by side, and XLA turns a convolution over per-client kernels into a grouped
convolution, which is slow on every platform; on a CPU even a single convolution inside a loop is. As patches times matrix
the work is a (batched) matrix product. `experiments/benchmark.py` measures both.
"""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from distreal_jax.tracing.interception import Around, Call

ConvolutionForm = Literal["patches", "library"]


def convolution_in_form(form: ConvolutionForm) -> Around:
    """For `intercept_calls`: lets every `flax.nnx.Conv` compute in the given form."""

    def around(_: str, module: nnx.Module, call: Call) -> Call:
        if form == "patches" and isinstance(module, nnx.Conv) and module.conv_general_dilated is lax.conv_general_dilated:
            module.conv_general_dilated = patches_times_matrix
        return call

    return around


def patches_times_matrix(
    image: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """A drop-in for `jax.lax.conv_general_dilated` on [batch, height, width, channels] images.

    Grouped and dilated convolutions and other numbers of spatial axes are handed to the library.

    Args:
      image: [batch, height, width, channels].
      kernel: [kernel height, kernel width, channels, filters].
      window_strides: Two strides.
      padding: "SAME", "VALID" or ((low, high), (low, high)).
      lhs_dilation: As in the library.
      rhs_dilation: As in the library.
      dimension_numbers: As in the library; NHWC and HWIO, which is what `flax.nnx.Conv` uses.
      feature_group_count: As in the library.
      options: Passed to the library where it is used.

    Returns:
      [batch, out height, out width, filters].
    """
    dilated = any(rate != 1 for rates in (lhs_dilation, rhs_dilation) for rate in (rates or ()))
    if image.ndim != 4 or feature_group_count != 1 or dilated:
        return lax.conv_general_dilated(
            image,
            kernel,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            **options,
        )
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(image.shape[1:3], kernel.shape[:2], strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    return _convolve(image, kernel, strides, pads)


Pads = tuple[tuple[int, int], ...]


def _patches(image: jax.Array, window: tuple[int, int], strides: tuple[int, ...], pads: Pads) -> jax.Array:
    """[batch, out height, out width, window height x window width x channels], by shifted slices."""
    padded = jnp.pad(image, ((0, 0), *pads, (0, 0))) if any(any(pad) for pad in pads) else image
    out = [(padded.shape[1 + axis] - window[axis]) // strides[axis] + 1 for axis in (0, 1)]
    slices = [
        padded[
            :,
            row : row + (out[0] - 1) * strides[0] + 1 : strides[0],
            column : column + (out[1] - 1) * strides[1] + 1 : strides[1],
        ]
        for row in range(window[0])
        for column in range(window[1])
    ]
    return slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=-1)


def _product(patches: jax.Array, kernel: jax.Array) -> jax.Array:
    flat = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return flat.reshape(*patches.shape[:-1], kernel.shape[-1])


def _convolve(image: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads) -> jax.Array:
    window = (kernel.shape[0], kernel.shape[1])
    return _product(_patches(image, window, strides, pads), kernel)
