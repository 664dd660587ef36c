"""A network that writes down a number of channels does not run as its own sub-network; here it is found out and named."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import nnx

from distreal_jax.errors import InputError
from distreal_jax.tracing.interception import Call, with_counts_of_sub_network
from distreal_jax.tracing.labels import ANY
from distreal_jax.tracing.network import TracedNetwork
from distreal_jax.tracing.walk import Members, Walk, jaxpr_of, steps_in


def refuse_hard_coded_counts(
    network: TracedNetwork,
    state: Any,
    example: Any,
    walk: Walk,
    members: Members,
) -> None:
    """Runs smaller networks abstractly and compares every shape and number with what the labels say.

    Neighbouring groups keep different numbers of filters, so that a count that a layer has written down, a split at a fixed
    channel or in halves, or a reshape to a fixed size shows as a wrong shape.

    Args:
      network: What the trace told so far.
      state: The network's variables, or their shapes.
      example: The shapes and types of its inputs.
      walk: The walk over the whole network.
      members: For each root label its (group, filter).

    Raises:
      InputError: A smaller network fails, or has another shape or computes with another number than expected.
    """
    counts = network.full_widths
    every = [max(1, count - 1 - index % max(1, count - 2)) for index, count in enumerate(counts)]
    every_other = [width if index % 2 else count for index, (width, count) in enumerate(zip(every, counts, strict=True))]
    for widths in (every, every_other):
        if tuple(widths) != counts:
            _check_widths(network, widths, state, example, walk, members)


def _check_widths(
    network: TracedNetwork,
    widths: Sequence[int],
    state: Any,
    example: Any,
    walk: Walk,
    members: Members,
) -> None:
    failed: list[str] = []

    def noting_failures(path: str, _: nnx.Module, call: Call) -> Call:
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except Exception:
                failed.append(path)
                raise

        return called

    remedy = "take the count from the array's shape (x.shape[-1], reshape(x.shape[0], -1)) instead of writing it down"
    try:
        closed, _ = jaxpr_of(
            network.graphdef, network.shapes(state, widths), example, (with_counts_of_sub_network, noting_failures)
        )
    except Exception as error:  # whatever a network of the user's may raise
        where = next((f"layer {path!r}" for path in failed if path), "the network's own __call__")
        raise InputError(f"{where} hard-codes a number of channels ({in_one_line(error)}); {remedy}") from error
    for (step, labels), actual in zip(walk.trail, steps_in(closed.jaxpr, ""), strict=False):
        expected = tuple(
            # The length of a broadcast is whatever the layer asked for; where it meets filters, that is checked.
            length
            if np.any(axis == ANY)
            else sum(member is None or member[1] < widths[member[0]] for member in walk.members_along(axis, members))
            for axis, length in zip(labels, actual.shape, strict=False)
        )
        if step.primitive != actual.primitive or len(actual.shape) != len(labels) or actual.shape != expected:
            raise InputError(
                f"{step.where} hard-codes a number of channels: in a smaller network its primitive {step.primitive!r} "
                f"gives shape {actual.shape} where {expected} was expected; {remedy}"
            )
        if step.numbers != actual.numbers and not walk.masks_statistics(step.layer):
            raise InputError(
                f"{step.where} computes with the number of channels: {', '.join(step.numbers)} in primitive "
                f"{step.primitive!r} becomes {', '.join(actual.numbers)} in a smaller network; "
                "compute it once, when the network is built, so that all sub-networks share it"
            )


def in_one_line(error: Exception) -> str:
    """What an error says, shortened to a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
