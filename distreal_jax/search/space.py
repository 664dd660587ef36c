"""What a search explores: a dropout rate for each searched filter group, realised as integer numbers of filters."""

import dataclasses
import math
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.search.seconds import SecondsOfVectors, StepSeconds
from distreal_jax.settings import FACTOR, SEED, Within, check_settings
from distreal_jax.table import Configuration, Configurations, DropoutTable, TableEntry, kept_filters
from distreal_jax.tracing.filter_group import dropped_groups

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork

Widths = tuple[int, ...]  # filters kept in each group of the network
Knob = Literal["filters", "examples", "depth", "step"]
KNOBS: tuple[Knob, ...] = typing.get_args(Knob)
"""What a search can choose: dropout rates, the share of the mini-batch, the frozen first layers, the step size."""
STEP_FACTORS = tuple(2 ** (power / 2) for power in range(-6, 7))  # chosen by us: from an eighth to eight times


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """Settings of NSGA-II (Deb et al., 2002) and of how often each vector's progress is measured.

    Attributes:
      population: Vectors kept from generation to generation, and evaluated together; a multiple of 4.
      generations: How many times a population is evaluated, the first one included.
      max_rate: The highest dropout rate, below 1.
      crossover_eta: How closely children of simulated binary crossover resemble their parents (DEAP's examples: 20).
      mutation_eta: How closely a mutant of polynomial mutation resembles its original (DEAP's examples: 20).
      crossover_probability: Of a pair of parents (DEAP's examples: 0.9). Each rate mutates with probability one over their
        number.
      repeats: Measurements of a vector's progress while it searches, each with other random numbers, which all vectors of a
        generation share and no other generation uses again.
      final_repeats: Fresh measurements of the vectors that may enter the table; those they were selected by are not
        used again.
      seed: Of every random choice of the search.
      knobs: What is searched: dropout rates (`filters`), and beside them or in their place the share of the mini-batch that
        is trained (`examples`), the first layers that are frozen (`depth`), and a factor on the step size (`step`).
      memory_limit: Most bytes that a device may need for a training step; 0: no limit.
      memory_shares: Of the full network's training memory, each above 0 and below 1. If there are any, little memory is a
        third objective, and beside its table the search leaves one for devices of each share.
    """

    population: Annotated[int, Within(4, 10**5)] = 64  # chosen by us, with the generations: about 2,000 short trainings
    generations: Annotated[int, Within(1, 10**5)] = 30
    max_rate: Annotated[float, Within(0, 1, above=True, below=True)] = (
        0.95  # chosen by us: for devices with a fiftieth of what the full network takes
    )
    crossover_eta: Annotated[float, Within(0, 1e6)] = 20.0
    mutation_eta: Annotated[float, Within(0, 1e6)] = 20.0
    crossover_probability: Annotated[float, Within(0, 1)] = 0.9
    repeats: Annotated[int, Within(1, 1000)] = 1
    # At least 2, or there is no standard error.
    final_repeats: Annotated[int, Within(2, 1000)] = 4  # chosen by us: the fewest that give a standard error worth stating
    seed: Annotated[int, SEED] = 0
    knobs: tuple[Knob, ...] = ("filters",)
    memory_limit: Annotated[float, FACTOR] = 0.0
    memory_shares: tuple[Annotated[float, Within(0, 1, above=True, below=True)], ...] = ()

    def __post_init__(self) -> None:
        check_settings(self, message="the search's {name} is {value}, expected {expected}")
        if len(set(self.memory_shares)) < len(self.memory_shares):
            raise InputError(f"the search's memory_shares are {self.memory_shares}; give different ones")
        if self.population % 4:
            raise InputError(f"the search's population is {self.population}, expected a multiple of 4")
        checked_knobs(self.knobs)

    @property
    def beyond_filters(self) -> bool:
        """Whether anything else than dropout rates is searched."""
        return self.knobs != ("filters",)


