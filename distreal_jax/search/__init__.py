"""The search for Pareto-optimal dropout vectors, run once before deployment (Rapp et al., AAAI 2022)."""

from distreal_jax.search.baselines import (
    evaluate_rates,
    inner_weights,
    macs_weights,
    random_rates,
    uniform_rates,
    weighted_rates,
)
from distreal_jax.search.evaluation import Evaluate, Generation, SearchResult
from distreal_jax.search.front import hypervolume, pareto_front
from distreal_jax.search.nsga2 import search
from distreal_jax.search.space import SearchSettings, SearchSpace

__all__ = [
    "Evaluate",
    "Generation",
    "SearchResult",
    "SearchSettings",
    "SearchSpace",
    "evaluate_rates",
    "hypervolume",
    "inner_weights",
    "macs_weights",
    "pareto_front",
    "random_rates",
    "search",
    "uniform_rates",
    "weighted_rates",
]
