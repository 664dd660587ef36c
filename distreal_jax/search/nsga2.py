"""NSGA-II (Deb et al., 2002) over dropout rates, with DEAP: the design space exploration of DISTREAL.

The objectives are few MACs of a forward pass and much progress of a short training (Rapp et al., AAAI 2022). The genes are
dropout rates. The widths to which they round are evaluated and stored; no widths are evaluated twice.
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
from distreal_jax.search.baselines import inner_weights, weighted_rates
from distreal_jax.search.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from distreal_jax.search.evaluation import Evaluate, EvaluatedVectors, Generation, SearchResult, measured_afresh
from distreal_jax.search.space import SearchSettings, SearchSpace, Widths

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork

_VARIATION = 0  # role in the random key, beside those of the other parts of a search
_MATING_ROUNDS = 8  # chosen by us: how often a population mates for children not yet evaluated; small spaces run out of them
_SCALED = 0.5  # chosen by us: of all children, those whose rates are scaled
ALGORITHM = 4  # counts changes after which the same seed finds something else


class _Fitness(base.Fitness):  # type: ignore[misc]  # DEAP is untyped
    """(logarithm of the cost, progress): the first is to be low, the second high."""

    weights = (-1.0, 1.0)


class _Individual(list[float]):
    """The rates of the searched groups, with what DEAP's selection reads."""

    def __init__(self, rates: Sequence[float], widths: Widths) -> None:
        super().__init__(rates)
        self.widths = widths
        self.fitness = _Fitness()


def search(
    network: "TracedNetwork",
    evaluate: Evaluate,
    settings: SearchSettings,
    *,
    checkpoint: Path | None = None,
    on_generation: Callable[[Generation], None] | None = None,
    searched_groups: Sequence[int] | None = None,
    measures: str = "",
    also: Sequence[Widths] = (),
) -> SearchResult:
    """Searches Pareto-optimal dropout vectors.

    A quarter of the first generation has one rate for all layers, from the full network to the highest rate. Half has one
    rate for the filters inside blocks only, if the network has blocks (`inner_weights`). The rest is random (shares chosen
    by us, docs/decisions.md). Children come from simulated binary crossover and polynomial mutation. In between, half of
    them have all their rates scaled by a common factor, which carries a shape that is good at one cost to other costs.
    Candidates for the table are measured afresh at the end (`measured_afresh`): as many of the best evaluated vectors as the
    population has, the vectors of the first generation that were not drawn, those of `also`, and the full network.

    Args:
      network: The traced network; it counts the MACs.
      evaluate: (widths [vectors, groups] int32, repeat) -> progress [vectors], for any number of vectors. It must be a
        function of its arguments alone; `repeat` names the random numbers, and each vector is to get the same ones.
      settings: See `SearchSettings`.
      checkpoint: A file that is written after each generation. If it exists, the search resumes from it, and the result is
        bitwise the same.
      on_generation: Called after each generation, once its checkpoint is written.
      searched_groups: Indices of the filter groups to drop; None: the convolutional ones. Other groups are kept whole.
      measures: A description of what `evaluate` measures (data set, training settings). A checkpoint with another
        description is refused.
      also: More vectors that may enter the table without having been searched.

    Returns:
      The front, everything evaluated, and the history of hypervolumes.

    Raises:
      InputError: A checkpoint of another search or one that can't be written, or progress that is not finite.
    """
    space = SearchSpace(network, settings.max_rate, searched_groups)
    vectors = EvaluatedVectors(space, evaluate, settings)
    identity = {
        "settings": dataclasses.asdict(settings),
        "network": network.signature(),
        "searched_groups": list(space.groups),
        "measures": measures,
        "algorithm": ALGORITHM,
    }
    seeds = [space.widths(rates) for rates in first_vectors(space, settings)]
    population = [] if checkpoint is None else _resumed(checkpoint, identity, space, vectors)
    for index in range(len(vectors.counts), settings.generations):
        children = (
            _first_generation(space, settings) if index == 0 else _children(population, space, vectors, settings, index)
        )
        vectors.evaluate(child.widths for child in children)
        population = _selected([*population, *children], space, vectors, settings.population)
        if checkpoint is not None:
            rates = tuple(tuple(individual) for individual in population)
            save_checkpoint(checkpoint, identity, Checkpoint(rates, vectors.measured, tuple(vectors.counts)))
        if on_generation is not None:
            on_generation(vectors.generation(index))
    front, candidates = measured_afresh(space, vectors, [*seeds, *also], settings)
    return SearchResult(
        front,
        candidates,
        vectors.entries(),
        tuple(vectors.generation(index) for index in range(settings.generations)),
        network.signature(),
        network.training_macs(),
        settings,
    )


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