class SearchSpace:
    """Genes and the configurations that they stand for.

    Genes are the rates of the searched groups, where filters are a knob, and a number from 0 to 1 for each other knob: 0
    stands for all examples and no frozen layer, 1/2 for the optimiser's own step size.

    Attributes:
      network: The traced network.
      groups: Indices of the searched filter groups; others are kept whole.
      max_rate: The highest rate.
      knobs: What is searched.
      low: Least value of each gene.
      high: Highest value of each gene.
      seconds: Measured so far, where a mini-batch costs seconds; None where it costs MACs.

    Raises:
      InputError: No group to search, or an index given twice or out of range; or no knob, or one that does not exist.
    """

    def __init__(
        self,
        network: "TracedNetwork",
        max_rate: float,
        searched_groups: Sequence[int] | None = None,
        *,
        knobs: Sequence[str] = ("filters",),
        batch_size: int = 1,
        memory: Callable[[Configuration], float] | None = None,
        memory_limit: float = 0.0,
        seconds: StepSeconds | None = None,
    ) -> None:
        """Searches the groups of those indices; None: the convolutional ones, as the paper does, or dense ones alone.

        Args:
          network: The traced network.
          max_rate: The highest rate.
          searched_groups: Indices of groups.
          knobs: Of `KNOBS`.
          batch_size: Of the mini-batches that progress is measured with: parts of these are its divisors.
          memory: Bytes that a device needs to train a configuration; None: not known.
          memory_limit: Most bytes that it may need; 0: no limit.
          seconds: What a mini-batch costs; None: its MACs.

        Raises:
          InputError: A limit, and memory is not known.
        """
        self.network, self.max_rate, self.knobs = network, max_rate, checked_knobs(knobs)
        self.groups = _checked_groups(network, searched_groups) if "filters" in self.knobs else ()
        self._filters = np.array([network.filter_groups[index].filters for index in self.groups])
        self._full = np.array(network.full_widths, dtype=np.int32)
        self._macs: dict[tuple[Widths, int], int] = {}
        self._full_macs = network.training_macs()
        if memory_limit and memory is None:
            raise InputError(f"a limit of {memory_limit:,.0f} bytes, and what a configuration needs is not known")
        self._memory, self._limit = memory, memory_limit or math.inf
        self.seconds = None if seconds is None else SecondsOfVectors(seconds, network.full_widths)
        steps_of: dict[str, Callable[[], Sequence[float]]] = {
            "examples": lambda: [size / batch_size for size in range(batch_size, 0, -1) if batch_size % size == 0],
            "depth": lambda: [entry.depth for entry in reversed(DropoutTable.frozen(network).entries)],
            "step": lambda: STEP_FACTORS,
        }
        self._steps = {name: steps() for name, steps in steps_of.items() if name in self.knobs}
        others = len(self._steps)
        self.low = [0.0] * (len(self.groups) + others)
        self.high = [max_rate] * len(self.groups) + [1.0] * others

    def widths(self, rates: Sequence[float] | np.ndarray) -> Widths:
        """The widths of all groups at the rates of the searched ones: [searched] -> [groups]."""
        widths = self._full.copy()
        widths[list(self.groups)] = kept_filters(self._filters, rates)
        return tuple(widths.tolist())

    def configuration(self, genes: Sequence[float] | np.ndarray) -> Configuration:
        """The configuration of a vector of genes.

        Args:
          genes: Rates of the searched groups, then the other knobs, [genes]. Rates alone stand for all examples, all layers
            and the optimiser's own step.
        """
        rates, others = genes[: len(self.groups)], genes[len(self.groups) :]
        chosen = {name: _chosen(steps, gene) for (name, steps), gene in zip(self._steps.items(), others, strict=False)}
        return Configuration(
            self.widths(rates), chosen.get("examples", 1.0), int(chosen.get("depth", 0)), chosen.get("step", 1.0)
        )

    def genes(self, rates: Sequence[float] | None = None, **others: float) -> list[float]:
        """Genes of rates (None: 0) and of other knobs, by name; of those not named, what changes nothing."""
        usual = {"examples": 0.0, "depth": 0.0, "step": 0.5}
        rates = [0.0] * len(self.groups) if rates is None else rates
        return [*rates, *(others.get(name, usual[name]) for name in self._steps)]

    @property
    def leanest(self) -> Configuration:
        """Fewest filters and examples, most layers frozen: what a device of the least memory can train, if anything."""
        return self.configuration(self.genes([self.max_rate] * len(self.groups), examples=1.0, depth=1.0))

    def memory(self, vector: Configuration) -> float:
        """Bytes that a device needs to train it; 0 where that is not known."""
        return 0.0 if self._memory is None else self._memory(vector)

    def fits(self, vector: Configuration, limit: float | None = None) -> bool:
        """Whether a device of so many bytes can train it; None: of the search's limit. Without one, none are counted."""
        most = self._limit if limit is None else limit
        return math.isinf(most) or self.memory(vector) <= most

    def learn_costs(self, vectors: Sequence[Configuration]) -> None:
        """Measures what vectors cost, where that is seconds and not yet known."""
        if self.seconds is not None:
            self.seconds.learn(vectors)

    def entry(self, vector: Configuration, progress: float, progress_stderr: float | None) -> TableEntry:
        """A vector as an entry of a table, whose cost has been learnt."""
        seconds = {} if self.seconds is None else {self.seconds.device: self.seconds.of(vector)}
        measured = {"progress": progress, "progress_stderr": progress_stderr, "seconds": seconds}
        return TableEntry.of(vector, self.macs(vector), **measured)

    def places(self, vectors: Sequence[Configuration]) -> npt.NDArray[np.float64]:
        """Where vectors lie: logarithms of the shares of filters that the searched groups keep, [vectors, searched].

        With other knobs, columns for these as well: logarithms of the share of examples and of the step factor, and the
        depth, so scaled (chosen by us) that freezing all layers is as far away as keeping a seventh of all filters.
        """
        rows = Configurations.of(vectors)
        columns = [np.log(rows.widths[:, list(self.groups)] / self._filters)] if self.groups else []
        each = {
            "examples": np.log(rows.batch_shares),
            "depth": -2.0 * rows.depths / len(self.network.order.layers),
            "step": np.log(rows.step_factors),
        }
        columns += [each[name][:, np.newaxis] for name in self._steps]
        return np.concatenate(columns, axis=1)

    def macs(self, vector: Configuration) -> int:
        """Multiply-accumulates of training with one example, counted once for any widths and depth."""
        key = vector.widths, vector.depth
        if key not in self._macs:
            self._macs[key] = vector.macs(self.network)
        return self._macs[key]

    def cost(self, vector: Configuration) -> float:
        """MACs or seconds of training with a mini-batch as a fraction of the full network's; seconds have to be learnt."""
        if self.seconds is not None:
            return self.seconds.cost(vector)
        return self.macs(vector) * vector.batch_share / self._full_macs

    def uniform_seeds(self, count: int) -> list[list[float]]:
        """Vectors of one rate for all searched groups, evenly spread from 0 to the highest rate: [count, searched]."""
        return [[rate] * len(self.groups) for rate in np.linspace(0, self.max_rate, count).tolist()]


