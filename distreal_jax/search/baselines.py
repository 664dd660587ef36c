"""What a search has to beat: dropout vectors that take no search, evaluated as often and measured in the same way.

Every baseline turns a number of evaluations into that many vectors of rates [vectors, searched]: random ones, one rate for
all layers, and rates in proportion to a weight per layer, by a rule of thumb. A search begins with some of them. Vectors
that round to the same widths are evaluated once, so the families of one parameter may use fewer evaluations than they are
given.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from distreal_jax.errors import InputError
from distreal_jax.search.evaluation import Evaluate, EvaluatedVectors, SearchResult, measured_afresh
from distreal_jax.search.space import SearchSettings, SearchSpace

if TYPE_CHECKING:
    from distreal_jax.tracing import TracedNetwork

_RANDOM_RATES = 1  # role in the random key


def random_rates(space: SearchSpace, count: int, seed: int) -> np.ndarray:
    """Each rate drawn for itself, uniformly from 0 to the highest: [count, searched]."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, _RANDOM_RATES])))
    rates: np.ndarray = generator.uniform(0, space.max_rate, (count, len(space.groups)))
    return rates


def uniform_rates(space: SearchSpace, count: int) -> np.ndarray:
    """One rate for all searched groups, from 0 to the highest: [count, searched]."""
    return np.array(space.uniform_seeds(count))


def weighted_rates(space: SearchSpace, count: int, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Rates in proportion to weights until they reach the highest, the sum of rates growing evenly: [count, searched].

    Args:
      space: What is searched.
      count: Vectors.
      weights: [searched], at least 0; a group of weight 0 is kept whole.

    Raises:
      InputError: Weights of another number, negative, not finite, or all 0.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(space.groups),) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        raise InputError(f"weights {weights.tolist()}: expected {len(space.groups)} of at least 0, one of them above 0")
    # each rate grows in proportion until it saturates, so their sum is piecewise linear in the common factor
    factors = np.concatenate([[0.0], np.sort(space.max_rate / weights[weights > 0])])
    sums = np.minimum(space.max_rate, factors[:, None] * weights).sum(axis=1)
    factor = np.interp(np.linspace(0, sums[-1], count), sums, factors)
    rates: np.ndarray = np.minimum(space.max_rate, factor[:, None] * weights)
    return rates


def macs_weights(space: SearchSpace) -> np.ndarray:
    """For "drop most where MACs are highest": the MACs saved by keeping a single filter of a searched group: [searched]."""
    full = tuple(space.network.full_widths)
    saved = [space.macs(full) - space.macs((*full[:group], 1, *full[group + 1 :])) for group in space.groups]
    return np.array(saved, dtype=np.float64)


def inner_weights(space: SearchSpace) -> np.ndarray:
    """For "drop the filters inside blocks alone": 1 for the searched groups that are inside, 0 for others: [searched].

    Inside are groups whose filters go from one kernel to one other. Those of a residual stream come from several kernels or
    go to several; those of a concatenation meet others along the axis that takes them in. In a plain chain of layers there
    is no stream to tell the inside of a block from: there all are 0.
    """
    network = space.network
    made, taken, alone = (np.zeros(len(network.filter_groups), dtype=int) for _ in range(3))
    for path, axes in network.layouts.items():
        if len(axes) < 2:
            continue  # a bias or a scale follows its kernel
        for axis, layout in enumerate(axes):
            groups = {run.group for run in layout.runs}
            for group in groups - {None}:
                consumed = (path, axis) in network.consumed
                made[group] += not consumed
                taken[group] += consumed
                alone[group] += consumed and len(groups) == 1
    inner = (made == 1) & (taken == 1) & (alone == 1)
    convolutional = np.array([group.convolutional for group in network.filter_groups])
    searched = inner[list(space.groups)] & convolutional[list(space.groups)]
    weights: np.ndarray = np.zeros(len(space.groups)) if inner[convolutional].all() else searched.astype(np.float64)
    return weights


def evaluate_rates(
    network: "TracedNetwork",
    evaluate: Evaluate,
    settings: SearchSettings,
    rates: np.ndarray,
    *,
    searched_groups: Sequence[int] | None = None,
) -> SearchResult:
    """Evaluates given vectors as a search would: same repeats, same fresh measurements at the end, same hypervolumes.

    Args:
      network: The traced network.
      evaluate: As for `search`.
      settings: As for `search`; a population is what is measured together, with random numbers of its own.
      rates: [vectors, searched].
      searched_groups: As for `search`.

    Raises:
      InputError: No vector, rates outside [0, 1), or progress that is not finite.
    """
    space = SearchSpace(network, settings.max_rate, searched_groups)
    vectors = EvaluatedVectors(space, evaluate, settings)
    widths = list(dict.fromkeys(space.widths(row) for row in rates))
    if not widths:
        raise InputError("there is no vector to evaluate; give at least one vector of rates")
    for start in range(0, len(widths), settings.population):
        vectors.evaluate(widths[start : start + settings.population])
    front, candidates = measured_afresh(space, vectors, [], settings)
    return SearchResult(
        front,
        candidates,
        vectors.entries(),
        tuple(vectors.generation(index) for index in range(len(vectors.counts))),
        network.signature(),
        network.macs(),
        settings,
    )