def _resumed(
    checkpoint: Path, identity: Mapping[str, object], space: SearchSpace, vectors: EvaluatedVectors
) -> list[_Individual]:
    """The population of a search that was stopped, whose measurements `vectors` gets; empty without a file."""
    try:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't write {checkpoint}: {error.strerror}; choose a folder that can be written") from error
    resumed = load_checkpoint(checkpoint, identity)
    if resumed is None:
        return []
    vectors.measured.update(resumed.measured)
    vectors.counts.extend(resumed.counts)
    return [_Individual(rates, space.widths(rates)) for rates in resumed.population]


def first_vectors(space: SearchSpace, settings: SearchSettings) -> list[list[float]]:
    """What a search begins with and does not draw, as rates: one for all groups, and one for those inside blocks alone."""
    of_one_rate = space.uniform_seeds(max(2, settings.population // 4))
    inner = inner_weights(space)
    if not inner.any():
        return of_one_rate
    inside = weighted_rates(space, max(2, settings.population // 2) + 1, inner)[1:]  # the first is the full network
    return [*of_one_rate, *inside.tolist()]


def _first_generation(space: SearchSpace, settings: SearchSettings) -> list[_Individual]:
    found = {space.widths(rates): rates for rates in reversed(first_vectors(space, settings))}
    with _random_numbers(settings.seed, 0):
        for _ in range(_MATING_ROUNDS * settings.population):
            if len(found) >= settings.population:
                break
            rates = [random.uniform(0, settings.max_rate) for _ in space.groups]
            found.setdefault(space.widths(rates), rates)
    return [_Individual(rates, widths) for widths, rates in found.items()]


def _selected(pool: Sequence[_Individual], space: SearchSpace, vectors: EvaluatedVectors, count: int) -> list[_Individual]:
    progress = vectors.progress()
    for individual in pool:
        # The logarithm orders costs as they are, and spreads a front evenly over octaves of a device's resources.
        individual.fitness.values = (math.log(space.cost(individual.widths)), progress[individual.widths])
    selected: list[_Individual] = tools.selNSGA2(list(pool), min(count, len(pool)))
    return selected


def _children(
    population: Sequence[_Individual], space: SearchSpace, vectors: EvaluatedVectors, settings: SearchSettings, index: int
) -> list[_Individual]:
    """As many children as the population has members, fewer in a space that runs out; none was evaluated before."""
    # crowding distances anew from the members alone, so that a checkpoint needs to hold nothing but their rates
    members = _selected(population, space, vectors, len(population))
    bounds = {"low": 0.0, "up": settings.max_rate}
    children: dict[Widths, _Individual] = {}
    with _random_numbers(settings.seed, index):
        for _ in range(_MATING_ROUNDS):
            parents = tools.selTournamentDCD(members, len(members) - len(members) % 4)
            for first, second in zip(parents[::2], parents[1::2], strict=True):
                pair = [list(first), list(second)]
                if random.random() <= settings.crossover_probability:
                    tools.cxSimulatedBinaryBounded(*pair, eta=settings.crossover_eta, **bounds)
                for rates in pair:
                    if random.random() < _SCALED:
                        factor = 2 ** random.uniform(-1, 1)  # chosen by us: from half to twice
                        rates[:] = [min(settings.max_rate, factor * rate) for rate in rates]
                    tools.mutPolynomialBounded(rates, eta=settings.mutation_eta, indpb=1 / len(space.groups), **bounds)
                    widths = space.widths(rates)
                    if widths not in vectors.measured and len(children) < settings.population:
                        children.setdefault(widths, _Individual(rates, widths))
    return list(children.values())
