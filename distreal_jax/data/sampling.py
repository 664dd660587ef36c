"""The draws of a round: which clients take part, and which of its examples each client sees at each step.

Both are functions of the seed, the round and the client alone: whoever else takes part, whatever was drawn before, and
wherever a run was resumed, a client sees the same mini-batches.
"""

import numpy as np
import numpy.typing as npt

from distreal_jax.data.partition import Examples, Integers, Partition
from distreal_jax.data.random_streams import random_stream
from distreal_jax.errors import InputError


def sample_clients(seed: int, round_index: int, num_clients: int, per_round: int) -> Integers:
    """The clients of a round, uniformly and without replacement (McMahan et al., AISTATS 2017, Algorithm 1).

    Args:
      seed: The experiment's seed, 0 or above.
      round_index: The round, 0 or above.
      num_clients: How many clients there are.
      per_round: How many of them take part.

    Returns:
      int64 [per_round], distinct clients in random order.

    Raises:
      InputError: `per_round` is not in [1, num_clients], or the seed is below 0.
    """
    if not 1 <= per_round <= num_clients:
        raise InputError(f"{per_round} clients a round of {num_clients} clients; expected 1 to {num_clients}")
    return random_stream(seed, "clients of a round", round_index).choice(num_clients, per_round, replace=False)


def batch_indices(
    seed: int,
    round_index: int,
    clients: npt.NDArray[np.integer],
    partition: Partition,
    *,
    steps: int,
    batch_size: int,
) -> npt.NDArray[np.int32]:
    """The mini-batches of the clients of a round.

    In each round a client goes through its own examples in a fresh random order, and when they run out through another
    one, so a client of fewer than `steps * batch_size` examples sees them again. More steps only append to fewer.

    Args:
      seed: The experiment's seed, 0 or above.
      round_index: The round, 0 or above.
      clients: Integers [clients], who takes part.
      partition: Which training examples each client holds.
      steps: Mini-batches of each client in the round.
      batch_size: Examples in each mini-batch.

    Returns:
      int32 [clients, steps, batch_size], indices of training examples.

    Raises:
      InputError: `steps` or `batch_size` is below 1, a client does not exist, or the seed is below 0.
    """
    if steps < 1 or batch_size < 1:
        raise InputError(f"{steps} steps of batch size {batch_size}; both have to be at least 1")
    batches = np.empty((len(clients), steps * batch_size), np.int32)
    for row, client in zip(batches, clients, strict=True):
        row[:] = _shuffled_passes(
            partition.examples_of(int(client)),
            len(row),
            random_stream(seed, "batches of a client", round_index, int(client)),
        )
    return batches.reshape(len(clients), steps, batch_size)


def _shuffled_passes(examples: Examples, count: int, generator: np.random.Generator) -> Examples:
    """The first `count` of one random permutation of the examples after another."""
    passes = np.tile(examples, (-(-count // len(examples)), 1))
    return generator.permuted(passes, axis=1).ravel()[:count]
