"""Load that is drawn, not recorded: constant, tiers, redrawn at random times, and a Markov chain over levels.

Each process is a function of (seed, device, time). The two that change keep no state either: they are drawn in spans of
rounds, and what holds when a span begins is found by looking back over the spans before it, as far as it depends on them.
"""

import dataclasses
import math

import numpy as np

from distreal_jax.availability.draws import permuted, uniforms
from distreal_jax.availability.segments import Floats, Integers, Segments, unchanging
from distreal_jax.errors import InputError

_LISTED = 6  # tiers that are named one by one when a load is printed, chosen by us


@dataclasses.dataclass(frozen=True)
class Constant:
    """Each device has an availability of its own, drawn uniformly from [minimum, maximum], that never changes."""

    seed: int
    minimum: float
    maximum: float

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            return f"{self.minimum:g} for every device, always"
        return f"constant for each device, uniform from {self.minimum:g} to {self.maximum:g} over devices"

    def during(self, round_index: int, devices: Integers) -> Segments:
        """Availability of `devices`, int64 [devices], during a round; see `Availability.during`."""
        return unchanging(_between(self.minimum, self.maximum, uniforms(self.seed, "availability/constant", devices)))


@dataclasses.dataclass(frozen=True)
class Tiers:
    """Each device belongs to one tier for ever; every tier has its share of the population, to within one device.

    Attributes:
      seed: The experiment's seed.
      num_devices: The population's size.
      levels: The tiers' availabilities, each in (0, 1].
      weights: Their shares of the population, positive, of any sum.
    """

    seed: int
    num_devices: int
    levels: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def minimum(self) -> float:
        """Availability of the weakest tier."""
        return min(self.levels)

    def __str__(self) -> str:
        if len(self.levels) <= _LISTED:
            return f"tiers of {', '.join(f'{level:g}' for level in self.levels)}"
        return f"{len(self.levels):,} tiers from {min(self.levels):g} to {max(self.levels):g}"

    def during(self, round_index: int, devices: Integers) -> Segments:
        """Availability of `devices`, int64 [devices], during a round; see `Availability.during`.

        Raises:
          InputError: A device is not one of the population.
        """
        outside = devices[(devices < 0) | (devices >= self.num_devices)]
        if len(outside):
            raise InputError(
                f"device {outside[0]} is none of the {self.num_devices} devices; expected 0 to {self.num_devices - 1}"
            )
        ranks = permuted(self.seed, "availability/tiers", devices, self.num_devices)
        ends = np.cumsum(self.weights) / math.fsum(self.weights)
        tiers = np.searchsorted(ends[:-1], (ranks + 0.5) / self.num_devices, side="right")
        return unchanging(np.array(self.levels)[tiers])


@dataclasses.dataclass(frozen=True)
class PoissonEvents:
    """Events of a Poisson process, one independent process for each device, drawn in spans of whole rounds.

    The number of events in a span is Poisson, and given their number their times are independent and uniform: this is the
    process itself, not a discretisation.

    Attributes:
      seed: The experiment's seed.
      role: What the events are for.
      rate: Mean number of events of a device in a round.
      span_rounds: Rounds in a span.
    """

    seed: int
    role: str
    rate: float
    span_rounds: int

    def counts(self, devices: Integers, span: int) -> Integers:
        """Number of events of each device in the span, int64 [devices]."""
        mean = self.rate * self.span_rounds
        longest = int(mean + 12 * math.sqrt(mean) + 30)  # chosen by us; more events are rarer than 2**-53
        log_probabilities = np.cumsum(np.log(mean / np.arange(1, longest)), dtype=np.float64) - mean
        cumulative = np.cumsum(np.exp(np.concatenate([[-mean], log_probabilities])))
        draws = uniforms(self.seed, f"{self.role}/counts", devices, span)
        return np.searchsorted(cumulative, draws, side="right").astype(np.int64)

    def times(self, devices: Integers, span: int) -> Floats:
        """Times of the events, in rounds since the span began, ascending and padded with inf, float64 [devices, most]."""
        counts = self.counts(devices, span)
        index = np.arange(counts.max(initial=0))
        draws = uniforms(self.seed, f"{self.role}/times", devices[:, np.newaxis], span, index)
        return np.sort(np.where(index < counts[:, np.newaxis], draws * self.span_rounds, np.inf), axis=1)


