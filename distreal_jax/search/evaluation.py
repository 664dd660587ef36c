"""The evaluated vectors of a search and its results: fronts, hypervolumes, the final table.

The evaluation is a function of the configurations and of the index of a repeat, which names the random numbers of one short
training (batches and filters). Vectors that are measured together share these numbers, so that fewer differences are chance.
Each generation uses new numbers, so that a search does not overfit one draw. Vectors are selected by an estimate from all
measurements together (`pooling`).
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.search.front import WORST, best_points, front_to_full, hypervolume, pareto_front, thinned
from distreal_jax.search.pooling import Pooled, pooled
from distreal_jax.search.space import SearchSettings, SearchSpace
from distreal_jax.table import Configuration, Configurations, DropoutTable, TableEntry
from distreal_jax.table.order import MACS, relative_costs

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork

# (configurations of the vectors, index of the repeat) -> progress [vectors]
Evaluate = Callable[[Configurations, int], np.ndarray]


class EvaluatedVectors:
    """Measures vectors, each in one generation, and remembers them in the order in which they came.

    Attributes:
      measured: Configuration -> progress at each repeat.
      counts: Vectors measured by the end of each generation.
    """

    def __init__(self, space: SearchSpace, evaluate: Evaluate, settings: SearchSettings) -> None:
        """Starts with no vector evaluated; `evaluate` is called with whatever number of vectors is to be measured."""
        self._space, self._evaluate, self._repeats = space, evaluate, settings.repeats
        self.measured: dict[Configuration, tuple[float, ...]] = {}
        self.counts: list[int] = []
        self._estimated: dict[int, tuple[TableEntry, ...]] = {}

    def evaluate(self, vectors: Iterable[Configuration]) -> None:
        """A generation: measures those vectors that have not been measured yet, `repeats` times each."""
        new = [vector for vector in dict.fromkeys(vectors) if vector not in self.measured]
        if new:
            self._space.learn_costs(new)
            first = len(self.counts) * self._repeats
            measured = self.measure(new, range(first, first + self._repeats))
            self.measured.update({vector: tuple(row) for vector, row in zip(new, measured.tolist(), strict=True)})
        self.counts.append(len(self.measured))

    def measure(self, vectors: Sequence[Configuration], repeats: Iterable[int]) -> np.ndarray:
        """Progress of vectors at given repeats, not remembered: [vectors, repeats] float64.

        Raises:
          InputError: The evaluation returns another shape than [vectors], or something that is not finite.
        """
        columns = []
        for repeat in repeats:
            progress = np.asarray(self._evaluate(Configurations.of(vectors), repeat), dtype=np.float64)
            if progress.shape != (len(vectors),):
                raise InputError(f"the evaluation returned shape {progress.shape}, expected ({len(vectors)},)")
            for vector, value in zip(vectors, progress, strict=True):
                if not np.isfinite(value):
                    raise InputError(f"the progress of {vector} is {value}; lower the short training's learning rate")
            columns.append(progress)
        return np.array(columns).T

    def progress(self) -> dict[Configuration, float]:
        """Of each vector, as estimated from the measurements of all."""
        return {entry.configuration: _known(entry.progress) for entry in self._estimated_after(len(self.measured))}

    def entries(self) -> tuple[TableEntry, ...]:
        """All vectors evaluated, in that order, each by its own measurements alone."""
        return tuple(measured_entry(self._space, vector, measured) for vector, measured in self.measured.items())

    def generation(self, index: int) -> "Generation":
        """What was known by the end of a generation."""
        entries = self._estimated_after(self.counts[index])
        costs, progress = _points(self._space, entries)
        front = tuple(entries[i] for i in pareto_front(costs, progress))
        return Generation(index, len(entries), hypervolume(costs, progress), front)

    @property
    def unused_repeat(self) -> int:
        """The first repeat whose random numbers no generation used."""
        return len(self.counts) * self._repeats

    def _estimated_after(self, count: int) -> tuple[TableEntry, ...]:
        """The first `count` vectors, as estimated from the measurements of these."""
        if count not in self._estimated:
            vectors = list(self.measured)[:count]
            draws = np.searchsorted(self.counts, np.arange(count), side="right") * self._repeats
            measured = np.array([self.measured[vector] for vector in vectors])
            known = _pooled(self._space.places(vectors), draws[:, None] + np.arange(self._repeats), measured)
            self._estimated[count] = estimated_entries(self._space, vectors, known)
        return self._estimated[count]


@dataclasses.dataclass(frozen=True)
class Generation:
    """The state of a search after a generation.

    Attributes:
      index: Of the generation, from 0.
      evaluated: Different vectors evaluated so far.
      hypervolume: Dominated by all of them, in fractions of the full network's cost times progress as estimated then.
      front: Their Pareto front as estimated then, in increasing order of cost.
    """

    index: int
    evaluated: int
    hypervolume: float
    front: tuple[TableEntry, ...]


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
      front: The Pareto front in increasing order of cost, estimated from fresh measurements of all candidates; it ends in
        the full network unless a cheaper vector is clearly better (`front_to_full`).
      memory_fronts: The same among the candidates that devices of each of `SearchSettings.memory_shares` can hold.
      candidates: All vectors that were measured afresh, in no particular order; the front is a part of them.
      evaluated: Every evaluated vector in the order of evaluation, with the search's own measurements of it.
      history: One report per generation.
      network: Signature of the network.
      full_macs: MACs of training the full network with one example.
      settings: The settings of the search.
      full_widths: Of the network, [groups].
      unit: Of costs, as for `DropoutTable.costs`.
      full_seconds: Of the full network's step, by device.
    """

    front: tuple[TableEntry, ...]
    memory_fronts: tuple[tuple[TableEntry, ...], ...]
    candidates: tuple[TableEntry, ...]
    evaluated: tuple[TableEntry, ...]
    history: tuple[Generation, ...]
    network: str
    full_macs: int
    settings: SearchSettings
    full_widths: tuple[int, ...]
    unit: str = MACS
    full_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, space: SearchSpace, vectors: EvaluatedVectors, fresh: "Fresh", settings: SearchSettings) -> Self:
        """The result of what was evaluated and then measured afresh."""
        seconds = space.seconds
        return cls(
            fresh.front,
            fresh.memory_fronts,
            fresh.candidates,
            vectors.entries(),
            tuple(vectors.generation(index) for index in range(len(vectors.counts))),
            space.network.signature(),
            space.network.training_macs(),
            settings,
            space.network.full_widths,
            MACS if seconds is None else f"seconds:{seconds.device}",
            {} if seconds is None else {seconds.device: seconds.full},
        )

    def costs(self, entries: Sequence[TableEntry]) -> npt.NDArray[np.float64]:
        """Costs of entries of this search in its unit, as fractions of the full network's, [entries]."""
        return relative_costs(entries, self.unit, self.full_widths, self.full_macs, self.full_seconds)

    def hypervolume(self, of: Sequence[TableEntry] | None = None) -> float:
        """The hypervolume dominated by entries that were measured afresh; by the front if `of` is None."""
        entries = self.front if of is None else of
        return hypervolume(self.costs(entries), [_known(entry.progress) for entry in entries])

    def to_table(
        self,
        network: "TracedNetwork",
        provenance: Mapping[str, Any],
        most_entries: int | None = None,
        *,
        memory_share: float | None = None,
    ) -> DropoutTable:
        """The front as a dropout table, with the settings and outcome of the search added to the provenance.

        Args:
          network: The network that was searched.
          provenance: JSON values that say where the table comes from.
          most_entries: At least 2; a longer front is `thinned`, as each entry is a program to compile.
          memory_share: One of the settings' `memory_shares`; None: whatever memory an entry needs.

        Raises:
          InputError: `most_entries` below 2, or another network than the one searched.
        """
        if most_entries is not None:
            check_most_entries(most_entries)
        if network.signature() != self.network:
            raise InputError("the table is for another network than the one that was searched; give that one")
        shares = self.settings.memory_shares
        front = self.front if memory_share is None else self.memory_fronts[shares.index(memory_share)]
        progress = np.array([_known(entry.progress) for entry in front])
        # By the logarithm: what a device loses to the gap below its resources, it loses relative to them.
        kept = thinned(np.log(self.costs(front)), progress, most_entries or len(front))
        outcome = {
            "settings": dataclasses.asdict(self.settings),
            "evaluated": len(self.evaluated),
            "hypervolume": self.hypervolume(front),
            "hypervolume_reference": list(WORST),
            **({} if memory_share is None else {"memory_share": memory_share}),
        }
        groups = network.filter_groups
        return DropoutTable(
            self.network,
            tuple(group.name for group in groups),
            tuple(group.filters for group in groups),
            tuple(front[i] for i in kept),
            {**provenance, "search": outcome},
            self.full_macs,
            self.full_seconds,
            unit=self.unit,
        )


