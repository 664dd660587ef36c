"""Availability: the fraction of its full speed that a device has for training, as a function of time.

Time is counted in rounds: the instant a fraction f into round r is r + f, and a round ends, at its deadline, with f = 1.
Availability 1 is the speed at which the full network's mini-batches of one round just fit into the round.
"""

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError

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


def checked(segments: Any, round_index: int, devices: Integers) -> Segments:
    """What an availability said of a round, if it can be.

    Args:
      segments: What `during` returned.
      round_index: The round.
      devices: Who was asked for, [devices].

    Raises:
      InputError: It is something else, of other shapes, or has times or values that can't be; round and device are named.
    """
    where = f"the availability in round {round_index}"
    if not isinstance(segments, Segments):
        raise InputError(f"{where} is a {type(segments).__name__}; `during` returns Segments(times, values)")
    times, values = np.asarray(segments.times), np.asarray(segments.values)
    if values.ndim != 2 or len(values) != len(devices) or times.shape != (len(devices), values.shape[1] + 1):
        raise InputError(
            f"{where} has times of shape {times.shape} and values of shape {values.shape} for {len(devices)} devices; "
            "expected [devices, segments + 1] and [devices, segments]"
        )
    ordered = (times[:, 0] == 0) & (times[:, -1] == 1) & np.all(np.diff(times, axis=1) >= 0, axis=1)
    within = np.all((values > 0) & (values <= 1), axis=1)  # NaN is neither
    for right, expected in ((ordered, "times from 0 to 1 that never fall"), (within, "values above 0 and at most 1")):
        if not right.all():
            raise InputError(
                f"{where} of device {devices[np.argmin(right)]} has not {expected}; docs/extending.md has an example"
            )
    return segments


def checked_load(load: Any, what: str) -> "Availability":
    """A load of one's own, if it has what one needs.

    Args:
      load: The load.
      what: What an error calls it.

    Raises:
      InputError: It has no `during`, or no `minimum` in (0, 1].
    """
    lowest = getattr(load, "minimum", None)
    if not callable(getattr(load, "during", None)) or not isinstance(lowest, int | float) or not 0 < lowest <= 1:
        raise InputError(
            f"{what} is a {type(load).__name__} without `during(round_index, devices)`, or without a `minimum` in (0, 1]; "
            "docs/extending.md has one"
        )
    own: Availability = load
    return own


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
