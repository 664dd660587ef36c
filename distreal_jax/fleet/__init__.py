"""A simulated fleet: planned rounds, run as data on one accelerator or several."""

from distreal_jax.fleet.aggregation import Server
from distreal_jax.fleet.grouping import default_grouping
from distreal_jax.fleet.programs import Execution, RoundResult
from distreal_jax.fleet.reference import reference_round
from distreal_jax.fleet.round import Round
from distreal_jax.fleet.work import ClientWork, Grouping, client_work

__all__ = [
    "ClientWork",
    "Execution",
    "Grouping",
    "Round",
    "RoundResult",
    "Server",
    "client_work",
    "default_grouping",
    "reference_round",
]
