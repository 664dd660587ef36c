"""How much memory a device needs for a training step, from the shapes of the step alone: nothing is compiled or run."""

import math
from typing import Any

import jax
from jax.extend.core import Var

from distreal_jax.step.examples import Batch
from distreal_jax.step.forward import forward
from distreal_jax.step.local import LocalStep


def training_bytes(step: LocalStep, params: Any, widths: tuple[int, ...], batch: Batch) -> int:
    """Peak memory of a compact training step: weights, their gradients, the optimiser's state, activations kept for it.

    Activations are what reverse-mode differentiation saves of the forward pass, each once. A compiler may keep fewer (it
    fuses, and computes again) and needs room to work in; a test holds the figure against XLA's own analysis.

    Args:
      step: Has the network, the device's optimiser and the task.
      params: The full network's parameters, or their shapes.
      widths: Filters kept in each group.
      batch: Shapes of a mini-batch.

    Returns:
      Bytes.
    """
    network = step.network
    small, others = network.shapes(params, widths), network.shapes(step.others, widths)
    narrowed = network.narrowed(widths)

    def saved(params: Any, others: Any, batch: Batch) -> list[Any]:
        def loss(params: Any) -> jax.Array:
            scaled = narrowed.rescale(params, widths) if step.rescale else params
            key = jax.random.key(0)
            outputs, _ = forward(narrowed, scaled, others, batch.inputs, train=True, convolution="library", key=key)
            return step.task.losses(outputs, batch).mean()

        return jax.tree.leaves(jax.vjp(loss, params)[1])

    jaxpr = jax.make_jaxpr(saved)(small, others, batch).jaxpr
    given = {*jaxpr.invars, *jaxpr.constvars}
    activations = {var for var in jaxpr.outvars if isinstance(var, Var) and var not in given}
    state = jax.eval_shape(step.first_state, small)
    held = jax.tree.leaves((small, small, state))  # weights, gradients, and what the optimiser keeps
    return sum(map(_bytes, [*jax.tree.leaves(batch), *held, *(var.aval for var in activations)]))


def _bytes(array: Any) -> int:
    try:
        return math.prod(array.shape) * array.dtype.itemsize
    except TypeError:  # a random key has no size of its own that a device would notice
        return 0
