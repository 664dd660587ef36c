"""One equation of a jaxpr as a rule sees it: the labels of its operands, and what is noted on the way."""

import dataclasses
import functools
import operator
from collections.abc import Collection, Iterable
from typing import Any, Literal

import numpy as np

from distreal_jax.tracing.degrees import Degree, fresh
from distreal_jax.tracing.inner import Place, line_of
from distreal_jax.tracing.labels import ANY, AxisLabels, Ties, ValueLabels, pinned


@dataclasses.dataclass(frozen=True)
class Value:
    """What is known of one value.

    Attributes:
      labels: Of its axes.
      weight: Whether it depends on parameters alone, and not on the input.
      repeated: Whether it depends on parameters alone and is there once for each example, such as queries that are learnt.
      trained_by: The variables whose gradients flow through it, a bit for each.
      degree: How it grows with what it is computed from, where it depends on the input.
    """

    labels: ValueLabels
    weight: bool
    trained_by: int = 0
    repeated: bool = False
    degree: Degree = dataclasses.field(default_factory=fresh)


def through_all(values: Iterable[Value]) -> int:
    """The variables whose gradients flow through any of the values."""
    return functools.reduce(operator.or_, (value.trained_by for value in values), 0)


@dataclasses.dataclass(frozen=True)
class Product:
    """A convolution or a dot: its multiply-accumulates are `constant` times the lengths of `axes`.

    `operands` are the variables whose gradients flow through each of its two operands, bits as of `Value`; none where no
    gradient of the outputs comes to it.
    """

    constant: int
    axes: tuple[AxisLabels, ...]
    operands: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Meeting:
    """Where variables first meet what depends on the input.

    Attributes:
      variables: Bits as of `Value`.
      layer: Path of the layer that is being called.
      begins: Whether a layer begins there: it multiplies with them, or looks them up.
    """

    variables: int
    layer: str
    begins: bool


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
    sources: tuple[Any, ...] = ()

    @property
    def where(self) -> str:
        """Layer and operation, for a message."""
        layer = f"layer {self.layer!r}" if self.layer else "the network's own __call__"
        return f"{layer} (primitive 'reshape', to {' x '.join(map(str, self.kind))}{line_of(self.sources)})"

    @property
    def kind(self) -> "Kind":
        """Reshapes of the same lengths are decided alike: those of all blocks of a network."""
        return tuple(map(len, self.factors))


Kind = tuple[int, ...]


class Observations:
    """What the walk over the jaxprs collects on its way, beside the ties.

    What is noted at a place is noted by mode: in training (True) and in evaluation an equation has another place.
    """

    def __init__(self, following: Collection[bytes] = ()) -> None:
        self.following = following  # axes of channels that are filled up by something for each
        self.fillings: dict[bytes, AxisLabels] = {}  # axes of channels that are filled up by as many elements
        self.products: list[Product] = []
        self.meetings: list[Meeting] = []
        self.creations: list[Creation] = []
        self.contracted: list[AxisLabels] = []
        self.uncounted: list[str] = []  # where work is done that is no product
        self.normalised: list[AxisLabels] = []  # channels that a layer takes statistics over
        self.factorings: list[Factoring] = []
        self.heads: list[AxisLabels] = []  # axes along which activations are multiplied with activations
        self.cuts: dict[bytes, tuple[AxisLabels, set[int]]] = {}  # axes of channels, and at which places they are cut
        self.wholes: list[tuple[AxisLabels, str]] = []  # what can't be done to fewer channels, and why
        self.excluding: dict[tuple[bool, Place], ValueLabels] = {}  # operands in which dropped channels must not count
        self.risky: dict[tuple[bool, Place], dict[int, ValueLabels]] = {}  # operands of which dropped channels may give NaN
        self.draws: dict[tuple[bool, Place], ValueLabels] = {}  # random numbers
        self.takes_in: dict[Place, tuple[int, ValueLabels]] = {}  # in training, kernels (an operand) and what they contract
        self.out_of_reach: set[Place] = set()  # those of them that are inside a function with a derivative of its own
        self.statistics: set[tuple[str, ...]] = set()  # variables whose new value in training depends on the input
        self.lookups: set[tuple[bool, Place]] = set()  # of what is learnt, by indices that are computed from the input

    def add_of_derivative(self, seen: "Observations") -> None:
        """Adds what is seen in a derivative of the network's own; it creates no channels, and its products are counted."""
        self.factorings += seen.factorings
        self.wholes += seen.wholes
        for key, (labels, places) in seen.cuts.items():
            self.cuts.setdefault(key, (labels, set()))[1].update(places)
        self.excluding |= seen.excluding
        self.risky |= seen.risky
        self.draws |= seen.draws


