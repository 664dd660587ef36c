"""Numbers of channels that a network computes with: a mean divides by how many there are, a scale is one over their root.

Such a number is written into the network's jaxpr as it is in the whole network. In sub-networks it is another, which masked
execution has to compute from the filters that are kept. Which function of which width it is, is found from the numbers in a
few smaller networks.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from distreal_jax.tracing.inner import Place
from distreal_jax.tracing.layout import LengthOfAxis
from distreal_jax.tracing.masking import Counted

_POWERS = (1.0, -1.0, 0.5, -0.5, 2.0, -2.0)


class Numbers(NamedTuple):
    """A literal in the whole network and in smaller ones."""

    place: Place
    operand: int
    whole: Any
    smaller: tuple[Any, ...]


def fit(
    numbers: Numbers, widths: Sequence[Sequence[int]], full: Sequence[int], lengths: Sequence[LengthOfAxis]
) -> Counted | None:
    """The function of a number of channels that a literal is; None if it is none that is known here.

    Args:
      numbers: The literal.
      widths: Of the smaller networks: [networks][groups].
      full: [groups] of the whole network.
      lengths: Of axes along which filters lie.
    """
    there = np.array(numbers.smaller, dtype=np.float64)
    whole = float(numbers.whole)
    kind = jnp.asarray(numbers.whole).dtype
    near = 4 * float(jnp.finfo(kind).eps) if jnp.issubdtype(kind, jnp.floating) else 1e-6  # type: ignore[no-untyped-call]
    for with_offset in (False, True):
        for length in lengths:
            shares = np.array([length.at(each) / length.at(full) for each in widths])
            for power in (1.0,) if with_offset else _POWERS:
                counted = Counted(numbers.operand, length, power, 0.0)
                if with_offset:
                    smallest = int(np.argmin(shares))
                    if shares[smallest] == 1:
                        continue
                    offset = (there[smallest] - whole * shares[smallest]) / (1 - shares[smallest])
                    counted = Counted(numbers.operand, length, power, float(np.round(offset, 9)))
                if np.allclose(counted.at(whole, shares), there, rtol=near, atol=1e-12):
                    return counted
    return None
