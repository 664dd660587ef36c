"""What the scripts of `experiments/` are made of: a recorded search, a comparison of methods, and the command line."""

from distreal_jax.experiment.command_line import (
    OutputSettings,
    Plain,
    PlainFlags,
    open_folder,
    parsed_further_seeds,
    parsed_list,
    parsed_seeds,
    parsed_targets,
    run_command,
)
from distreal_jax.experiment.comparison import Comparison, compare, federations, run_method
from distreal_jax.experiment.dry_run import dry_run, traffic_notes
from distreal_jax.experiment.given_table import given_or_shipped, needed_table, table_in_all, table_of, the_table
from distreal_jax.experiment.job import JobSettings
from distreal_jax.experiment.options import (
    DryRun,
    GivenTable,
    HowExecuted,
    IsoCompute,
    ManyMethods,
    ManySeeds,
    Measure,
    OneMethod,
    Quiet,
    at_equal_computing,
    speed_of,
)
from distreal_jax.experiment.search_dry_run import measuring_dry_run, search_dry_run
from distreal_jax.experiment.table_search import TableSearch, search_table, table_section
from distreal_jax.experiment.tracked import tracked
from distreal_jax.experiment.tuning_report import tuned_table

__all__ = [
    "Comparison",
    "DryRun",
    "GivenTable",
    "HowExecuted",
    "IsoCompute",
    "JobSettings",
    "ManyMethods",
    "ManySeeds",
    "Measure",
    "OneMethod",
    "OutputSettings",
    "Plain",
    "PlainFlags",
    "Quiet",
    "TableSearch",
    "at_equal_computing",
    "compare",
    "dry_run",
    "federations",
    "given_or_shipped",
    "measuring_dry_run",
    "needed_table",
    "open_folder",
    "parsed_further_seeds",
    "parsed_list",
    "parsed_seeds",
    "parsed_targets",
    "run_command",
    "run_method",
    "search_dry_run",
    "search_table",
    "speed_of",
    "table_in_all",
    "table_of",
    "table_section",
    "the_table",
    "tracked",
    "traffic_notes",
    "tuned_table",
]
