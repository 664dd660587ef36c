"""What vectors cost a device in seconds: measured while a search goes on, each once."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from distreal_jax.table import Configuration


class StepSeconds(Protocol):
    """Measures training steps on a device."""

    @property
    def device(self) -> str:
        """Its name, as in `seconds:<device>`."""

    @property
    def full_seconds(self) -> float:
        """Of the full network's step; known once something was measured."""

    def __call__(self, vectors: Sequence[Configuration]) -> npt.NDArray[np.float64]:
        """Seconds of a step of each, as fractions of the full network's, [vectors]."""


class SecondsOfVectors:
    """Costs of vectors as fractions of the full network's seconds, those of a checkpoint among them.

    Attributes:
      device: On which they are measured.
      known: Fraction of the full network's seconds, by the vector without its step factor, whose value takes no time.
      full: Seconds of the full network's step; 0 as long as nothing was measured.
    """

    def __init__(self, measure: StepSeconds, full_widths: tuple[int, ...]) -> None:
        """Starts with the full network, whose cost is 1."""
        self._measure, self.device = measure, measure.device
        self.known: dict[Configuration, float] = {Configuration(full_widths): 1.0}
        self.full = 0.0

    def learn(self, vectors: Sequence[Configuration]) -> None:
        """Measures those that are not known."""
        new = [vector for vector in dict.fromkeys(vector.at_usual_step for vector in vectors) if vector not in self.known]
        if new:
            self.known.update(zip(new, self._measure(new).tolist(), strict=True))
            self.full = self._measure.full_seconds

    def cost(self, vector: Configuration) -> float:
        """Fraction of the full network's seconds."""
        return self.known[vector.at_usual_step]

    def of(self, vector: Configuration) -> float:
        """Seconds of a step."""
        return self.cost(vector) * self.full