def checked_knobs(knobs: Sequence[str]) -> tuple[Knob, ...]:
    """Knobs in the order of `KNOBS`.

    Raises:
      InputError: None, or one that does not exist.
    """
    for knob in knobs:
        if knob not in KNOBS:
            raise InputError(f"unknown knob {knob!r} of a search; choose from: {', '.join(KNOBS)}")
    chosen = tuple(knob for knob in KNOBS if knob in knobs)
    if not set(chosen) - {"step"}:
        raise InputError("a search needs a knob that changes what a mini-batch costs; choose from: filters, examples, depth")
    return chosen


def _checked_groups(network: "TracedNetwork", searched_groups: Sequence[int] | None) -> tuple[int, ...]:
    available = network.filter_groups
    if searched_groups is None:
        network.refuse_if_nothing_is_dropped("a search")
        searched_groups = np.flatnonzero(dropped_groups(available)).tolist()
    groups = tuple(int(index) for index in searched_groups)
    if not groups:
        raise InputError(
            "no filter group to search; give searched_groups at least one, or None for those that are usually dropped"
        )
    if len(set(groups)) != len(groups) or not all(0 <= index < len(available) for index in groups):
        raise InputError(f"searched_groups {groups}: expected different indices from 0 to {len(available) - 1}")
    return groups


def _chosen(steps: Sequence[float], gene: float) -> float:
    return steps[min(int(gene * len(steps)), len(steps) - 1)]
