"""A federated round to be read: one client after the other, one step after the other.

What it computes is what `Round` computes, to rounding; a test holds them equal for every method and execution.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distreal_jax.fleet.aggregation import rows_of_classes
from distreal_jax.fleet.client_steps import RoundKeys
from distreal_jax.fleet.round import Round
from distreal_jax.fleet.work import ClientWork
from distreal_jax.step import Batch, Examples, Knobs, Learner
from distreal_jax.tracing import Kept, draw_filters
from distreal_jax.tracing.filters import next_scores


def reference_round(program: Round, params: Any, data: Examples, work: ClientWork, round_index: int) -> Any:
    """The parameters that a round's average gives; the server's optimiser, if it is another than FedAvg's, is not applied.

    Args:
      program: Says what is trained and how it is averaged; its execution and grouping do not matter.
      params: The global parameters.
      data: The training set.
      work: What the clients train, axes [clients].
      round_index: The round.
    """
    step, method, network = program.step, program.method, program.step.network
    keys = RoundKeys.of(program.seed, round_index)

    @jax.jit
    def masked(learner: Learner, batch: Batch, key: jax.Array, kept: Kept, depth: jax.Array, factor: jax.Array) -> Any:
        return step.masked(learner, params, batch, key, kept, Knobs(0, depth, factor))

    changes = jax.tree.map(lambda leaf: np.zeros(leaf.shape), params)
    weight_of_element = changes
    weight_of_round = steps_of_round = 0.0
    scores = next_scores(method.filters, network, params)

    for client, number in enumerate(work.clients):
        learner, trained = step.start(params), jax.tree.map(jnp.zeros_like, params)
        for index, entry in enumerate(work.entries[client]):
            if entry < 0:
                continue
            chosen = program.configurations
            widths, depth = [int(width) for width in chosen.widths[entry]], int(chosen.depths[entry])
            kept = draw_filters(method.filters, keys.filter_key(method, number, index), round_index, network, widths, scores)
            examples = jnp.asarray(work.batches[client, index])
            if program.examples is not None:
                examples = examples[: program.examples[entry]]
            held = work.classes[client] if method.masked_loss and work.classes is not None else None
            batch = data.batch(examples, held)
            others = jnp.asarray(depth), jnp.float32(chosen.step_factors[entry])
            learner, _ = masked(learner, batch, keys.layer_key(number, index), kept, *others)
            zeros = jax.tree.map(jnp.zeros_like, params)
            step_trained = network.select_trained(depth, network.mask(jax.tree.map(jnp.ones_like, params), kept), zeros)
            trained = jax.tree.map(jnp.maximum, trained, step_trained)
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(learner.params)):
            continue
        if program.class_axes is not None and work.classes is not None:
            trained = rows_of_classes(trained, program.class_axes, jnp.asarray(work.classes[client]))
        if method.average != "covered":
            trained = jax.tree.map(jnp.ones_like, params)
        weight = float(work.weights[client])
        steps = max(float(work.lengths[client]), 1.0) if method.average == "normalised" else 1.0
        weight_of_round += weight
        steps_of_round += weight * steps
        weight_of_element = _plus(weight_of_element, weight, trained)
        change = jax.tree.map(lambda after, before, counts: (after - before) * counts, learner.params, params, trained)
        changes = _plus(changes, weight / steps, change)

    mean_steps = steps_of_round / weight_of_round if weight_of_round else 0.0
    return jax.tree.map(
        lambda before, change, weight: before + mean_steps * change / np.where(weight > 0, weight, 1),
        params,
        changes,
        weight_of_element,
    )


def _plus(sums: Any, weight: float, tree: Any) -> Any:
    return jax.tree.map(lambda sum_, leaf: sum_ + weight * np.asarray(leaf, np.float64), sums, tree)