@dataclasses.dataclass(frozen=True)
class Redrawn:
    """Availability uniform in [minimum, maximum], drawn anew at the events of a Poisson process.

    Attributes:
      seed: The experiment's seed.
      minimum: Lower end of the values.
      maximum: Upper end of the values.
      rate: Mean number of redraws of a device in a round.
    """

    seed: int
    minimum: float
    maximum: float
    rate: float

    @property
    def events(self) -> PoissonEvents:
        """When values are redrawn, with about one event or more in a span, so that looking back is short at any rate."""
        return PoissonEvents(self.seed, "availability/redrawn", self.rate, span_rounds=math.ceil(1 / min(1.0, self.rate)))

    def __str__(self) -> str:
        return f"uniform from {self.minimum:g} to {self.maximum:g}, redrawn {self.rate:g} times a round on average"

    def during(self, round_index: int, devices: Integers) -> Segments:
        """Availability of `devices`, int64 [devices], during a round; see `Availability.during`."""
        events = self.events
        span, round_in_span = divmod(round_index, events.span_rounds)
        times = events.times(devices, span)
        drawn = self._value(devices[:, np.newaxis], span, np.arange(times.shape[1]))
        values = np.column_stack([self._value_before(devices, span), drawn])
        return _cut(times - round_in_span, values)

    def _value(self, devices: Integers, span: int, index: Integers) -> Floats:
        draws = uniforms(self.seed, "availability/redrawn/values", devices, span, index)
        return _between(self.minimum, self.maximum, draws)

    def _value_before(self, devices: Integers, span: int) -> Floats:
        values = np.zeros(len(devices))
        unknown = np.arange(len(devices))
        while span > 0 and len(unknown):
            span -= 1
            counts = self.events.counts(devices[unknown], span)
            known = unknown[counts > 0]
            values[known] = self._value(devices[known], span, counts[counts > 0] - 1)
            unknown = unknown[counts == 0]
        draws = uniforms(self.seed, "availability/redrawn/initial", devices[unknown])
        values[unknown] = _between(self.minimum, self.maximum, draws)
        return values


@dataclasses.dataclass(frozen=True)
class Markov:
    """A Markov chain in continuous time over a row of levels.

    At the events of a Poisson process a device moves to the level above or below, each with probability 1/2; a move beyond
    either end of the row leaves it where it is. It begins at a uniformly drawn level, which is the chain's stationary
    distribution.

    A span of rounds maps the level at its beginning to that at its end. Looking back, the maps are composed until the result
    no longer depends on where the device began (coupling from the past: Propp and Wilson, 1996).

    Attributes:
      seed: The experiment's seed.
      levels: Availabilities, each in (0, 1]; neighbours in this order are neighbours in the chain.
      rate: Mean number of moves of a device in a round.
    """

    seed: int
    levels: tuple[float, ...]
    rate: float

    @property
    def minimum(self) -> float:
        """The lowest level."""
        return min(self.levels)

    @property
    def events(self) -> PoissonEvents:
        """When devices move, in spans about as long as a chain takes to forget where it began: levels squared moves."""
        span_rounds = max(1, math.ceil(len(self.levels) ** 2 / self.rate))
        return PoissonEvents(self.seed, "availability/markov", self.rate, span_rounds)

    def __str__(self) -> str:
        return f"levels {', '.join(f'{level:g}' for level in self.levels)}; {self.rate:g} moves a round on average"

    def during(self, round_index: int, devices: Integers) -> Segments:
        """Availability of `devices`, int64 [devices], during a round; see `Availability.during`."""
        span, round_in_span = divmod(round_index, self.events.span_rounds)
        times = self.events.times(devices, span)
        moves = self._moves(devices, span, times)
        passed = [self._level_before(devices, span)]
        for column in range(times.shape[1]):
            passed.append(self._moved(passed[-1], moves[:, column]))
        return _cut(times - round_in_span, np.array(self.levels)[np.stack(passed, axis=1)])

    def _moves(self, devices: Integers, span: int, times: Floats) -> Integers:
        draws = uniforms(self.seed, "availability/markov/moves", devices[:, np.newaxis], span, np.arange(times.shape[1]))
        return np.where(np.isinf(times), 0, np.where(draws < 0.5, -1, 1)).astype(np.int64)

    def _moved(self, levels: Integers, moves: Integers) -> Integers:
        moved: Integers = np.clip(levels + moves, 0, len(self.levels) - 1)
        return moved

    def _level_before(self, devices: Integers, span: int) -> Integers:
        count = len(self.levels)
        since = np.tile(np.arange(count), (len(devices), 1))  # since[device, level at the span's start] = level now
        while span > 0 and len(unknown := np.flatnonzero(np.any(since != since[:, :1], axis=1))):
            span -= 1
            times = self.events.times(devices[unknown], span)
            through = np.tile(np.arange(count), (len(unknown), 1))
            for moves in self._moves(devices[unknown], span, times).T:
                through = self._moved(through, moves[:, np.newaxis])
            since[unknown] = np.take_along_axis(since[unknown], through, axis=1)
        initial = np.floor(count * uniforms(self.seed, "availability/markov/initial", devices)).astype(np.int64)
        return np.take_along_axis(since, initial[:, np.newaxis], axis=1)[:, 0]


def _between(low: float, high: float, draws: Floats) -> Floats:
    """Draws from [0, 1) moved to [low, high]; clipped because low + (high - low) * draw may round to just above high."""
    return np.clip(low + (high - low) * draws, low, high)


def _cut(times: Floats, values: Floats) -> Segments:
    """Segments of one round out of changes at ascending `times` [devices, changes], in rounds since the round began.

    `values` [devices, changes + 1] are the availabilities before the first change and from each change on.
    """
    before = np.sum(times <= 0, axis=1, keepdims=True)
    inside = np.sum(times < 1, axis=1, keepdims=True) - before
    index = np.arange(inside.max(initial=0) + 1)
    taken = before + np.minimum(index, inside)
    padded = np.pad(times, ((0, 0), (0, 1)), constant_values=np.inf)
    ends = np.where(index < inside, np.take_along_axis(padded, taken, axis=1), 1.0)
    edges = np.concatenate([np.zeros((len(times), 1)), ends], axis=1)
    return Segments(times=edges, values=np.take_along_axis(values, taken, axis=1))
