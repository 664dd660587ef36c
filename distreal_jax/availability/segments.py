"""Availability: the fraction of its full speed that a device has for training, as a function of time.

Time is counted in rounds: the instant a fraction f into round r is r + f, and a round ends, at its deadline, with f = 1.
Availability 1 is the speed at which the full network's mini-batches of one round just fit into the round.
"""

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Segments:
    """Availability of several devices during one round, constant on each segment.

    Attributes:
      times: Where the segments begin and end, float64 [devices, segments + 1], fractions of the round: the first is 0, the
        last 1, and none is below the one before. A device with fewer changes than the others is padded with repeated 1.
      values: float64 [devices, segments], in (0, 1]. A new value holds from the instant of the change on. The padding
        repeats the last value.
    """

    times: Floats
    values: Floats

    def means(self) -> Floats:
        """Mean availability of each device over the round, float64 [devices]."""
        means: Floats = np.sum(np.diff(self.times) * self.values, axis=1)
        return means


class Availability(Protocol):
    """What the devices of a population can spend on training, at any time.

    A device's availability depends on the seed, on the device and on the time; never on which devices or rounds were asked
    for before, nor on what the devices train. So every method meets the same load.
    """

    @property
    def minimum(self) -> float:
        """The smallest availability that any device may ever have: what the weakest device is sure to have."""

    def during(self, round_index: int, devices: Integers) -> Segments:
        """Availability of `devices`, int64 [devices], in that order, during the round `round_index` (the first is 0)."""


def unchanging(values: Floats) -> Segments:
    """Segments of devices whose availability, `values` [devices], does not change during the round."""
    times = np.tile(np.array([0.0, 1.0]), (len(values), 1))
    return Segments(times=times, values=values[:, np.newaxis])
