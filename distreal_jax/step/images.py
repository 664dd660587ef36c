"""A data set on the device, and the mini-batches that are gathered from it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """One mini-batch of one device."""

    images: jax.Array  # [batch, height, width, channels]
    labels: jax.Array  # int [batch]
    classes: jax.Array | None = None  # bool [classes], those that the device has (masked loss); None: all


class Images(NamedTuple):
    """A data set on the device."""

    images: jax.Array  # uint8 [examples, height, width, channels]
    labels: jax.Array  # int32 [examples]
    mean: jax.Array  # float32 [channels]
    std: jax.Array  # float32 [channels]

    def batch(self, index: jax.Array, classes: jax.Array | None = None) -> Batch:
        """The normalised mini-batch of those examples."""
        pixels = self.images[index].astype(jnp.float32) / 255.0
        shape = (1,) * (pixels.ndim - 1) + (-1,)
        return Batch((pixels - self.mean.reshape(shape)) / self.std.reshape(shape), self.labels[index], classes)
