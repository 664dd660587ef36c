"""The pictures of searches, comparisons and devices, as PNG files that are legible at the size of a README."""

from distreal_jax.record.pictures.comparison import (
    accuracy_picture,
    costs_picture,
    fairness_picture,
    map_picture,
    utilisation_picture,
)
from distreal_jax.record.pictures.device import availability_picture, seconds_picture
from distreal_jax.record.pictures.search import Front, front_picture, hypervolume_picture, rates_heatmap
from distreal_jax.record.pictures.studies import conditions_picture, proxy_picture, rivals_picture
from distreal_jax.record.pictures.tuning import sensitivity_picture

__all__ = [
    "Front",
    "accuracy_picture",
    "availability_picture",
    "conditions_picture",
    "costs_picture",
    "fairness_picture",
    "front_picture",
    "hypervolume_picture",
    "map_picture",
    "proxy_picture",
    "rates_heatmap",
    "rivals_picture",
    "seconds_picture",
    "sensitivity_picture",
    "utilisation_picture",
]
