"""In which order a network's layers run, and which of them a gradient has to reach: what freezing the first layers saves."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from distreal_jax.tracing.site import Observations

Path = tuple[str, ...]


class LayerOrder(NamedTuple):
    """The layers that a device can train from.

    Attributes:
      layers: Paths of the layers, in the order in which they run. A layer multiplies with parameters or looks them up; what
        follows it without being one, such as a normalisation, belongs to it.
      of: For each parameter, the index of its layer.
    """

    layers: tuple[str, ...]
    of: Mapping[Path, int]


def layer_order(
    seen: Observations, variables: Sequence[Path], parameters: set[Path]
) -> tuple[LayerOrder, tuple[tuple[int, int], ...]]:
    """The order of layers in a walk over a network, and for each of its products the layers that its operands train.

    Args:
      seen: What the walk noted.
      variables: Of the network, in the order of the bits of `Value.trained_by`.
      parameters: Those of them that are trained.

    Returns:
      The order; and for each product the last layer whose gradients flow through each of its two operands, -1: none does.
    """
    bits = {1 << index: path for index, path in enumerate(variables) if path in parameters}
    layers: list[str] = []
    layer_of: dict[Path, int] = {}
    for meeting in seen.meetings:
        met = [path for bit, path in bits.items() if meeting.variables & bit]
        if met and meeting.begins:
            layers.append(meeting.layer or "/".join(met[0]))
        layer_of.update(dict.fromkeys(met, max(len(layers) - 1, 0)))
    # What meets no input, or in evaluation alone, has no gradient; it stays with the last layer, which is always trained.
    layer_of.update({path: max(len(layers) - 1, 0) for path in bits.values() if path not in layer_of})

    def last(through: int) -> int:
        return max((layer_of[path] for bit, path in bits.items() if through & bit), default=-1)

    reached = tuple((last(left), last(right)) for left, right in (product.operands for product in seen.products))
    return LayerOrder(tuple(layers or [""]), layer_of), reached
