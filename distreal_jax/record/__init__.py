"""What a run leaves behind: a folder of plain files, Weights & Biases beside it, and what the results say.

The last stop of the line: nothing here decides how anything is trained.
"""

from distreal_jax.record.pictures import (
    Front,
    accuracy_picture,
    availability_picture,
    fairness_picture,
    front_picture,
    hypervolume_picture,
    map_picture,
    rates_heatmap,
    seconds_picture,
    utilisation_picture,
)
from distreal_jax.record.report import MethodResult, MethodSummary, Section, comparison_table, summarise, write_report
from distreal_jax.record.run_folder import RunFolder, provenance, read_metrics, settings_hash, write_atomically
from distreal_jax.record.statistics import (
    Interval,
    area_under_curve,
    final_accuracy,
    mean_interval,
    median_time,
    paired_bootstrap,
    time_to_target,
)
from distreal_jax.record.tracking import Tracker, open_tracker

__all__ = [
    "Front",
    "Interval",
    "MethodResult",
    "MethodSummary",
    "RunFolder",
    "Section",
    "Tracker",
    "accuracy_picture",
    "area_under_curve",
    "availability_picture",
    "comparison_table",
    "fairness_picture",
    "final_accuracy",
    "front_picture",
    "hypervolume_picture",
    "map_picture",
    "mean_interval",
    "median_time",
    "open_tracker",
    "paired_bootstrap",
    "provenance",
    "rates_heatmap",
    "read_metrics",
    "seconds_picture",
    "settings_hash",
    "summarise",
    "time_to_target",
    "utilisation_picture",
    "write_atomically",
    "write_report",
]
