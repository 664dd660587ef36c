"""DISTREAL in JAX: federated learning on devices whose resources are limited, different, and change while they train.

The line the data flows along: a network is traced to its filter groups and costs, a search finds a table of dropout vectors,
each device picks from the table what it can afford now, and a simulated fleet trains and averages.
"""

from distreal_jax.loading import prepare_loading

prepare_loading()

from distreal_jax.errors import InputError  # noqa: E402
from distreal_jax.table import DropoutTable, TableEntry  # noqa: E402
from distreal_jax.tracing import FilterGroup, TracedNetwork, sample_filters, trace_network  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "DropoutTable",
    "FilterGroup",
    "InputError",
    "TableEntry",
    "TracedNetwork",
    "__version__",
    "sample_filters",
    "trace_network",
]
