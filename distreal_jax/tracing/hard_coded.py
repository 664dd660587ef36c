"""A network that writes down a number of channels does not run as its own sub-network; here it is found out and named."""

import collections
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from flax import nnx

from distreal_jax.errors import InputError, in_one_line
from distreal_jax.tracing.derivatives import derivatives_in
from distreal_jax.tracing.inner import line_of_error
from distreal_jax.tracing.interception import Call
from distreal_jax.tracing.labels import ANY, AxisLabels
from distreal_jax.tracing.network import TracedNetwork
from distreal_jax.tracing.walk import Members, NetworkJaxpr, Step, Trail, Walk, jaxpr_of, steps_in

REMEDY = (
    "take the count from the array's shape (x.shape[-1], reshape(x.shape[0], -1)) instead of writing it down, "
    "or keep the layer before it whole (keep_whole, see docs/extending.md)"
)

Chosen = Sequence[npt.NDArray[np.int64]]  # for each group [width], the filters that are kept


class HardCodedError(InputError):
    """A smaller network does not run, or has other shapes, as a layer writes down a number of channels.

    Attributes:
      layer: Path of the innermost layer in which that was seen, "" outside all.
      where: The layer and what it does, for a message.
      tried: In training or in evaluation, and the filters that the smaller network keeps.
      follows: Whether nothing is written down: a ramp is made whose length follows from the number of channels.
    """

    tried: "tuple[bool, Chosen] | None" = None
    follows: bool = False

    def __init__(self, message: str, layer: str, where: str) -> None:
        """Notes the layer."""
        super().__init__(message)
        self.layer, self.where = layer, where


class UncountedError(HardCodedError):
    """A number of channels is computed with, in a way that masked execution does not know.

    Attributes:
      number: The equation, and which of its operands it is.
    """

    def __init__(self, of: "Difference", tried: "tuple[bool, Chosen]") -> None:
        """Of a number that differs in a smaller network."""
        super().__init__(
            f"{of.step.where} computes with the number of channels: {of.whole} in {of.step.operation} becomes {of.smaller} "
            "in a smaller network, by no function that is known; compute it once, when the network is built, so that all "
            "sub-networks share it, or keep the layers before it whole (keep_whole, see docs/extending.md)",
            of.step.layer,
            f"{of.step}, which computes with their number ({of.whole} becomes {of.smaller}), by no function that is known",
        )
        self.number, self.tried = (of.step.place, of.operand), tried


def sub_network_jaxpr(
    network: TracedNetwork, widths: Sequence[int], state: Any, example: Any, *, train: bool
) -> NetworkJaxpr:
    """A smaller network, run abstractly.

    Args:
      network: What the trace told so far.
      widths: Filters kept in each group.
      state: The whole network's variables, or their shapes.
      example: The shapes and types of its inputs.
      train: In training, or in evaluation.

    Raises:
      HardCodedError: It does not run.
    """
    failed: list[str] = []

    def noting_failures(path: str, _: nnx.Module, call: Call) -> Call:
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except Exception:
                failed.append(path)
                raise

        return called

    small = network.shapes(state, widths)
    try:
        traced = jaxpr_of(network.graphdef, small, example, noting_failures, train=train)
        collections.deque(derivatives_in(traced.closed.jaxpr), maxlen=0)  # which may write a number down as well
        return traced
    except Exception as error:  # whatever a network of the user's may raise
        layer = next((path for path in failed if path), "")
        where = f"layer {layer!r}" if layer else "the network's own __call__"
        said = f"{where} hard-codes a number of channels{line_of_error(error)} ({in_one_line(error)}); {REMEDY}"
        raise HardCodedError(said, layer, f"{where}{line_of_error(error)}") from error


