"""NSGA-II (Deb et al., 2002) over configurations of a mini-batch, with DEAP: the design space exploration of DISTREAL.

The objectives are few MACs of training and much progress of a short training (Rapp et al., AAAI 2022). The genes are dropout
rates and, if asked, other knobs. The configurations that they stand for are evaluated and stored, none of them twice.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import operator
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from deap import base, tools

from distreal_jax.errors import InputError
from distreal_jax.search.baselines import inner_weights, weighted_rates
from distreal_jax.search.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from distreal_jax.search.evaluation import Evaluate, EvaluatedVectors, Generation, SearchResult, measured_afresh
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
    """(logarithm of the cost, progress): the first is to be low, the second high."""

    weights = (-1.0, 1.0)


class _FitnessWithMemory(base.Fitness):  # type: ignore[misc]
    """(logarithm of the cost, progress, logarithm of the memory): the second is to be high, the others low."""

    weights = (-1.0, 1.0, -1.0)


class _Individual(list[float]):
    """The genes of a vector, with what DEAP's selection reads."""

    def __init__(self, genes: Sequence[float], configuration: Configuration) -> None:
        super().__init__(genes)
        self.configuration = configuration
        self.fitness: base.Fitness = _Fitness()


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
    vectors = EvaluatedVectors(space, evaluate, settings)
    identity = {
        "settings": dataclasses.asdict(settings),
        "network": network.signature(),
        "searched_groups": list(space.groups),
        "measures": measures,
        "unit": "macs" if seconds is None else f"seconds:{seconds.device}",
        "algorithm": ALGORITHM,
    }
    seeds = [space.configuration(genes) for genes in first_vectors(space, settings)]
    population = [] if checkpoint is None else _resumed(checkpoint, identity, space, vectors)
    for index in range(len(vectors.counts), settings.generations):
        children = (
            _first_generation(space, settings) if index == 0 else _children(population, space, vectors, settings, index)
        )
        vectors.evaluate(child.configuration for child in children)
        population = _selected([*population, *children], space, vectors, settings, settings.population)
        if checkpoint is not None:
            rates = tuple(tuple(individual) for individual in population)
            costs = ({}, 0.0) if space.seconds is None else (space.seconds.known, space.seconds.full)
            save_checkpoint(checkpoint, identity, Checkpoint(rates, vectors.measured, tuple(vectors.counts), *costs))
        if on_generation is not None:
            on_generation(vectors.generation(index))
    if settings.memory_shares:
        seeds = [*seeds, space.leanest]
    return SearchResult.of(space, vectors, measured_afresh(space, vectors, [*seeds, *also], settings), settings)


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
    if space.seconds is not None:
        space.seconds.known.update(resumed.seconds)
        space.seconds.full = resumed.full_seconds
    return [_Individual(genes, space.configuration(genes)) for genes in resumed.population]


def first_vectors(space: SearchSpace, settings: SearchSettings) -> list[list[float]]:
    """What a search begins with and does not draw, as genes.

    Of filters alone, one rate for all groups and one for those inside blocks alone; with other knobs, each turned alone and
    two together.
    """
    if settings.beyond_filters:
        return _first_of_knobs(space, settings)
    of_one_rate = space.uniform_seeds(max(2, settings.population // 4))
    inner = inner_weights(space)
    if not inner.any():
        return of_one_rate
    inside = weighted_rates(space, max(2, settings.population // 2) + 1, inner)[1:]  # the first is the full network
    return [*of_one_rate, *inside.tolist()]


def _first_of_knobs(space: SearchSpace, settings: SearchSettings) -> list[list[float]]:
    """Vectors that turn one knob from where it changes nothing to its end, and two knobs together."""
    turned: dict[str, Callable[[float], dict[str, Any]]] = {
        name: functools.partial(_turned, name) for name in ("examples", "depth") if name in space.knobs
    }
    if space.groups:
        inner = inner_weights(space)
        turned["one rate"] = lambda far: {"rates": [far * space.max_rate] * len(space.groups)}
        if inner.any():
            turned["inside"] = lambda far: {"rates": (far * space.max_rate * inner).tolist()}
    pairs = [pair for pair in itertools.combinations(turned, 2) if pair != ("one rate", "inside")]
    families = [*((name,) for name in turned), *pairs]
    each = max(2, 3 * settings.population // (4 * len(families)))
    return [
        space.genes(**functools.reduce(operator.or_, (turned[name](far) for name in family)))
        for family in families
        for far in np.linspace(0, 1, each + 1)[1:].tolist()
    ]


def _turned(name: str, far: float) -> dict[str, Any]:
    return {name: far}


def _first_generation(space: SearchSpace, settings: SearchSettings) -> list[_Individual]:
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
            f"none of {_MATING_ROUNDS * settings.population} vectors can be trained in {settings.memory_limit:,.0f} bytes "
            "of memory; allow more"
        )
    return [_Individual(genes, configuration) for configuration, genes in found.items()]


def _selected(
    pool: Sequence[_Individual], space: SearchSpace, vectors: EvaluatedVectors, settings: SearchSettings, count: int
) -> list[_Individual]:
    progress = vectors.progress()
    for individual in pool:
        # The logarithm orders costs as they are, and spreads a front evenly over octaves of a device's resources.
        vector = individual.configuration
        values = (math.log(space.cost(vector)), progress[vector])
        if settings.memory_shares:
            individual.fitness = _FitnessWithMemory((*values, math.log(space.memory(vector))))
        else:
            individual.fitness.values = values
    selected: list[_Individual] = tools.selNSGA2(list(pool), min(count, len(pool)))
    return selected


def _children(
    population: Sequence[_Individual], space: SearchSpace, vectors: EvaluatedVectors, settings: SearchSettings, index: int
) -> list[_Individual]:
    """As many children as the population has members, fewer in a space that runs out; none was evaluated before."""
    # crowding distances anew from the members alone, so that a checkpoint needs to hold nothing but their rates
    members = _selected(population, space, vectors, settings, len(population))
    bounds, rated = {"low": space.low, "up": space.high}, len(space.groups)
    children: dict[Configuration, _Individual] = {}
    with _random_numbers(settings.seed, index):
        for _ in range(_MATING_ROUNDS):
            parents = tools.selTournamentDCD(members, len(members) - len(members) % 4)
            for first, second in zip(parents[::2], parents[1::2], strict=True):
                pair = [list(first), list(second)]
                if random.random() <= settings.crossover_probability:
                    tools.cxSimulatedBinaryBounded(*pair, eta=settings.crossover_eta, **bounds)
                for genes in pair:
                    if random.random() < _SCALED:
                        factor = 2 ** random.uniform(-1, 1)  # chosen by us: from half to twice
                        genes[:rated] = [min(settings.max_rate, factor * rate) for rate in genes[:rated]]
                    tools.mutPolynomialBounded(genes, eta=settings.mutation_eta, indpb=1 / len(genes), **bounds)
                    new = space.configuration(genes)
                    if new not in vectors.measured and len(children) < settings.population and space.fits(new):
                        children.setdefault(new, _Individual(genes, new))
    return list(children.values())