def check_most_entries(most_entries: int) -> None:
    """Refuses a table of so few entries, also before the search for it.

    Raises:
      InputError: `most_entries` below 2.
    """
    if most_entries < 2:
        raise InputError(f"a table of at most {most_entries} entries is no choice for a device; allow at least 2")


@dataclasses.dataclass(frozen=True)
class Fresh:
    """What fresh measurements say.

    Attributes:
      front: The Pareto front in increasing order of cost, with standard errors of the estimates.
      memory_fronts: The same among the vectors that devices of each share of memory can hold.
      candidates: All that was measured.
    """

    front: tuple[TableEntry, ...]
    memory_fronts: tuple[tuple[TableEntry, ...], ...]
    candidates: tuple[TableEntry, ...]


def measured_afresh(
    space: SearchSpace, vectors: EvaluatedVectors, seeds: Sequence[Configuration], settings: SearchSettings
) -> Fresh:
    """The Pareto front by fresh measurements, which takes away the winner's curse of a search by noisy ones.

    Measured are as many of the best evaluated vectors (`best_points`) as the population has members, as many of those that
    devices of each share of memory can hold, and the seeds; what these measurements together say of each decides. Vectors
    that cost more than the full network are left out.

    Args:
      space: What was searched.
      vectors: All that was evaluated.
      seeds: More vectors that may enter the table; the full network is added.
      settings: Repeats up to `unused_repeat` were used for selection, so the `final_repeats` from there are used here.
    """
    estimated = vectors.progress()
    full = Configuration(space.network.full_widths)
    limits = [math.inf, *(share * space.memory(full) for share in settings.memory_shares)]
    best: list[Configuration] = []
    for limit in limits:
        held = [vector for vector in estimated if space.fits(vector, limit)]
        costs, progress = [space.cost(vector) for vector in held], [estimated[vector] for vector in held]
        best += [held[i] for i in best_points(np.log(costs), progress, settings.population)]
    candidates = [vector for vector in dict.fromkeys([*best, *seeds, full]) if space.fits(vector)]
    space.learn_costs(candidates)
    candidates = [vector for vector in candidates if space.cost(vector) <= 1]
    measured = vectors.measure(candidates, range(vectors.unused_repeat, vectors.unused_repeat + settings.final_repeats))
    draws = np.broadcast_to(np.arange(settings.final_repeats), measured.shape)
    known = _pooled(space.places(candidates), draws, measured)
    entries = estimated_entries(space, candidates, known)
    fronts = []
    for limit in limits:
        held_by = np.array([space.fits(vector, limit) for vector in candidates])
        fronts.append(_front_of(space, entries, known, np.flatnonzero(held_by)))
    return Fresh(fronts[0], tuple(fronts[1:]), entries)