class Placement:
    """Which elements of the axes in a trail a sub-network keeps."""

    def __init__(self, walk: Walk, members: Members, filters: Sequence[int]) -> None:
        """Numbers all filters of all groups.

        Args:
          walk: The walk over the whole network.
          members: For each root label its (group, filter).
          filters: [groups] filters in each group.
        """
        self._walk, self._filters = walk, filters
        first = np.concatenate([[0], np.cumsum(filters)]).astype(np.int64)
        self._number = {root: int(first[group]) + index for root, (group, index) in members.items()}
        self._never_dropped = int(first[-1])
        self._along: dict[bytes, npt.NDArray[np.int64]] = {}

    def mask(self, kept: Chosen) -> npt.NDArray[np.bool_]:
        """Whether each filter of all groups is kept, bool [filters + 1]; the last is True, for all that is never dropped."""
        masks = [np.isin(np.arange(count), chosen) for count, chosen in zip(self._filters, kept, strict=True)]
        return np.concatenate([*masks, [True]])

    def kept_along(self, labels: AxisLabels, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether each element of an axis is kept, bool [length]; `mask` as the method of that name gives it."""
        key = labels.tobytes()
        if key not in self._along:
            roots = self._walk.ties.roots(labels)
            numbers = [self._number.get(int(root), self._never_dropped) for root in roots]
            self._along[key] = np.array(numbers, dtype=np.int64)
        kept: npt.NDArray[np.bool_] = mask[self._along[key]]
        return kept


class Difference(NamedTuple):
    """A number that a network computes with, and the one that it computes with in a smaller network."""

    step: Step
    operand: int
    whole: Any
    smaller: Any


def numbers_that_differ(small: NetworkJaxpr, trail: Trail, placement: Placement, kept: Chosen) -> list[Difference]:
    """Compares every shape and number of a smaller network with what the labels say.

    Neighbouring groups keep different numbers of filters, and not the first ones, so that a count that a layer has written
    down, a split at a fixed channel or in halves, or a reshape to a fixed size shows as a wrong shape.

    Args:
      small: The smaller network.
      trail: The steps of the whole network, with their labels.
      placement: Where its filters are.
      kept: The filters that the smaller network keeps.

    Raises:
      HardCodedError: A shape is another.
    """
    mask = placement.mask(kept)
    singles = any(len(chosen) == 1 for chosen in kept)
    steps = list(steps_in(small.closed.jaxpr))
    for (step, labels), actual in zip(trail, steps, strict=False):
        if (singles and step.primitive != actual.primitive) or (
            step.primitive == "dot_general" and step.form != actual.form
        ):
            # A product of a single matrix is written in other steps than one of several, and one of three arrays begins with
            # the two that are cheapest: numbers will tell.
            break
        # The length of a broadcast is whatever the layer asked for; where it meets filters, that is checked.
        expected = tuple(
            length if np.any(axis == ANY) else int(placement.kept_along(axis, mask).sum())
            for axis, length in zip(labels, actual.shape, strict=False)
        )
        if step.primitive != actual.primitive or len(actual.shape) != len(labels) or actual.shape != expected:
            if step.primitive == actual.primitive == "iota":
                error = HardCodedError(
                    f"{step.where} makes a ramp whose length follows from the number of channels: {step.operation} gives "
                    f"shape {actual.shape} instead of {step.shape} in a smaller network, so that dropping some would "
                    "change the others; keep the layer before it whole (keep_whole, see docs/extending.md)",
                    step.layer,
                    f"{step}, a ramp whose length follows from their number, so that dropping some would change the others",
                )
                error.follows = True
                raise error
            raise HardCodedError(
                f"{step.where} hard-codes a number of channels: in a smaller network its {step.operation} "
                f"gives shape {actual.shape} where {expected} was expected; {REMEDY}",
                step.layer,
                str(step),
            )
    numbers = {actual.place: actual.numbers for actual in steps}
    return [
        Difference(step, operand, whole, smaller)
        for step, _ in trail
        for operand, (whole, smaller) in enumerate(zip(step.numbers, numbers.get(step.place, step.numbers), strict=False))
        if str(whole) != str(smaller) and None not in (whole, smaller)
    ]
