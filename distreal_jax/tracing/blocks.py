"""Which filters are inside the blocks of a network, and which are of the streams that run through them.

A block takes in the channels of a stream (a residual stream, a concatenation) and adds to it. Dropping filters inside blocks
leaves the stream whole, so that layers before and after still reach each other.
"""

import numpy as np
import numpy.typing as npt

from distreal_jax.tracing.network import TracedNetwork


def inside_blocks(network: TracedNetwork) -> npt.NDArray[np.bool_]:
    """Whether a group's filters are those of a convolution inside a block: bool [groups].

    Inside are groups whose filters go from one kernel to one other. Those of a residual stream come from several kernels or
    go to several; those of a concatenation meet others along the axis that takes them in. In a plain chain of layers there
    is no stream to tell the inside of a block from: there none is inside.
    """
    made, taken, alone = (np.zeros(len(network.filter_groups), dtype=int) for _ in range(3))
    for path, axes in network.layouts.items():
        if len(axes) < 2:
            continue  # a bias or a scale follows its kernel
        for axis, layout in enumerate(axes):
            groups = {run.group for run in layout.runs}
            for group in groups - {None}:
                consumed = (path, axis) in network.consumed
                made[group] += not consumed
                taken[group] += consumed
                alone[group] += consumed and len(groups) == 1
    inside = (made == 1) & (taken == 1) & (alone == 1)
    convolutional = np.array([group.convolutional for group in network.filter_groups], dtype=bool)
    return np.zeros_like(inside) if inside[convolutional].all() else inside & convolutional