@dataclasses.dataclass(frozen=True)
class Site:
    """One equation, with what a rule needs to know about it."""

    primitive: str
    params: dict[str, Any]
    operands: tuple[Value, ...]
    out_shapes: tuple[tuple[int, ...], ...]
    place: Place
    train: bool  # whether the network is walked over as it is in training
    normalises: bool  # the layer is one of Flax's with statistics over channels
    ties: Ties
    seen: Observations
    sources: tuple[Any, ...]  # of the calls that the equation is in, and its own: where in the user's code it comes from

    @property
    def layer(self) -> str:
        """Path of the innermost module that is being called, "" outside all."""
        return self.place.layer

    @property
    def where(self) -> str:
        """Layer and operation, for a message."""
        layer = f"layer {self.layer!r}" if self.layer else "the network's own __call__"
        return f"{layer} (primitive {self.primitive!r}{line_of(self.sources)})"

    def keep_whole(self, labels: AxisLabels, why: str) -> None:
        """Notes that what the equation does can't be done to fewer channels.

        Whether these could be dropped otherwise is known only after the walk: the classes that are sorted at the end are
        pinned last. An axis that only may carry filters does not.

        Args:
          labels: Of the channels.
          why: What is done to them, in a clause such as "which sorts channels".
        """
        if self.ties.tentative(labels):
            self.ties.pin(labels)
        else:
            self.seen.wholes.append((labels, f"{self.where}, {why}"))

    def cut(self, labels: AxisLabels, places: Iterable[int]) -> None:
        """Notes that the equation cuts an axis of channels at some places, of which its ends are none."""
        if self.ties.droppable(labels):
            _, before = self.seen.cuts.setdefault(labels.tobytes(), (labels, set()))
            before.update(set(places) - {0, len(labels)})

    def filling(self, part: AxisLabels, channels: AxisLabels) -> AxisLabels:
        """The labels of a part of an axis that is joined with channels.

        What is the same all along, such as zeros that a shortcut is filled up with, may be there once for each channel. That
        is seen in smaller networks: they run with one of the two.
        """
        if len(part) != len(channels) or np.any(part != ANY) or not self.ties.droppable(channels):
            return part
        self.seen.fillings[channels.tobytes()] = channels
        return channels if channels.tobytes() in self.seen.following else part

    def exclude(self, axes: Collection[int]) -> None:
        """Notes that in masked execution the dropped channels along axes of the first operand must not count."""
        labels = self.operands[0].labels
        of_these = tuple(along if axis in axes else pinned(len(along)) for axis, along in enumerate(labels))
        self.seen.excluding.setdefault((self.train, self.place), of_these)

    def take_in(self, kernel: int, axes: Collection[int], activation: Value) -> None:
        """Notes that the equation contracts channels of an activation with a kernel, in training.

        Args:
          kernel: The operand.
          axes: Of the kernel, those along which the channels are.
          activation: That has the channels.
        """
        if not self.train:
            return
        labels = self.operands[kernel].labels
        along = tuple(each if axis in axes else pinned(len(each)) for axis, each in enumerate(labels))
        self.seen.takes_in.setdefault(self.place, (kernel, along))
        if not activation.weight and not activation.degree:
            self.seen.normalised.extend(labels[axis] for axis in axes)


def create(site: Site, labels: AxisLabels, kind: Literal["conv", "dense"]) -> None:
    """Notes that the equation of the site creates channels of a kind along an axis with these labels."""
    site.ties.certain(labels)
    site.seen.creations.append(Creation(labels, site.layer, kind))
