"""How much memory a device needs for a training step, from the shapes of the step alone: nothing is compiled or run."""

import math
from typing import Any

import jax
from jax.extend.core import Var

from distreal_jax.step.examples import Batch
from distreal_jax.step.forward import forward
from distreal_jax.step.local import LocalStep


def training_bytes(step: LocalStep, params: Any, widths: tuple[int, ...], batch: Batch, *, depth: int = 0) -> int:
    """Peak memory of a compact training step: weights, their gradients, the optimiser's state, activations kept for it.

    Activations are what reverse-mode differentiation saves of the forward pass, each once. A compiler may keep fewer (it
    fuses, and computes again) and needs room to work in; a test holds the figure against XLA's own analysis.

    Args:
      step: Has the network, the device's optimiser and the task.
      params: The full network's parameters, or their shapes.
      widths: Filters kept in each group.
      batch: Shapes of a mini-batch.
      depth: Layers before the first that is trained: these have no gradients and no optimiser's state, and of what they
        compute nothing is kept that their own gradients alone would need.

    Returns:
      Bytes.
    """
    network = step.network
    small, others = network.shapes(params, widths), network.shapes(step.others, widths)
    narrowed = network.narrowed(widths)

    leaves, tree = jax.tree.flatten(small)
    marks = jax.tree.leaves(network.trained(small, depth))
    trained = [leaf for leaf, mark in zip(leaves, marks, strict=True) if mark]

    def saved(trained: list[Any], frozen: list[Any], others: Any, batch: Batch) -> list[Any]:
        def loss(trained: list[Any]) -> jax.Array:
            each = {True: iter(trained), False: iter(frozen)}
            params = jax.tree.unflatten(tree, [next(each[mark]) for mark in marks])
            outputs, _ = forward(
                narrowed,
                params,
                others,
                batch.inputs,
                train=True,
                convolution="library",
                rescaled=widths if step.rescale else None,
                key=jax.random.key(0),
            )
            return step.task.losses(outputs, batch).mean()

        return jax.tree.leaves(jax.vjp(loss, trained)[1])

    frozen = [leaf for leaf, mark in zip(leaves, marks, strict=True) if not mark]
    jaxpr = jax.make_jaxpr(saved)(trained, frozen, others, batch).jaxpr
    given = {*jaxpr.invars, *jaxpr.constvars}
    activations = {var for var in jaxpr.outvars if isinstance(var, Var) and var not in given}
    # An optimiser started with the trained parameters alone, in the structure of all, keeps state for these.
    held_by_optimiser = [leaf if mark else None for leaf, mark in zip(leaves, marks, strict=True)]
    state = jax.eval_shape(step.first_state, jax.tree.unflatten(tree, held_by_optimiser))
    held = jax.tree.leaves((small, trained, state))  # weights, gradients, and what the optimiser keeps
    return sum(map(_bytes, [*jax.tree.leaves(batch), *held, *(var.aval for var in activations)]))


def _bytes(array: Any) -> int:
    try:
        return math.prod(array.shape) * array.dtype.itemsize
    except TypeError:  # a random key has no size of its own that a device would notice
        return 0
