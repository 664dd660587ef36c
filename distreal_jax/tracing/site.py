"""One equation of a jaxpr as a rule sees it: the labels of its operands, and what is noted on the way."""

import dataclasses
from typing import Any, Literal

from distreal_jax.errors import InputError
from distreal_jax.tracing.inner import line_of
from distreal_jax.tracing.interception import Occasion
from distreal_jax.tracing.labels import AxisLabels, Ties, ValueLabels

_OR_WHOLE = ", or keep the layers before it whole (keep_whole, see docs/extending.md)"


@dataclasses.dataclass(frozen=True)
class Value:
    """What is known of one value: its labels, and whether it depends on parameters alone (and not on the input)."""

    labels: ValueLabels
    weight: bool


@dataclasses.dataclass(frozen=True)
class Product:
    """A convolution or a dot: its multiply-accumulates are `constant` times the lengths of `axes`."""

    constant: int
    axes: tuple[AxisLabels, ...]


@dataclasses.dataclass(frozen=True)
class Creation:
    """Channels that a layer creates: the output axis of the kernel."""

    labels: AxisLabels
    layer: str
    kind: Literal["conv", "dense"]


@dataclasses.dataclass(frozen=True)
class Factoring:
    """An axis of channels that a reshape splits into several, or several that it flattens into one.

    Which of the factors carries the filters is seen in the end, when all that is done to them is known.
    """

    flat: AxisLabels
    factors: tuple[AxisLabels, ...]
    layer: str

    @property
    def where(self) -> str:
        """Layer and operation, for a message."""
        layer = f"layer {self.layer!r}" if self.layer else "the network's own __call__"
        return f"{layer} (primitive 'reshape', to {' x '.join(map(str, self.kind))})"

    @property
    def kind(self) -> "Kind":
        """Reshapes of the same lengths are decided alike: those of all blocks of a network."""
        return tuple(map(len, self.factors))


Kind = tuple[int, ...]


class Observations:
    """What the walk over the jaxpr collects on its way, beside the ties."""

    def __init__(self) -> None:
        self.products: list[Product] = []
        self.creations: list[Creation] = []
        self.contracted: list[AxisLabels] = []
        self.normalised_over: dict[Occasion, AxisLabels] = {}
        self.factorings: list[Factoring] = []
        self.heads: list[AxisLabels] = []  # axes along which activations are multiplied with activations
        self.refusals: list[tuple[AxisLabels, InputError]] = []


@dataclasses.dataclass(frozen=True)
class Site:
    """One equation, with what a rule needs to know about it."""

    primitive: str
    params: dict[str, Any]
    operands: tuple[Value, ...]
    out_shapes: tuple[tuple[int, ...], ...]
    occasion: Occasion  # the innermost module that is being called (its path, "" outside all), and which of its calls
    masks_statistics: bool  # that module can be told which channels count in its statistics (Flax's `mask=`)
    ties: Ties
    seen: Observations
    source: Any  # of the equation: where in the user's code it comes from

    @property
    def layer(self) -> str:
        """Path of the innermost module that is being called, "" outside all."""
        return self.occasion[0]

    def refuse(self, labels: AxisLabels, why: str, remedy: str) -> None:
        """Notes that the equation can't be followed if any of the labels turns out to be droppable in the end.

        Whether it does is known only after the walk: the classes that a final softmax reduces over are pinned last.
        An axis that only may carry filters does not.
        """
        if self.ties.tentative(labels):
            self.ties.pin(labels)
            return
        where = f"layer {self.layer!r}" if self.layer else "the network's own __call__"
        error = InputError(
            f"can't trace {where}: primitive {self.primitive!r}{line_of(self.source)} {why}; {remedy}{_OR_WHOLE}"
        )
        self.seen.refusals.append((labels, error))


def create(site: Site, labels: AxisLabels, kind: Literal["conv", "dense"]) -> None:
    """Notes that the equation creates channels."""
    site.ties.certain(labels)
    site.seen.creations.append(Creation(labels, site.layer, kind))
