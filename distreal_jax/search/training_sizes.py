"""The sizes of network that short trainings are computed at: a few, each of which is a program, and one for each candidate.

At full shapes every candidate costs what the full network does, and compiled one by one, its program costs more than its
training. So a candidate is trained masked inside a compact network, the smallest of a few that hold it. The size depends on
the candidate alone, so that a search that was stopped measures the same again.
"""

import numpy as np
import numpy.typing as npt

from distreal_jax.search.space import Widths
from distreal_jax.tracing import TracedNetwork, inside_blocks

_HALVES = 2  # chosen by us: parts of a chain's convolutions that have a size each


def by_size(network: TracedNetwork, widths: npt.NDArray[np.integer], count: int) -> dict[Widths, npt.NDArray[np.intp]]:
    """Which candidates are trained at which sizes: the smallest that hold them, whatever the others are.

    Args:
      network: The full network.
      widths: Of the candidates, [candidates, groups].
      count: Sizes, evenly spread, for each of two parts of the convolutions, so at most count² in all. Parts are those
        inside blocks and the others, as good vectors keep the streams between blocks wide; in a chain the first and second
        half, as layers far apart differ most. Hidden units, which are seldom dropped, have a size of their own.

    Returns:
      Filters in each group -> indices of the candidates.
    """
    filters = np.array(network.full_widths)
    convolutional = np.array([group.convolutional for group in network.filter_groups], dtype=bool)
    inside = inside_blocks(network)
    if inside.any():
        of_convolutions = [np.flatnonzero(inside), np.flatnonzero(convolutional & ~inside)]
    else:
        of_convolutions = np.array_split(np.flatnonzero(convolutional), _HALVES)
    sizes = np.empty_like(widths)
    for part in [*of_convolutions, np.flatnonzero(~convolutional)]:
        step = np.max(-(-widths[:, part] * count // filters[part]), axis=1, initial=1, keepdims=True)
        sizes[:, part] = -(-filters[part] * step // count)
    return {tuple(row.tolist()): np.flatnonzero((sizes == row).all(axis=1)) for row in np.unique(sizes, axis=0)}
