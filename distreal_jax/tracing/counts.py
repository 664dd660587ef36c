"""Numbers of channels that a network computes with: a mean divides by how many there are, a scale is one over their root.

Such a number is written into the network's jaxpr as it is in the whole network. In sub-networks it is another, which masked
execution has to compute from the filters that are kept. Which function of which width it is, is found from the numbers in a
few smaller networks.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from distreal_jax.tracing.inner import Place
from distreal_jax.tracing.layout import LengthOfAxis
from distreal_jax.tracing.masking import LOGARITHM, Counted

_POWERS = (1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 0.25, -0.25, 0.75, -0.75, 1.5, -1.5, 1 / 3, -1 / 3, 2 / 3, -2 / 3, 3.0, -3.0)
_CURVES = (1.0, -1.0, 0.5, -0.5, 2.0, -2.0, LOGARITHM)  # of which a multiple is added to a constant
_SHIFTED = (-1.0, 0.5, -0.5, 0.25, -0.25, 2.0, -2.0)  # of a count to which a constant is added
_FEWEST = 3  # different counts that tell a constant from chance

Columns = npt.NDArray[np.float64]  # [counts, networks], or one column


class Numbers(NamedTuple):
    """A literal in the whole network and in smaller ones."""

    place: Place
    operand: int
    whole: Any
    smaller: tuple[Any, ...]


def fit(
    numbers: Numbers, widths: Sequence[Sequence[int]], full: Sequence[int], lengths: Sequence[LengthOfAxis]
) -> Counted | None:
    """The function of a number of channels, of the product of two or of their sum, that a literal is; None: none known here.

    Args:
      numbers: The literal.
      widths: Of the smaller networks: [networks][groups].
      full: [groups] of the whole network.
      lengths: Of axes along which filters lie.
    """
    there, whole = np.array(numbers.smaller, dtype=np.float64), float(numbers.whole)
    kind = jnp.asarray(numbers.whole).dtype
    near = 4 * float(jnp.finfo(kind).eps) if jnp.issubdtype(kind, jnp.floating) else 1e-6  # type: ignore[no-untyped-call]
    each = np.array([[length.at(one) for one in (*widths, full)] for length in lengths], np.float64).reshape(
        len(lengths), -1
    )
    one, other = np.triu_indices(len(lengths), 1)
    kinds: tuple[tuple[Columns, Callable[[int], tuple[LengthOfAxis, ...]]], ...] = (
        (each, lambda index: (lengths[index],)),
        (each[one] * each[other], lambda index: (lengths[one[index]], lengths[other[index]])),
        (each[one] + each[other], lambda index: (lengths[one[index]].plus(lengths[other[index]]),)),
    )
    for counts, of in kinds:
        count, all_there = counts[:, :-1], counts[:, -1:]
        with np.errstate(all="ignore"):  # of a negative count no root is a number, and fits nothing
            for power, shift, offset in _candidates(whole, there, count, all_there) if len(counts) else ():
                share = Counted.curve(count + shift, power) / Counted.curve(all_there + shift, power)
                found = offset + (whole - offset) * share
                fits = np.flatnonzero(np.isclose(found, there, rtol=near, atol=1e-12).all(axis=1))
                if len(fits):
                    constants = float(shift[fits[0], 0]), float(offset[fits[0], 0])
                    return Counted(numbers.operand, of(int(fits[0])), power, *constants)
    return None


def _candidates(whole: float, there: Columns, count: Columns, full: Columns) -> Iterator[tuple[float, Columns, Columns]]:
    """Powers, and for each count a constant that is added to it and one that is added to the result.

    Those that are not zero follow from the smallest network.
    """
    nothing = np.zeros_like(full)
    for power in _POWERS:
        yield power, nothing, nothing
    rows, smallest = np.arange(len(count)), np.argmin(count / full, axis=1)
    least, there_least = count[rows, smallest][:, None], there[smallest][:, None]
    different = np.array([len({*row, *one}) for row, one in zip(count, full, strict=True)])[:, None]
    unknown = np.where(different < _FEWEST, np.nan, 0.0)
    for power in _CURVES:
        share = Counted.curve(least, power) / Counted.curve(full, power)
        yield power, nothing, unknown + np.round((there_least - whole * share) / (1 - share), 9)
    for power in _SHIFTED:
        ratio = (there_least / whole) ** (1 / power)
        yield power, unknown + np.round(2 * (ratio * full - least) / (1 - ratio)) / 2, nothing
    for shift in (1.0, -1.0):
        yield LOGARITHM, nothing + shift, nothing
