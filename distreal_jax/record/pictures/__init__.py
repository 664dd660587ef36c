"""The pictures of searches, comparisons and devices, as PNG files that are legible at the size of a README."""

from distreal_jax.record.pictures.comparison import accuracy_picture, fairness_picture, map_picture, utilisation_picture
from distreal_jax.record.pictures.device import availability_picture, seconds_picture
from distreal_jax.record.pictures.search import Front, front_picture, hypervolume_picture, rates_heatmap

__all__ = [
    "Front",
    "accuracy_picture",
    "availability_picture",
    "fairness_picture",
    "front_picture",
    "hypervolume_picture",
    "map_picture",
    "rates_heatmap",
    "seconds_picture",
    "utilisation_picture",
]
