"""DISTREAL in JAX: federated learning on devices whose resources are limited, different, and change while they train.

The line the data flows along: a network is traced to its filter groups and costs, a search finds a table of dropout vectors,
each device picks from the table what it can afford now, and a simulated fleet trains and averages.

Names are imported when they are first used, so that `import distreal_jax` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

from distreal_jax.errors import InputError
from distreal_jax.loading import prepare_loading

prepare_loading()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from distreal_jax.table import DropoutTable, TableEntry
    from distreal_jax.tracing import FilterGroup, TracedNetwork, sample_filters, trace_network

_MODULES = {
    "DropoutTable": "table",
    "FilterGroup": "tracing",
    "TableEntry": "table",
    "TracedNetwork": "tracing",
    "sample_filters": "tracing",
    "trace_network": "tracing",
}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
