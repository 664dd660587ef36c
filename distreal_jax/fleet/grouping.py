"""How many clients are held and trained at once: what measures best on a platform, within the memory of its devices."""

import math
from typing import Any, NamedTuple

import jax

from distreal_jax.fleet.programs import Execution
from distreal_jax.fleet.work import Grouping
from distreal_jax.step import LocalStep
from distreal_jax.step.memory import training_bytes
from distreal_jax.step.outputs import batch_shapes

MOST_HELD, MOST_AT_ONCE = 256, 16  # clients, chosen by us: more did not fill an accelerator better
# Chosen by us, of a device's memory: the weights of the clients of a block, and what their steps need.
_FOR_WEIGHTS, _FOR_STEPS = 0.25, 0.5
# A step of several clients takes more than the sum of what each keeps for its backward pass: XLA copies and transposes, and
# gathers filters by index. docs/benchmarks.md has the figures of the compiler for TPUs.
_WORKING = 4.0


class Room(NamedTuple):
    """The memory of a device, and what clients need of it, in bytes."""

    limit: float
    weights: float  # of a client that is held: its weights and the state of its optimiser, before and after a step
    step: float  # of a client that is trained, at most

    @classmethod
    def of(cls, device: Any, step: LocalStep, params: Any, train: Any, batch_size: int) -> "Room | None":
        """The room on a device for clients that train the full network; None: the device does not say what it has."""
        limit = (device.memory_stats() or {}).get("bytes_limit")
        if not limit:
            return None
        learner = jax.eval_shape(step.start, params)
        weights = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(learner))
        full = training_bytes(step, params, step.network.full_widths, batch_shapes(train, batch_size))
        return cls(float(limit), 2.0 * weights, _WORKING * full)


def default_grouping(
    execution: Execution,
    platform: str,
    clients: int,
    lanes: int = 1,
    in_all: int | None = None,
    room: Room | None = None,
) -> Grouping:
    """The grouping that measures best; `experiments/benchmark.py` prints the figures behind it.

    A CPU trains one client after the other in each lane: nothing is gained by vmapping and caches overflow. An
    accelerator is filled by vmapping many, as many as it has room for.

    Args:
      execution: `compact` or `masked`.
      platform: JAX's name of it.
      clients: Of a round.
      lanes: Of this process.
      in_all: Lanes of all processes of a job together; None: this one is alone.
      room: Of a device of an accelerator; None: not known, and no bound.
    """
    if platform == "cpu":
        return Grouping(1, 1, by_entry=execution == "compact", lanes=lanes)
    block = min(-(-clients // (in_all or lanes)), MOST_HELD)
    at_once = block if execution == "masked" else min(block, MOST_AT_ONCE)
    if room is not None:
        block = min(block, max(1, int(_FOR_WEIGHTS * room.limit / room.weights)))
        at_once = min(at_once, block, max(1, int(_FOR_STEPS * room.limit / room.step)))
    if execution == "masked":
        return Grouping(at_once, at_once, False, lanes)
    return Grouping(block, at_once, True, lanes)
