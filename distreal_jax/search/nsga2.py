"""NSGA-II (Deb et al., 2002) over configurations of a mini-batch, with DEAP: the design space exploration of DISTREAL.

The objectives are few MACs of training and much progress of a short training (Rapp et al., AAAI 2022). The genes are dropout
rates and, if asked, other knobs. The configurations that they stand for are evaluated and stored, none of them twice.
"""

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from deap import base, tools

from distreal_jax.errors import InputError
from distreal_jax.files import made_folder
from distreal_jax.search.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from distreal_jax.search.evaluation import Evaluate, EvaluatedVectors, Generation, SearchResult, measured_afresh
from distreal_jax.search.first_vectors import first_vectors
from distreal_jax.search.seconds import StepSeconds
from distreal_jax.search.space import SearchSettings, SearchSpace
from distreal_jax.table import Configuration

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork

_VARIATION = 0  # role in the random key, beside those of the other parts of a search
_MATING_ROUNDS = 8  # chosen by us: how often a population mates for children not yet evaluated; small spaces run out of them
_SCALED = 0.5  # chosen by us: of all children, those whose rates are scaled
ALGORITHM = 4  # counts changes after which the same seed finds something else


class _Fitness(base.Fitness):  # type: ignore[misc]  # DEAP is untyped
    """(logarithm of the cost, progress), and the logarithm of the memory where that is an objective: low, high and low."""

    weights: tuple[float, ...] = (-1.0, 1.0, -1.0)

    def __init__(self, *values: float) -> None:
        self.weights = self.weights[: len(values)]
        super().__init__(values)


class _Individual(list[float]):
    """The genes of a vector, with what DEAP's selection reads."""

    fitness: _Fitness

    def __init__(self, genes: Sequence[float], configuration: Configuration) -> None:
        super().__init__(genes)
        self.configuration = configuration


def search(
    network: "TracedNetwork",
    evaluate: Evaluate,
    settings: SearchSettings,
    *,
    checkpoint: Path | None = None,
    on_generation: Callable[[Generation], None] | None = None,
    searched_groups: Sequence[int] | None = None,
    measures: str = "",
    also: Sequence[Configuration] = (),
    batch_size: int = 1,
    memory: Callable[[Configuration], float] | None = None,
    seconds: StepSeconds | None = None,
) -> SearchResult:
    """Searches Pareto-optimal configurations of a mini-batch: dropout vectors and, if asked, what else a device can choose.

    A quarter of the first generation has one rate for all layers, from the full network to the highest rate. Half has one
    rate for the filters inside blocks only, if the network has blocks (`inner_weights`). The rest is random (shares chosen
    by us, docs/decisions.md). Children come from simulated binary crossover and polynomial mutation. In between, half of
    them have all their rates scaled by a common factor, which carries a shape that is good at one cost to other costs.
    Candidates for the table are measured afresh at the end (`measured_afresh`): as many of the best evaluated vectors as the
    population has, the vectors of the first generation that were not drawn, those of `also`, and the full network.
    With other knobs (`SearchSettings.knobs`) the first generation has as many vectors of each knob alone and of each pair.
    With `SearchSettings.memory_shares`, little memory is a third objective of the selection.

    Args:
      network: The traced network; it counts the MACs.
      evaluate: (configurations, repeat) -> progress [vectors], for any number of vectors. It must be a function of its
        arguments alone; `repeat` names the random numbers, and each vector is to get the same ones.
      settings: See `SearchSettings`.
      checkpoint: A file that is written after each generation. If it exists, the search resumes from it, and the result is
        bitwise the same.
      on_generation: Called after each generation, once its checkpoint is written.
      searched_groups: Indices of the filter groups to drop; None: the convolutional ones. Other groups are kept whole.
      measures: A description of what `evaluate` measures (data set, training settings). A checkpoint with another
        description is refused.
      also: More vectors that may enter the table without having been searched.
      batch_size: Of the mini-batches that progress is measured with. Parts of a mini-batch are divisors of it.
      memory: Bytes that a device needs to train a configuration, for a limit or shares of memory; None: not known.
      seconds: Measures what a mini-batch costs, in place of its MACs. These are not repeatable, and neither is the search.

    Returns:
      The front, everything evaluated, and the history of hypervolumes.

    Raises:
      InputError: A checkpoint of another search or one that can't be written, progress that is not finite, or a share of
        memory in which nothing can be trained.
    """
    space = SearchSpace(
        network,
        settings.max_rate,
        searched_groups,
        knobs=settings.knobs,
        batch_size=batch_size,
        memory=memory,
        memory_limit=settings.memory_limit,
        seconds=seconds,
    )
    _check_shares(space, settings)
    full = Configuration(network.full_widths)
    run = _Run(space, EvaluatedVectors(space, evaluate, settings), settings)
    identity = {
        "settings": dataclasses.asdict(settings),
        "network": network.signature(),
        "searched_groups": list(space.groups),
        "measures": measures,
        # What genes stand for, and what is selected by, where that is searched.
        "size_of_mini_batches": batch_size if "examples" in space.knobs else None,
        "training_memory": space.memory(full) if settings.memory_limit or settings.memory_shares else None,
        "unit": "macs" if seconds is None else f"seconds:{seconds.device}",
        "algorithm": ALGORITHM,
    }
    if checkpoint is not None:
        run.restore(checkpoint, identity)
    for index in range(run.generations, settings.generations):
        run.breed()
        if checkpoint is not None:
            save_checkpoint(checkpoint, identity, run.state)
        if on_generation is not None:
            on_generation(run.vectors.generation(index))
    return SearchResult.of(space, run.vectors, measured_afresh(space, run.vectors, [*run.given, *also], settings), settings)


