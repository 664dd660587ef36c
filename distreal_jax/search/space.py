"""What a search explores: a dropout rate for each searched filter group, realised as integer numbers of filters."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.settings import SEED, Within, check_settings
from distreal_jax.table import kept_filters
from distreal_jax.tracing.filter_group import dropped_groups

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork

Widths = tuple[int, ...]  # filters kept in each group of the network


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

    def __post_init__(self) -> None:
        check_settings(self, message="the search's {name} is {value}, expected {expected}")
        if self.population % 4:
            raise InputError(f"the search's population is {self.population}, expected a multiple of 4")


class SearchSpace:
    """Rates of the searched groups and the widths of the whole network that they stand for; other groups are kept whole.

    Attributes:
      network: The traced network.
      groups: Indices of the searched filter groups.
      max_rate: The highest rate.

    Raises:
      InputError: No group to search, or an index given twice or out of range.
    """

    def __init__(self, network: "TracedNetwork", max_rate: float, searched_groups: Sequence[int] | None = None) -> None:
        """Searches the groups of those indices; None: the convolutional ones, as the paper does, or dense ones alone."""
        available = network.filter_groups
        if searched_groups is None:
            network.refuse_if_nothing_is_dropped("a search")
            searched_groups = np.flatnonzero(dropped_groups(available)).tolist()
        self.network, self.max_rate, self.groups = network, max_rate, tuple(int(index) for index in searched_groups)
        if not self.groups:
            raise InputError(
                "no filter group to search; give searched_groups at least one, or None for those that are usually dropped"
            )
        if len(set(self.groups)) != len(self.groups) or not all(0 <= index < len(available) for index in self.groups):
            raise InputError(f"searched_groups {self.groups}: expected different indices from 0 to {len(available) - 1}")
        self._filters = np.array([available[index].filters for index in self.groups])
        self._full = np.array(network.full_widths, dtype=np.int32)
        self._macs: dict[Widths, int] = {}
        self._full_macs = network.training_macs()

    def widths(self, rates: Sequence[float] | np.ndarray) -> Widths:
        """The widths of all groups at the rates of the searched ones: [searched] -> [groups]."""
        widths = self._full.copy()
        widths[list(self.groups)] = kept_filters(self._filters, rates)
        return tuple(widths.tolist())

    def places(self, vectors: Sequence[Widths]) -> npt.NDArray[np.float64]:
        """Where vectors lie: logarithms of the shares of filters that the searched groups keep, [vectors, searched]."""
        places: npt.NDArray[np.float64] = np.log(np.array(vectors)[:, list(self.groups)] / self._filters)
        return places

    def macs(self, widths: Widths) -> int:
        """Multiply-accumulates of training with one example, counted once for any widths."""
        if widths not in self._macs:
            self._macs[widths] = self.network.training_macs(widths)
        return self._macs[widths]

    def cost(self, widths: Widths) -> float:
        """MACs as a fraction of the full network's."""
        return self.macs(widths) / self._full_macs

    def uniform_seeds(self, count: int) -> list[list[float]]:
        """Vectors of one rate for all searched groups, evenly spread from 0 to the highest rate: [count, searched]."""
        return [[rate] * len(self.groups) for rate in np.linspace(0, self.max_rate, count).tolist()]
