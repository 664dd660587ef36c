"""Recorded load: traces of real machines, replayed by the simulated devices.

Each device replays one machine of the trace, from an instant of its own, round and round. While there are machines that no
device replays, no two devices share one.
"""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from distreal_jax.availability.draws import permuted, uniforms
from distreal_jax.availability.segments import Floats, Integers, Segments
from distreal_jax.errors import InputError

MOST_SAMPLES_A_ROUND = 10_000  # chosen by us; far beyond use, and keeps a slip in the seconds from filling the memory


class Machine(NamedTuple):
    """What was recorded of one machine: `values` [samples], since when each holds, and how long they last altogether."""

    starts: Floats
    values: Floats
    seconds: float


@dataclasses.dataclass(frozen=True)
class Trace:
    """Availability of machines over time, the samples of all machines one after the other.

    Attributes:
      starts: Since when a sample holds, in seconds since its machine's first, float64 [samples].
      values: Availability, in (0, 1], float64 [samples].
      first: Index of each machine's first sample, int64 [machines].
      lengths: Number of each machine's samples, int64 [machines].
      seconds: How long each machine's samples last altogether, float64 [machines].
    """

    starts: Floats
    values: Floats
    first: Integers
    lengths: Integers
    seconds: Floats

    @classmethod
    def of(cls, machines: Iterable[Machine]) -> "Trace":
        """The trace of at least one machine."""
        starts, values, seconds = zip(*machines, strict=True)
        lengths = np.array([len(samples) for samples in starts], dtype=np.int64)
        first = np.cumsum(lengths) - lengths
        return cls(np.concatenate(starts), np.concatenate(values), first, lengths, np.array(seconds))

    def sample_at(self, machines: Integers, seconds: Floats) -> Integers:
        """Which sample holds after `seconds` [devices] of endless replay, counted on from one replay to the next."""
        replays, within = np.divmod(seconds, self.seconds[machines])
        first, lengths = self.first[machines], self.lengths[machines]
        low, high = np.zeros_like(lengths), lengths
        while np.any(high - low > 1):  # a binary search for all devices at once
            middle = (low + high) // 2
            passed = self.starts[first + middle] <= within
            low, high = np.where(passed, middle, low), np.where(passed, high, middle)
        return replays.astype(np.int64) * lengths + low


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A trace replayed.

    Attributes:
      seed: The experiment's seed.
      trace: What was recorded.
      round_seconds: Seconds of the trace that one round lasts.
    """

    seed: int
    trace: Trace
    round_seconds: float

    def __post_init__(self) -> None:
        """Refuses, with an `InputError`, a round so long that it would hold more samples than anybody means."""
        most = self.round_seconds / np.min(self.trace.seconds / self.trace.lengths)
        if most > MOST_SAMPLES_A_ROUND:
            raise InputError(
                f"a round of {self.round_seconds:g} s holds {most:.0f} samples of the trace, expected at most"
                f" {MOST_SAMPLES_A_ROUND}; lower round_seconds"
            )

    @property
    def minimum(self) -> float:
        """The smallest availability in the trace."""
        return float(np.min(self.trace.values))

    def __str__(self) -> str:
        machines = len(self.trace.first)
        return f"recorded on {machines:,} machines; a round lasts {self.round_seconds:g} s of the recording"

    def during(self, round_index: int, devices: Integers) -> Segments:
        """Availability of `devices`, int64 [devices], during a round; see `Availability.during`."""
        trace = self.trace
        machines = permuted(self.seed, "availability/machine", devices % len(trace.first), len(trace.first))
        lengths = trace.lengths[machines][:, np.newaxis]
        offsets = uniforms(self.seed, "availability/offset", devices) * trace.seconds[machines]
        begin, end = (offsets + turn * self.round_seconds for turn in (round_index, round_index + 1))
        samples = trace.sample_at(machines, begin)[:, np.newaxis]
        last = trace.sample_at(machines, end)[:, np.newaxis]
        samples = np.minimum(samples + np.arange(np.max(last - samples, initial=0) + 1), last)
        replays, within = np.divmod(samples, lengths)
        taken = trace.first[machines][:, np.newaxis] + within
        changes = trace.starts[taken[:, 1:]] + replays[:, 1:] * trace.seconds[machines][:, np.newaxis]
        fractions = np.clip((changes - begin[:, np.newaxis]) / self.round_seconds, 0.0, 1.0)
        fractions[samples[:, 1:] == samples[:, :-1]] = 1.0
        edges = np.pad(fractions, ((0, 0), (1, 1)), constant_values=((0.0, 0.0), (0.0, 1.0)))
        return Segments(times=edges, values=trace.values[taken])
