"""What each device can spend on training, over time: drawn, or recorded on real machines."""

from distreal_jax.availability.draws import uniforms
from distreal_jax.availability.segments import Availability, Segments, unchanging
from distreal_jax.availability.specification import make_availability

__all__ = ["Availability", "Segments", "make_availability", "unchanging", "uniforms"]
