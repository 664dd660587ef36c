"""The evaluated vectors of a search, and what is reported of them: fronts, hypervolumes, the final table.

The evaluation is a function of the widths and of the index of a repeat, which stands for the random numbers of one short
training: initial snapshot, batches and filters. All vectors of a repeat share them, so that their differences are due to
the widths.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distreal_jax.errors import InputError
from distreal_jax.search.front import best_points, front_to_full, hypervolume, pareto_front, thinned
from distreal_jax.search.space import SearchSettings, SearchSpace, Widths
from distreal_jax.table import DropoutTable, TableEntry

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork

# (widths [vectors, groups] int32, index of the repeat) -> progress [vectors]
Evaluate = Callable[[np.ndarray, int], np.ndarray]


class EvaluatedVectors:
    """Measures vectors, each once, and remembers them in the order in which they came."""

    def __init__(self, space: SearchSpace, evaluate: Evaluate, settings: SearchSettings) -> None:
        """Starts with no vector evaluated; `evaluate` is called with whatever number of vectors is to be measured."""
        self._space, self._evaluate, self._repeats = space, evaluate, settings.repeats
        self.measured: dict[Widths, tuple[float, ...]] = {}

    def evaluate(self, vectors: Iterable[Widths]) -> None:
        """Measures those vectors that have not been measured yet, `repeats` times each."""
        new = [widths for widths in dict.fromkeys(vectors) if widths not in self.measured]
        if new:
            measured = self.measure(new, range(self._repeats))
            self.measured.update({widths: tuple(row) for widths, row in zip(new, measured.tolist(), strict=True)})

    def measure(self, vectors: Sequence[Widths], repeats: Iterable[int]) -> np.ndarray:
        """Progress of vectors at given repeats, not remembered: [vectors, repeats] float64.

        Raises:
          InputError: The evaluation returns another shape than [vectors], or something that is not finite.
        """
        columns = []
        for repeat in repeats:
            progress = np.asarray(self._evaluate(np.array(vectors, dtype=np.int32), repeat), dtype=np.float64)
            if progress.shape != (len(vectors),):
                raise InputError(f"the evaluation returned shape {progress.shape}, expected ({len(vectors)},)")
            for widths, value in zip(vectors, progress, strict=True):
                if not np.isfinite(value):
                    raise InputError(f"the progress of widths {widths} is {value}; lower the short training's learning rate")
            columns.append(progress)
        return np.array(columns).T

    def progress(self, widths: Widths) -> float:
        """Mean progress of a vector evaluated before."""
        return float(np.mean(self.measured[widths]))

    def entries(self, count: int | None = None) -> tuple[TableEntry, ...]:
        """The first `count` vectors evaluated (None: all), in that order."""
        chosen = list(self.measured.items())[:count]
        return tuple(measured_entry(self._space, widths, measured) for widths, measured in chosen)

    def generation(self, index: int, count: int, reference: tuple[float, float]) -> "Generation":
        """What the first `count` evaluated vectors amount to."""
        entries = self.entries(count)
        costs = [self._space.cost(entry.widths) for entry in entries]
        progress = [_known(entry.progress) for entry in entries]
        front = tuple(entries[i] for i in pareto_front(costs, progress))
        return Generation(index, len(entries), hypervolume(costs, progress, reference), front)


@dataclasses.dataclass(frozen=True)
class Generation:
    """The state of a search after a generation.

    Attributes:
      index: Of the generation, from 0.
      evaluated: Different vectors evaluated so far.
      hypervolume: Dominated by all of them, in fractions of the full network's cost times progress.
      front: The Pareto front of all of them, as the search measured it, in increasing order of cost.
    """

    index: int
    evaluated: int
    hypervolume: float
    front: tuple[TableEntry, ...]


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
      front: The Pareto front, measured afresh, in increasing order of cost; it ends in the full network unless that is
        clearly beaten (`front_to_full`).
      candidates: All vectors that were measured afresh, in no order; the front is of these.
      evaluated: Every vector evaluated, in that order, as the search measured it.
      history: One report per generation.
      reference: (fraction of the full network's cost, progress): the worst corner for hypervolumes.
      network: Signature of the network.
      full_macs: MACs of the full network.
      settings: Of the search.
    """

    front: tuple[TableEntry, ...]
    candidates: tuple[TableEntry, ...]
    evaluated: tuple[TableEntry, ...]
    history: tuple[Generation, ...]
    reference: tuple[float, float]
    network: str
    full_macs: int
    settings: SearchSettings

    def hypervolume(self, reference: tuple[float, float] | None = None, *, of: Sequence[TableEntry] | None = None) -> float:
        """Dominated by entries that were measured afresh, None: the front; `reference` None: this search's own."""
        entries = self.front if of is None else of
        costs = [entry.macs / self.full_macs for entry in entries]
        return hypervolume(costs, [_known(entry.progress) for entry in entries], reference or self.reference)

    def to_table(
        self, network: "TracedNetwork", provenance: Mapping[str, Any], most_entries: int | None = None
    ) -> DropoutTable:
        """The front as a dropout table, with the settings and outcome of the search added to the provenance.

        Args:
          network: The network that was searched.
          provenance: JSON values; where the table comes from.
          most_entries: At least 2; a longer front is `thinned` (a device compiles its training step for each entry).

        Raises:
          InputError: `most_entries` below 2, or another network than the one searched.
        """
        if most_entries is not None and most_entries < 2:
            raise InputError(f"a table of at most {most_entries} entries is no choice for a device; allow at least 2")
        if network.signature() != self.network:
            raise InputError("the table is for another network than the one that was searched; give that one")
        costs = np.array([entry.macs for entry in self.front], dtype=np.float64)
        progress = np.array([_known(entry.progress) for entry in self.front])
        # By the logarithm: what a device loses to the gap below its resources, it loses relative to them.
        entries = [self.front[i] for i in thinned(np.log(costs), progress, most_entries or costs.size)]
        outcome = {
            "settings": dataclasses.asdict(self.settings),
            "evaluated": len(self.evaluated),
            "hypervolume": self.hypervolume(),
            "hypervolume_reference": list(self.reference),
        }
        return DropoutTable.from_widths(
            network,
            [entry.widths for entry in entries],
            progress=[_known(entry.progress) for entry in entries],
            progress_stderr=[_known(entry.progress_stderr) for entry in entries],
            provenance={**provenance, "search": outcome},
        )


