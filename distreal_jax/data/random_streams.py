"""Random numbers named by what they are for, so that no draw depends on which others were made, or in which order."""

import numpy as np

from distreal_jax.errors import InputError


def random_stream(seed: int, role: str, *counters: int) -> np.random.Generator:
    """The generator of one purpose: a function of the seed, the role and the counters (round, client, ...), of nothing else.

    Raises:
      InputError: A seed below 0.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative; a seed is 0 or above")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(*role.encode(), *counters))))
