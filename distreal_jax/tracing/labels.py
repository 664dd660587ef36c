"""Labels on the elements of array axes, tied together by a union-find.

Every value in a traced network carries one integer array of labels per axis. Two elements with the same (root) label are
dropped or kept together. Two labels are special: `PINNED` elements belong to an input feature, an output or a position and
are never dropped; `ANY` elements are the same all along their axis (a broadcast), so they fit whatever they meet.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

AxisLabels = npt.NDArray[np.int64]  # [length of the axis]
ValueLabels = tuple[AxisLabels, ...]  # one per axis

PINNED = 0
ANY = -1


def pinned(length: int) -> AxisLabels:
    """Labels of an axis that can't be dropped; one of length 1 fits anything."""
    return np.full(length, PINNED if length != 1 else ANY, dtype=np.int64)


def anything(length: int) -> AxisLabels:
    """Labels of an axis along which the value does not vary."""
    return np.full(length, ANY, dtype=np.int64)


class Ties:
    """A union-find over labels in which `PINNED` is always the root of its class, and which remembers why a class is pinned.

    Attributes:
      because: What is being done to labels now, for the memory; its `str` says it.
    """

    def __init__(self) -> None:
        self.because: object = ""
        self._parent: list[int] = [PINNED]
        self._tentative: list[bool] = [False]  # of a root
        self._reasons: dict[int, object] = {}

    def new(self, length: int, *, tentative: bool = False) -> AxisLabels:
        """`length` labels that are tied to nothing yet; an axis of length 1 has nothing to drop.

        Tentative ones are of an axis that may carry filters, and may as well not.
        """
        if length == 1:
            return anything(1)
        first = len(self._parent)
        self._parent.extend(range(first, first + length))
        self._tentative.extend([tentative] * length)
        return np.arange(first, first + length, dtype=np.int64)

    def root(self, label: int) -> int:
        """The representative of the label's class."""
        if label == ANY:
            return ANY
        while (parent := self._parent[label]) != label:
            above = self._parent[parent]
            if above == PINNED:  # the link to it is kept: it is what a reason is remembered for
                return PINNED
            self._parent[label] = above
            label = above
        return label

    def why_pinned(self, label: int) -> str:
        """What was done when the label's class was pinned."""
        while self._parent[label] not in (PINNED, label):
            label = self._parent[label]
        return str(self._reasons.get(label, ""))

    def tentative(self, labels: AxisLabels) -> bool:
        """Whether the axis may carry filters but need not: where filters would be in the way it is pinned instead."""
        roots = [root for root in map(self.root, labels.tolist()) if root != ANY]
        return bool(roots) and all(root != PINNED and self._tentative[root] for root in roots)

    def certain(self, labels: AxisLabels) -> None:
        """Says that the labels are those of filters: where these are in the way it is refused."""
        for label in labels.tolist():
            if label != ANY:
                self._tentative[self.root(label)] = False

    def roots(self, labels: AxisLabels) -> AxisLabels:
        """The representatives of all labels of an axis."""
        return np.array([self.root(int(label)) for label in labels], dtype=np.int64)

    def tie(self, left: int, right: int) -> None:
        """Makes two labels one class."""
        left, right = self.root(left), self.root(right)
        if left != right and ANY not in (left, right):
            low, high = min(left, right), max(left, right)
            self._parent[high] = low
            self._tentative[low] = self._tentative[low] and self._tentative[high]
            if low == PINNED:
                self._reasons[high] = self.because

    def pin(self, labels: AxisLabels) -> None:
        """Ties all labels to `PINNED`."""
        for label in labels:
            self.tie(PINNED, int(label))

    def tie_all(self, labels: AxisLabels) -> int:
        """Makes all labels of an axis one class and returns its representative (`ANY` if there is none)."""
        known = [int(label) for label in labels if label != ANY]
        for label in known[1:]:
            self.tie(known[0], label)
        return self.root(known[0]) if known else ANY

    def tie_axes(self, axes: Sequence[AxisLabels]) -> AxisLabels:
        """Ties axes of one length element by element and returns the labels of the combination.

        An axis of length 1 among longer ones is a broadcast and ties nothing.
        """
        length = max(len(axis) for axis in axes)
        combined = anything(length)
        for axis in axes:
            if len(axis) != length:
                continue
            for position in np.flatnonzero((axis != combined) & (axis != ANY) & (combined != ANY)):
                self.tie(int(combined[position]), int(axis[position]))
            combined = np.where(combined == ANY, axis, combined)
        return combined

    def droppable(self, labels: AxisLabels) -> bool:
        """Whether any element of the axis could be dropped, as far as is known now."""
        return bool(np.any(self.roots(labels) > PINNED))
