"""Which rows of a network's last layer belong to a class: found by what they change, in any network."""

from typing import Any

import jax
import jax.numpy as jnp

from distreal_jax.step.forward import forward
from distreal_jax.tracing import TracedNetwork


def class_axes(network: TracedNetwork, params: Any, others: Any, inputs: Any, num_classes: int) -> Any:
    """For each parameter the axis along which its elements belong to one class each; -1: none.

    An axis as long as there are classes is one of theirs if a change of its first slice changes the first logit alone (a
    derivative along a random direction).

    Args:
      network: The traced network.
      params: Its parameters.
      others: Its other variables.
      inputs: Of a mini-batch.
      num_classes: Of its output, [batch, num_classes].

    Returns:
      A tree of ints of the structure of `params`.
    """
    leaves, structure = jax.tree.flatten(params)

    def logits(*leaves: jax.Array) -> jax.Array:
        given = jax.tree.unflatten(structure, leaves)
        return forward(network, given, others, inputs, train=False, convolution="library")[0]

    @jax.jit
    def change(directions: tuple[jax.Array, ...]) -> jax.Array:
        return jax.jvp(logits, tuple(leaves), directions)[1]

    def is_of_classes(index: int, axis: int) -> bool:
        first = jnp.arange(num_classes).reshape([-1 if a == axis else 1 for a in range(leaves[index].ndim)]) == 0
        noise = jnp.where(first, jax.random.normal(jax.random.key(0), leaves[index].shape, leaves[index].dtype), 0)
        moved = change(tuple(noise if i == index else jnp.zeros_like(leaf) for i, leaf in enumerate(leaves)))
        return bool((moved[:, 0] != 0).any() & (moved[:, 1:] == 0).all())

    axes = [
        next((axis for axis in range(leaf.ndim) if leaf.shape[axis] == num_classes and is_of_classes(index, axis)), -1)
        for index, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, axes)
