"""Running statistics of a network's normalisations, estimated from one batch alone.

A normalisation mixes the statistics of a batch into those that it keeps. Flax's is told to keep nothing. What a user's own
normalisation would keep is read off what it does to two values: a running mean is linear in what it was before.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from distreal_jax.tracing import TracedNetwork
from distreal_jax.tracing.interception import Call

Update = Callable[[Any], Any]  # the network's other variables -> what a training step makes of them


def of_this_batch_alone(_: str, module: nnx.Module, call: Call) -> Call:
    """Sets the momentum of Flax's BatchNorm to 0, so that it keeps only the statistics of this mini-batch (an `Around`)."""
    if isinstance(module, nnx.BatchNorm):
        module.momentum = 0.0
    return call


def keeps_statistics_of_its_own(network: TracedNetwork, params: Any, others: Any) -> bool:
    """Whether a module other than Flax's BatchNorm, in a network with these variables, has running statistics."""
    model = nnx.merge(network.graphdef, params, others)
    return any(
        isinstance(value, nnx.BatchStat)
        for _, module in nnx.iter_modules(model)
        if not isinstance(module, nnx.BatchNorm)
        for value in vars(module).values()
    )


def statistics_of(update: Update, others: Any) -> Any:
    """The other variables with the statistics of one batch alone.

    Args:
      update: A training step on that batch.
      others: The variables; what `update` makes of a running statistic s is m s + (1 - m) b, with b that of the batch.

    Returns:
      `others` after the step, with b in the place of statistics for which that holds.
    """
    after, of_zeros, of_ones = (update(_filled(others, value)) for value in (None, 0.0, 1.0))

    def alone(variable: Any, at_zero: Any, at_one: Any) -> Any:
        if not isinstance(variable, nnx.BatchStat) or not jnp.issubdtype(variable[...].dtype, jnp.floating):
            return variable
        kept = at_one[...] - at_zero[...]
        linear = (kept >= 0) & (kept < 1) & jnp.isfinite(at_zero[...])
        return variable.replace(jnp.where(linear, at_zero[...] / jnp.where(linear, 1 - kept, 1), variable[...]))

    return jax.tree.map(alone, after, of_zeros, of_ones, is_leaf=lambda node: isinstance(node, nnx.Variable))


def _filled(others: Any, value: float | None) -> Any:
    def filled(variable: Any) -> Any:
        if value is None or not isinstance(variable, nnx.BatchStat):
            return variable
        return variable.replace(jnp.full_like(variable[...], value))

    return jax.tree.map(filled, others, is_leaf=lambda node: isinstance(node, nnx.Variable))
