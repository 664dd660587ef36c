"""What a step costs: multiply-accumulates of the products of a network at any widths, forwards and backwards."""

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from distreal_jax.tracing.layout import LengthOfAxis

Integers = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Cost:
    """The convolutions and dots of a network.

    Attributes:
      products: Of each, a constant and the lengths of the axes along which filters may lie; its multiply-accumulates are the
        product of all.
      reached: Of each, the last layer whose gradients flow through each of its two operands; -1: none does, or no gradient
        of the outputs comes to the product.
      groups: Number of filter groups.
      batch_size: Of the example that was traced.
    """

    products: tuple[tuple[int, tuple[LengthOfAxis, ...]], ...]
    reached: tuple[tuple[int, int], ...]
    groups: int
    batch_size: int

    def forward(self, widths: npt.ArrayLike) -> Integers:
        """MACs of one example's forward pass: int [vectors, groups] to int64 [vectors]."""
        return self._of_products(widths).sum(axis=1) // self.batch_size

    def training(self, widths: npt.ArrayLike, depths: npt.ArrayLike) -> Integers:
        """MACs of one example's forward and backward passes: int [vectors, groups] and int [vectors] to int64 [vectors].

        The gradient of a product by one of its operands takes as many as the product, and is needed where a layer from
        `depths` on is trained by it.
        """
        passes = 1 + (self._reached >= np.reshape(depths, (-1, 1, 1))).sum(axis=2)  # [vectors, products]
        return (passes * self._of_products(widths)).sum(axis=1) // self.batch_size

    def _of_products(self, widths: npt.ArrayLike) -> Integers:
        """Of the traced batch's forward pass, [vectors, products]."""
        constants, fixed, per_filter = self._polynomial
        lengths = fixed + np.einsum("ofg,vg->vof", per_filter, np.asarray(widths, dtype=np.int64))
        return np.asarray(constants * lengths.prod(axis=2), dtype=np.int64)

    @functools.cached_property
    def _reached(self) -> Integers:
        return np.array(self.reached, dtype=np.int64).reshape(-1, 2)

    @functools.cached_property
    def _polynomial(self) -> tuple[Integers, Integers, Integers]:
        most = max((len(axes) for _, axes in self.products), default=1)
        fixed = np.ones((len(self.products), most), dtype=np.int64)
        per_filter = np.zeros((len(self.products), most, self.groups), dtype=np.int64)
        for row, (_, axes) in enumerate(self.products):
            for column, axis in enumerate(axes):
                fixed[row, column] = axis.constant
                per_filter[row, column] = axis.per_filter
        return np.array([constant for constant, _ in self.products], dtype=np.int64), fixed, per_filter