def measured_afresh(
    space: SearchSpace, vectors: EvaluatedVectors, seeds: Sequence[Widths], settings: SearchSettings
) -> tuple[tuple[TableEntry, ...], tuple[TableEntry, ...]]:
    """The Pareto front by fresh measurements, which takes away the winner's curse of a search by noisy ones.

    Measured are as many of the best evaluated vectors (`best_points`) as the population has members, and the seeds.

    Args:
      space: What was searched.
      vectors: All that was evaluated.
      seeds: More vectors that may enter the table; the full network is added.
      settings: Its `repeats` were used for selection, so the `final_repeats` after those are used here.

    Returns:
      The front in increasing order of cost, and all that was measured; with standard errors over the repeats.
    """
    evaluated = list(vectors.measured)
    costs, progress = [space.cost(widths) for widths in evaluated], [vectors.progress(widths) for widths in evaluated]
    best = [evaluated[i] for i in best_points(np.log(costs), progress, settings.population)]
    full = tuple(int(width) for width in space.network.full_widths)
    candidates = list(dict.fromkeys([*best, *seeds, full]))
    measured = vectors.measure(candidates, range(settings.repeats, settings.repeats + settings.final_repeats))
    front = front_to_full([space.cost(widths) for widths in candidates], measured, candidates.index(full))
    entries = tuple(measured_entry(space, *row) for row in zip(candidates, measured.tolist(), strict=True))
    return tuple(entries[i] for i in front), entries


def measured_entry(space: SearchSpace, widths: Widths, measured: Sequence[float]) -> TableEntry:
    """A vector as an entry of a table: its MACs, and its progress at several repeats as mean and standard error.

    Args:
      space: What was searched.
      widths: The vector.
      measured: Its progress, [repeats]; with one repeat there is no standard error.
    """
    stderr = None if len(measured) < 2 else float(np.std(measured, ddof=1) / np.sqrt(len(measured)))
    return TableEntry(widths, space.macs(widths), float(np.mean(measured)), stderr)


def _known(value: float | None) -> float:
    if value is None:
        raise InputError("an entry of the front was not measured; search again")
    return value
