"""What a run leaves behind: a folder of plain files, Weights & Biases beside it, and what the results say.

The last stop of the line: nothing here decides how anything is trained.
"""

from distreal_jax.files import write_atomically
from distreal_jax.record.device_model import DeviceModel
from distreal_jax.record.json_values import settings_hash
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.metrics import read_metrics
from distreal_jax.record.pictures import (
    Front,
    accuracy_picture,
    availability_picture,
    conditions_picture,
    costs_picture,
    fairness_picture,
    front_picture,
    hypervolume_picture,
    map_picture,
    proxy_picture,
    rates_heatmap,
    rivals_picture,
    seconds_picture,
    sensitivity_picture,
    utilisation_picture,
)
from distreal_jax.record.provenance import provenance
from distreal_jax.record.report import Section, comparison_table, write_report
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.record.statistics import (
    Interval,
    area_under_curve,
    final_accuracy,
    mean_interval,
    median_time,
    paired_difference,
    time_to_target,
)
from distreal_jax.record.summary import MethodSummary, summarise
from distreal_jax.record.tracking import Tracker, open_tracker

__all__ = [
    "DeviceModel",
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
    "conditions_picture",
    "costs_picture",
    "fairness_picture",
    "final_accuracy",
    "front_picture",
    "hypervolume_picture",
    "map_picture",
    "mean_interval",
    "median_time",
    "open_tracker",
    "paired_difference",
    "provenance",
    "proxy_picture",
    "rates_heatmap",
    "read_metrics",
    "rivals_picture",
    "seconds_picture",
    "sensitivity_picture",
    "settings_hash",
    "summarise",
    "time_to_target",
    "utilisation_picture",
    "write_atomically",
    "write_report",
]
