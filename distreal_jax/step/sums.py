"""Sums over all positions of an image with few channels, many positions at once.

XLA's code for a CPU adds up the channels of one position after the other, and four channels fill half of a vector. So many
positions that follow on each other are summed as if they were channels, and the few sums that are left are added. A
normalisation with its ReLU takes four such sums, forwards and backwards; ms of all of it, one thread of an AMD EPYC, jax
0.10.2, 2026-11-26:

| image | as it is | up to 64 values at once | up to 128 |
|---|---|---|---|
| [20, 32, 32, 4] | 0.37 | 0.15 | 0.15 |
| [20, 32, 32, 6] | 0.46 | 0.25 | 0.25 |
| [20, 32, 32, 8] | 0.82 | 0.34 | 0.37 |
| [20, 16, 16, 8] | 0.15 | 0.09 | 0.09 |
| [20, 32, 32, 12] | 1.15 | 1.04 | 0.91 |
| [20, 16, 16, 12] | 0.27 | 0.24 | 0.24 |
| [20, 32, 32, 16] | 0.75 | 1.07 | 0.65 |
| [20, 8, 8, 16] | 0.067 | 0.060 | 0.063 |
| [20, 32, 32, 24] | 1.19 | 1.17 | 1.19 |
| [20, 16, 16, 32] | 0.30 | 0.32 | 0.32 |

(Elementwise work in that shape is slower: 0.19 ms for the first of them.)
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_MOST_CHANNELS, _VALUES_AT_ONCE = 16, 128  # measured (above)
_FEWEST_VALUES = 4096  # chosen by us: below, there is nothing to gain


def sum_by_rows(array: jax.Array, *, axes: Sequence[int], **_: Any) -> jax.Array | None:
    """A sum over all axes but the last one.

    The parameters are those of the primitive `reduce_sum`.

    Returns:
      [channels]; None for other axes, another type than float32, many channels, or few values.
    """
    if array.ndim < 2 or array.dtype != jnp.float32 or array.size < _FEWEST_VALUES:
        return None
    channels, positions = array.shape[-1], math.prod(array.shape[:-1])
    if tuple(sorted(axes)) != tuple(range(array.ndim - 1)) or channels > _MOST_CHANNELS:
        return None
    at_once = 1
    while positions % (2 * at_once) == 0 and 2 * at_once * channels <= _VALUES_AT_ONCE:
        at_once *= 2
    if at_once == 1:
        return None
    # Without the barrier XLA makes one sum of both, which is the one that was to be avoided.
    sums = lax.optimization_barrier(array.reshape(positions // at_once, at_once * channels).sum(axis=0))
    return sums.reshape(at_once, channels).sum(axis=0)
