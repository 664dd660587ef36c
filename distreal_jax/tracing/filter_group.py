"""What of a network one dropout rate applies to, and what is kept whole."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class FilterGroup:
    """Filters that one dropout rate applies to: one gene of a dropout vector.

    Attributes:
      name: The layer that creates the filters, such as "blocks.0.conv1".
      filters: How many can be kept. Where a GroupNorm or a grouped convolution ties channels into blocks, a block counts as
        one filter.
      kind: `conv` for filters of convolutions, `dense` for units of hidden dense layers, `head` for heads of attention.
      normalised: Whether a normalisation layer follows, so that dropping does not change the scale of the activations.
    """

    name: str
    filters: int
    kind: Literal["conv", "dense", "head"]
    normalised: bool = False

    @property
    def convolutional(self) -> bool:
        """Whether these are filters of convolutions, which a method drops unless it is told more."""
        return self.kind == "conv"


@dataclasses.dataclass(frozen=True)
class KeptWhole:
    """A layer none of whose filters can be dropped.

    Attributes:
      layer: Its path.
      filters: How many it has.
      reason: What is done to them that a smaller number would change.
    """

    layer: str
    filters: int
    reason: str

    def __str__(self) -> str:
        """In words."""
        return f"kept whole: {self.layer}, {self.filters} filters, by {self.reason}"


def dropped_groups(groups: Sequence[FilterGroup], *, dense: bool = False) -> npt.NDArray[np.bool_]:
    """Which groups a method drops filters of, unless a table says so: bool [groups].

    Filters of convolutions, as the paper does, and hidden dense units where that is wanted or where there is nothing else;
    heads of attention are kept.
    """
    convolutional = any(group.kind == "conv" for group in groups)
    kinds = ("conv", "dense") if dense or not convolutional else ("conv",)
    return np.array([group.kind in kinds for group in groups], dtype=bool)
