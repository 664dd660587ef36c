"""What a short training reads: examples held out to measure on, and others to train on, everybody's or a client's own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distreal_jax.data.partition import Partition
from distreal_jax.errors import InputError
from distreal_jax.step import Batch, Examples


class ProxyData(NamedTuple):
    """The arguments of a short training's program: another seed, or other data, compiles nothing again."""

    train: Examples
    held_out: jax.Array  # int [held out]
    trained_on: jax.Array  # int [others], or the examples of one client after the other
    offsets: jax.Array | None  # int [clients + 1], where those of a client begin; None: all examples are everybody's

    @classmethod
    def split(cls, train: Examples, held_out: int, seed: int) -> "ProxyData":
        """Holds out random examples; every device may draw from all others.

        Args:
          train: Training examples.
          held_out: How many to hold out.
          seed: Of the draw.

        Raises:
          InputError: There are not more examples than that.
        """
        count = train.num_examples
        if held_out >= count:
            raise InputError(f"{held_out} of {count} training examples can't be held out; hold out fewer")
        order = np.random.default_rng(seed).permutation(count)
        return cls(train, jnp.asarray(order[:held_out]), jnp.asarray(order[held_out:]), None)

    def shared_out(self, partition: Partition, devices: int) -> "ProxyData":
        """Each client has its own examples, without those held out, and is left out if it has no others.

        Raises:
          InputError: There are fewer such clients than `devices`.
        """
        owners = np.repeat(np.arange(partition.num_clients), partition.sizes)
        trained_on = ~np.isin(partition.indices, self.held_out)
        sizes = np.unique(owners[trained_on], return_counts=True)[1]
        if len(sizes) < devices:
            raise InputError(
                f"{len(sizes)} clients have examples that are not held out, the proxy trains "
                f"{devices} at once; share out among more clients, or hold out fewer examples"
            )
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        return self._replace(trained_on=jnp.asarray(partition.indices[trained_on]), offsets=jnp.asarray(offsets))

    def batch(self, key: jax.Array, size: int, client: jax.Array | None = None, examples: jax.Array | None = None) -> Batch:
        """A mini-batch of a client's examples.

        Args:
          key: Of the draw, a scalar.
          size: Examples in it.
          client: Number of the client, []; None: draw from all examples that are not held out.
          examples: A divisor of `size`, []: only this many are drawn, then repeated to fill the mini-batch, which keeps
            its mean. None: all are drawn.
        """
        first, end = jnp.array(0), jnp.array(len(self.trained_on))
        if client is not None and self.offsets is not None:
            first, end = self.offsets[client], self.offsets[client + 1]
        drawn = jax.random.randint(key, (size,), first, end)
        return self.train.batch(self.trained_on[drawn if examples is None else drawn[jnp.arange(size) % examples]])

    def members(self, key: jax.Array, devices: int) -> jax.Array | None:
        """The clients of a round, int [devices], each at most once; None where all examples are everybody's."""
        if self.offsets is None:
            return None
        return jax.random.permutation(key, len(self.offsets) - 1)[:devices]