def _check_shares(space: SearchSpace, settings: SearchSettings) -> None:
    """Refuses shares of memory in which not even the leanest vector can be trained."""
    if not settings.memory_shares:
        return
    least, full = space.memory(space.leanest), space.memory(Configuration(space.network.full_widths))
    if not full:
        raise InputError("shares of memory are given, and what a configuration needs is not known; leave them out")
    too_small = [share for share in settings.memory_shares if share * full < least]
    if too_small:
        raise InputError(
            f"in {too_small[0]:g} of the full network's memory ({full:,.0f} bytes) nothing can be trained: the leanest "
            f"vector needs {least / full:.3f}; give a larger share, or search more knobs"
        )


@dataclasses.dataclass
class _Run:
    """A search that goes on: its population, and all vectors that were evaluated.

    Attributes:
      space: What is searched.
      vectors: Evaluated so far.
      settings: Of the search.
      population: In the order of selection; empty before the first generation.
    """

    space: SearchSpace
    vectors: EvaluatedVectors
    settings: SearchSettings
    population: list[_Individual] = dataclasses.field(default_factory=list)

    @property
    def generations(self) -> int:
        """How many were evaluated."""
        return len(self.vectors.counts)

    @property
    def given(self) -> list[Configuration]:
        """Vectors that may enter the table though no search found them: those of `first_vectors`, the leanest for memory."""
        first = [self.space.configuration(genes) for genes in first_vectors(self.space, self.settings)]
        return [*first, self.space.leanest] if self.settings.memory_shares else first

    def breed(self) -> None:
        """Evaluates the next generation and selects the population among it and the present one."""
        children = self._children() if self.generations else self._first_generation()
        self.vectors.evaluate(child.configuration for child in children)
        self.population = self._selected([*self.population, *children], self.settings.population)

    @property
    def state(self) -> Checkpoint:
        """What a checkpoint holds of it."""
        genes, seconds = tuple(tuple(individual) for individual in self.population), self.space.seconds
        costs = ({}, 0.0) if seconds is None else (seconds.known, seconds.full)
        return Checkpoint(genes, self.vectors.measured, tuple(self.vectors.counts), *costs)

    def restore(self, path: Path, identity: Mapping[str, object]) -> None:
        """Goes on from a checkpoint, if there is one.

        Raises:
          InputError: It is of another search, or nothing can be written there.
        """
        made_folder(path.parent)
        kept = load_checkpoint(path, identity)
        if kept is None:
            return
        self.vectors.measured.update(kept.measured)
        self.vectors.counts.extend(kept.counts)
        if self.space.seconds is not None:
            self.space.seconds.known.update(kept.seconds)
            self.space.seconds.full = kept.full_seconds
        self.population = [_Individual(genes, self.space.configuration(genes)) for genes in kept.population]

    def _first_generation(self) -> list[_Individual]:
        """The vectors of `first_vectors` and, up to a population, vectors that are drawn."""
        space, settings = self.space, self.settings
        given = {space.configuration(genes): genes for genes in reversed(first_vectors(space, settings))}
        found = {configuration: genes for configuration, genes in given.items() if space.fits(configuration)}
        with _random_numbers(settings.seed, 0):
            for _ in range(_MATING_ROUNDS * settings.population):
                if len(found) >= settings.population:
                    break
                genes = [random.uniform(low, high) for low, high in zip(space.low, space.high, strict=True)]
                if space.fits(configuration := space.configuration(genes)):
                    found.setdefault(configuration, genes)
        if not found:
            raise InputError(
                f"none of {_MATING_ROUNDS * settings.population} vectors can be trained in {settings.memory_limit:,.0f} "
                "bytes of memory; allow more"
            )
        return [_Individual(genes, configuration) for configuration, genes in found.items()]

    def _selected(self, pool: Sequence[_Individual], count: int) -> list[_Individual]:
        """The `count` best of a pool, or all of a smaller one, with their crowding distances."""
        progress = self.vectors.progress()
        for individual in pool:
            # The logarithm orders costs as they are, and spreads a front evenly over octaves of a device's resources.
            vector = individual.configuration
            values = [math.log(self.space.cost(vector)), progress[vector]]
            if self.settings.memory_shares:
                values.append(math.log(self.space.memory(vector)))
            individual.fitness = _Fitness(*values)
        selected: list[_Individual] = tools.selNSGA2(list(pool), min(count, len(pool)))
        return selected

    def _children(self) -> list[_Individual]:
        """As many as the population has members, fewer in a space that runs out; none was evaluated before."""
        # crowding distances anew from the members alone, so that a checkpoint needs to hold nothing but their genes
        members = self._selected(self.population, len(self.population))
        children: dict[Configuration, _Individual] = {}
        with _random_numbers(self.settings.seed, self.generations):
            for _ in range(_MATING_ROUNDS):
                parents = tools.selTournamentDCD(members, len(members) - len(members) % 4)
                for genes in self._offspring(parents):
                    new = self.space.configuration(genes)
                    known = new in self.vectors.measured or len(children) >= self.settings.population
                    if not known and self.space.fits(new):
                        children.setdefault(new, _Individual(genes, new))
        return list(children.values())

    def _offspring(self, parents: Sequence[_Individual]) -> Iterator[list[float]]:
        """Genes of two children of each pair of parents: crossed, half of them scaled, then mutated."""
        settings, bounds = self.settings, {"low": self.space.low, "up": self.space.high}
        rated = len(self.space.groups)
        for first, second in zip(parents[::2], parents[1::2], strict=True):
            pair = [list(first), list(second)]
            if random.random() <= settings.crossover_probability:
                tools.cxSimulatedBinaryBounded(*pair, eta=settings.crossover_eta, **bounds)
            for genes in pair:
                if random.random() < _SCALED:
                    factor = 2 ** random.uniform(-1, 1)  # chosen by us: from half to twice
                    genes[:rated] = [min(settings.max_rate, factor * rate) for rate in genes[:rated]]
                tools.mutPolynomialBounded(genes, eta=settings.mutation_eta, indpb=1 / len(genes), **bounds)
                yield genes


@contextlib.contextmanager
def _random_numbers(seed: int, generation: int) -> Iterator[None]:
    """Gives DEAP, which draws from the global `random`, the numbers of this generation; restores the caller's state."""
    words = np.random.SeedSequence([seed, _VARIATION, generation]).generate_state(8)
    inside = random.Random(sum(int(word) << (32 * place) for place, word in enumerate(words)))
    outside = random.getstate()
    random.setstate(inside.getstate())
    try:
        yield
    finally:
        random.setstate(outside)
