"""Examples of a data set, in memory or on the device, and the mini-batches that are gathered from them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from distreal_jax.errors import InputError


class Batch(NamedTuple):
    """One mini-batch of one device."""

    inputs: Any  # leaves [batch, ...], as `call_network` takes them; images are float32 [batch, height, width, channels]
    targets: Any  # leaves [batch, ...], what the task compares outputs with; classes are int [batch]
    classes: jax.Array | None = None  # bool [classes], those that the device has (masked loss); None: all


class Examples(NamedTuple):
    """Training or test examples: images, which are normalised as they are gathered, or any other inputs, as they are."""

    inputs: Any  # leaves [examples, ...]; images are uint8 or float32 [examples, height, width, channels]
    targets: Any  # leaves [examples, ...]; classes are int32 [examples]
    mean: Any | None = None  # of images, float32 [channels], of pixels / 255; None: inputs are no images
    std: Any | None = None  # of images, float32 [channels]

    @property
    def num_examples(self) -> int:
        """How many examples there are."""
        return len(jax.tree.leaves(self.targets)[0])

    @property
    def size(self) -> str:
        """Height and width of images, such as 28x28; of other inputs the shapes of an example."""
        if self.mean is None:
            return " and ".join("x".join(map(str, leaf.shape[1:])) or "1" for leaf in jax.tree.leaves(self.inputs))
        return "x".join(map(str, self.inputs.shape[1:3]))

    def batch(self, index: jax.Array, classes: jax.Array | None = None) -> Batch:
        """The mini-batch of those examples, images normalised.

        Args:
          index: Of the examples, int [batch].
          classes: That the device has, bool [classes], for a masked loss; None: all.
        """
        inputs, targets = jax.tree.map(lambda leaf: leaf[index], (self.inputs, self.targets))
        if self.mean is not None and self.std is not None:
            pixels = inputs.astype(jnp.float32) / 255.0
            shape = (1,) * (pixels.ndim - 1) + (-1,)
            inputs = (pixels - self.mean.reshape(shape)) / self.std.reshape(shape)
        return Batch(inputs, targets, classes)

    def shrunk(self, factor: int) -> "Examples":
        """The same images, smaller: the mean over squares of factor x factor pixels.

        Raises:
          InputError: Inputs that are no images, or height or width that are no multiples of the factor.
        """
        if self.mean is None:
            raise InputError(
                f"images alone can be shrunk, and these inputs are none; give a shrink of 1 instead of {factor}"
            )
        examples, height, width, channels = self.inputs.shape
        if height % factor or width % factor:
            raise InputError(f"images of {self.size} can't be shrunk by {factor}; give a divisor of both")
        squares = self.inputs.reshape(examples, height // factor, factor, width // factor, factor, channels)
        means = squares.mean(axis=(2, 4), dtype=jnp.float32)
        whole = jnp.issubdtype(self.inputs.dtype, jnp.integer)
        return self._replace(inputs=jnp.round(means).astype(self.inputs.dtype) if whole else means)
