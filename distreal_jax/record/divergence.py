"""Whether training has blown up: uploads that are not finite, a loss far beyond guessing's, weights that jump."""

import math
from typing import Any

import jax
import optax

from distreal_jax.fleet.federation import Federation
from distreal_jax.step import in_full_precision

# Chosen by us. Confident mistakes of a model that learns cost a few times what guessing does, and weights that learn grow by
# a small factor; what blows up does so by many orders of magnitude in a few rounds.
_LOSS_OF_GUESSING = 100.0
_NORM_OF_THE_START = 1000.0


def divergence(federation: Federation, params: Any, *, done: int, loss: float, left_out: int, scored: bool) -> str | None:
    """What shows that a run has diverged by an evaluation, in words; None: nothing does.

    Args:
      federation: The run.
      params: The server's parameters.
      done: Rounds so far.
      loss: On the test set.
      left_out: Uploads since the last evaluation that were refused.
      scored: Whether the score is finite.
    """
    classes, reason = federation.world.task.num_classes, None
    norm, before = _norm(params), _norm(federation.world.params)
    if left_out:
        reason = f"{left_out} uploads were not finite and left out"
    elif not math.isfinite(loss):
        reason = "the test loss is not finite"
    elif not scored:
        reason = f"the {federation.world.task.score_name} is not finite"
    elif classes is not None and loss > _LOSS_OF_GUESSING * max(math.log(classes), 1.0):
        reason = f"the test loss is {loss:.3g}, that of guessing {math.log(classes):.3g}"
    elif not norm <= _NORM_OF_THE_START * max(before, 1.0):
        reason = f"the norm of the weights is {norm:.3g}, {before:.3g} at the start"
    if reason is None:
        return None
    name = f"{federation.method.name} with seed {federation.world.seed}"
    return f"{name} has diverged by round {done}: {reason}; lower --learning-rate, or give --clip-norm"


def _norm(params: Any) -> float:
    return float(jax.device_get(_compiled_norm(params)))


_compiled_norm = jax.jit(lambda params: optax.tree.norm(in_full_precision(params)))
