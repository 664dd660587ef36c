"""DISTREAL in JAX: federated learning on devices whose resources are limited, different, and change while they train.

The data flows along one line: a network is traced to its filter groups and costs, a search finds a table of dropout vectors,
each device takes from the table what it can afford now, and a simulated fleet trains and averages.

    import distreal_jax as dj

    world = dj.World.make(dj.WorldSettings(devices=40), seed=0)
    print(dj.Federation(world, "distreal").fit(rounds=20))

Names are imported when they are first used, so that `import distreal_jax` takes no time. So are the packages: `dj.search` is
the package of the search, `dj.search_table` searches a table.
"""

import importlib
from typing import TYPE_CHECKING, Any

from distreal_jax.errors import InputError
from distreal_jax.loading import prepare_loading

prepare_loading()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from distreal_jax import availability as availability
    from distreal_jax import data as data
    from distreal_jax import fleet as fleet
    from distreal_jax import record as record
    from distreal_jax import search as search
    from distreal_jax import step as step
    from distreal_jax import table as table
    from distreal_jax import tracing as tracing
    from distreal_jax.availability import Availability, Segments, make_availability
    from distreal_jax.data import Dataset, load_dataset
    from distreal_jax.experiment.comparison import Comparison
    from distreal_jax.experiment.fitting import Federation, History
    from distreal_jax.experiment.in_a_line import compare, search_table
    from distreal_jax.experiment.surroundings import prepare_jax
    from distreal_jax.fleet.rounds import TrainedRound
    from distreal_jax.fleet.training import TrainingSettings
    from distreal_jax.fleet.work import Grouping
    from distreal_jax.fleet.world import World, WorldSettings
    from distreal_jax.methods import METHODS, Method, method_named
    from distreal_jax.plan import RoundPlan
    from distreal_jax.record.evaluations import Evaluation, RecordSettings
    from distreal_jax.search import SearchSettings
    from distreal_jax.search.progress import ProgressSettings
    from distreal_jax.step import Task
    from distreal_jax.table import DropoutTable, TableEntry
    from distreal_jax.tracing import FilterGroup, TracedNetwork, sample_filters, trace_network

_PACKAGES = ("availability", "data", "fleet", "record", "search", "step", "table", "tracing")
_MODULES = {
    "Availability": "availability",
    "Comparison": "experiment.comparison",
    "Dataset": "data",
    "DropoutTable": "table",
    "Evaluation": "record.evaluations",
    "Federation": "experiment.fitting",
    "FilterGroup": "tracing",
    "Grouping": "fleet.work",
    "History": "experiment.fitting",
    "METHODS": "methods",
    "Method": "methods",
    "ProgressSettings": "search.progress",
    "RecordSettings": "record.evaluations",
    "RoundPlan": "plan",
    "SearchSettings": "search",
    "Segments": "availability",
    "TableEntry": "table",
    "Task": "step",
    "TracedNetwork": "tracing",
    "TrainedRound": "fleet.rounds",
    "TrainingSettings": "fleet.training",
    "World": "fleet.world",
    "WorldSettings": "fleet.world",
    "compare": "experiment.in_a_line",
    "load_dataset": "data",
    "make_availability": "availability",
    "method_named": "methods",
    "prepare_jax": "experiment.surroundings",
    "sample_filters": "tracing",
    "search_table": "experiment.in_a_line",
    "trace_network": "tracing",
}

__all__ = [
    "METHODS",
    "Availability",
    "Comparison",
    "Dataset",
    "DropoutTable",
    "Evaluation",
    "Federation",
    "FilterGroup",
    "Grouping",
    "History",
    "InputError",
    "Method",
    "ProgressSettings",
    "RecordSettings",
    "RoundPlan",
    "SearchSettings",
    "Segments",
    "TableEntry",
    "Task",
    "TracedNetwork",
    "TrainedRound",
    "TrainingSettings",
    "World",
    "WorldSettings",
    "__version__",
    "compare",
    "load_dataset",
    "make_availability",
    "method_named",
    "prepare_jax",
    "sample_filters",
    "search_table",
    "trace_network",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