def _front_of(
    space: SearchSpace, entries: Sequence[TableEntry], known: Pooled, members: npt.NDArray[np.intp]
) -> tuple[TableEntry, ...]:
    """The front of some of the entries; it ends in the full network or, without it, in the dearest of them."""
    full = Configuration(space.network.full_widths)
    chosen = [entries[i] for i in members]
    costs, _ = _points(space, chosen)
    configurations = [entry.configuration for entry in chosen]
    last = configurations.index(full) if full in configurations else int(np.argmax(costs))
    front = front_to_full(costs, known.mean[members], known.covariance[np.ix_(members, members)], last)
    return tuple(chosen[i] for i in front)


def estimated_entries(space: SearchSpace, vectors: Sequence[Configuration], known: Pooled) -> tuple[TableEntry, ...]:
    """Vectors as entries of a table, with estimated progress and standard error.

    Args:
      space: Counts the MACs.
      vectors: [vectors].
      known: The estimate from the measurements of all vectors.
    """
    errors = np.sqrt(np.maximum(np.diag(known.covariance), 0)).tolist()
    rows = zip(vectors, known.mean.tolist(), errors, strict=True)
    return tuple(space.entry(vector, mean, error) for vector, mean, error in rows)


def measured_entry(space: SearchSpace, vector: Configuration, measured: Sequence[float]) -> TableEntry:
    """A vector as an entry of a table: its MACs, and its progress at several repeats as mean and standard error.

    Args:
      space: What was searched.
      vector: Its configuration.
      measured: Its progress, [repeats]; with one repeat there is no standard error.
    """
    stderr = None if len(measured) < 2 else float(np.std(measured, ddof=1) / np.sqrt(len(measured)))
    return space.entry(vector, float(np.mean(measured)), stderr)


def _pooled(places: npt.NDArray[np.float64], draws: npt.NDArray[np.intp], measured: npt.NDArray[np.float64]) -> Pooled:
    """Estimates of the measured vectors: places [vectors, searched], draws and measurements [vectors, repeats]."""
    each = np.repeat(places, measured.shape[1], axis=0)
    return pooled(each, draws.ravel(), measured.ravel(), places)


def _points(space: SearchSpace, entries: Sequence[TableEntry]) -> tuple[list[float], list[float]]:
    """Costs, as fractions of the full network's, and progress."""
    return [space.cost(entry.configuration) for entry in entries], [_known(entry.progress) for entry in entries]


def _known(value: float | None) -> float:
    if value is None:
        raise InputError("an entry of the front was not measured; search again")
    return value
