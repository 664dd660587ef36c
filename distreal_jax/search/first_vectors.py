"""What a search begins with and does not draw: vectors that turn one knob alone, or two together.

Of dropout rates these are one rate for all layers, and one for the filters inside blocks alone (`inner_weights`).
"""

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from distreal_jax.search.baselines import inner_weights, weighted_rates
from distreal_jax.search.space import SearchSettings, SearchSpace


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
