"""A method at its best: which settings it is tuned over, which are tried, and the file of those that were found."""

from distreal_jax.tuning.knobs import Knob, Point, in_common, knobs_of, settings_of
from distreal_jax.tuning.proposals import at_edges, first_points, next_point
from distreal_jax.tuning.tuned_file import TunedMethod, TunedSettings

__all__ = [
    "Knob",
    "Point",
    "TunedMethod",
    "TunedSettings",
    "at_edges",
    "first_points",
    "in_common",
    "knobs_of",
    "next_point",
    "settings_of",
]
