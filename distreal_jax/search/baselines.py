"""What a search has to beat: dropout vectors that take no search, evaluated as often and measured in the same way.

Every baseline turns a number of evaluations into that many vectors of rates [vectors, searched]: random ones, one rate for
all layers, and rates in proportion to a weight per layer, by a rule of thumb. A search begins with some of them. Vectors
that round to the same widths are evaluated once, so the families of one parameter may use fewer evaluations than they are
given.
"""

from collections.abc import Sequence

import numpy as np

from distreal_jax.errors import InputError
from distreal_jax.search.evaluation import Evaluate, EvaluatedVectors, SearchResult, measured_afresh
from distreal_jax.search.space import SearchSettings, SearchSpace
from distreal_jax.tracing import TracedNetwork, inside_blocks

_RANDOM_RATES = 1  # role in the random key


def random_rates(space: SearchSpace, count: int, seed: int) -> np.ndarray:
    """Independent rates, uniform from 0 to the highest rate: float64 [count, searched].

    Args:
      space: Has the searched groups and the highest rate.
      count: Vectors.
      seed: Of the draw.
    """
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
    full, macs = tuple(space.network.full_widths), space.network.training_macs
    saved = [macs(full) - macs((*full[:group], 1, *full[group + 1 :])) for group in space.groups]
    return np.array(saved, dtype=np.float64)


def inner_weights(space: SearchSpace) -> np.ndarray:
    """For "drop the filters inside blocks alone": 1 for the searched groups `inside_blocks`, 0 for others: [searched]."""
    return inside_blocks(space.network)[list(space.groups)].astype(np.float64)


def evaluate_rates(
    network: TracedNetwork,
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
    chosen = list(dict.fromkeys(space.configuration(row) for row in rates))
    if not chosen:
        raise InputError("there is no vector to evaluate; give at least one vector of rates")
    for start in range(0, len(chosen), settings.population):
        vectors.evaluate(chosen[start : start + settings.population])
    return SearchResult.of(space, vectors, measured_afresh(space, vectors, [], settings), settings)
