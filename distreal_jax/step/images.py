"""A data set on the device, and the mini-batches that are gathered from it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from distreal_jax.errors import InputError


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

    @property
    def size(self) -> str:
        """Height and width, such as 28x28."""
        return "x".join(map(str, self.images.shape[1:3]))

    def batch(self, index: jax.Array, classes: jax.Array | None = None) -> Batch:
        """The normalised mini-batch of those examples."""
        pixels = self.images[index].astype(jnp.float32) / 255.0
        shape = (1,) * (pixels.ndim - 1) + (-1,)
        return Batch((pixels - self.mean.reshape(shape)) / self.std.reshape(shape), self.labels[index], classes)

    def shrunk(self, factor: int) -> "Images":
        """The same images, smaller: the mean over squares of factor x factor pixels.

        Raises:
          InputError: Height or width are no multiples of the factor.
        """
        examples, height, width, channels = self.images.shape
        if height % factor or width % factor:
            raise InputError(f"images of {self.size} can't be shrunk by {factor}; give a divisor of both")
        squares = self.images.reshape(examples, height // factor, factor, width // factor, factor, channels)
        means = squares.mean(axis=(2, 4), dtype=jnp.float32)
        return self._replace(images=jnp.round(means).astype(jnp.uint8))
