"""What Weights & Biases gets of a run, and under which keys: those of its users (`test/accuracy`, `train/loss`, `round`).

Curves are drawn over rounds, or generations of a search; every row has the simulated time too, as another axis to choose.
"""

import math
from collections.abc import Mapping
from typing import Any

from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.statistics import time_to_target
from distreal_jax.search.evaluation import Generation

ROUND_KEYS = {
    "round": "round",
    "simulated_seconds": "simulated_seconds",
    "accuracy": "{split}/{score}",
    "full_accuracy": "{split}/{score}_of_full_network",
    "test_loss": "{split}/loss",
    "train_loss": "train/loss",
    "delivered": "delivered_macs_share",
    "clients_averaged": "clients/averaged",
    "clients_left_out": "clients/left_out",
    "deadline_hits": "clients/cut_by_deadline",
    "diverged": "diverged",
    "macs_spent": "macs/spent",
    "macs_wasted": "macs/wasted",
    "macs_idle": "macs/idle",
    "bytes_up": "bytes/up",
    "bytes_down": "bytes/down",
}
"""Field of a line of `metrics.jsonl` -> key in W&B.

split is `test`, or `validation` where a part of the training data is scored; score is `accuracy`, or what another task has.
"""
ROUND_AXIS = "round"
OVER_ROUNDS = tuple(f"{group}/*" for group in ("test", "validation", "train", "clients", "macs", "bytes"))
OVER_ROUNDS += ("delivered_macs_share", "diverged", "simulated_seconds")
SEARCH_AXIS = "generation"
SEARCH_KEYS = ("search/hypervolume", "search/evaluated", "search/front_size", "search/best_progress")
FINAL_ACCURACY = "final/accuracy"
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of accuracy, that the time to is in the summary; chosen by us


def round_row(record: Mapping[str, Any], split: str, score: str) -> dict[str, Any]:
    """A line of metrics under the keys of W&B, without unknown values.

    Args:
      record: The line.
      split: What was scored on: `test` or `validation`.
      score: The score's name.
    """
    names = {"split": split, "score": score.replace(" ", "_")}
    row = {key.format(**names): record[field] for field, key in ROUND_KEYS.items() if record[field] is not None}
    return {key: float(value) if isinstance(value, bool) else value for key, value in row.items()}


def generation_row(generation: Generation) -> dict[str, Any]:
    """A generation of a search as W&B gets it."""
    values = (
        generation.hypervolume,
        generation.evaluated,
        len(generation.front),
        max(entry.progress or 0.0 for entry in generation.front),
    )
    return {SEARCH_AXIS: generation.index, **dict(zip(SEARCH_KEYS, values, strict=True))}


def summary_of(result: MethodResult) -> dict[str, Any]:
    """What stands in the summary of a finished run, beside the last value of every key.

    `final/accuracy` is the mean of the last three evaluations, as in reports; `seconds_to/0.8` the simulated time to an
    accuracy of 0.8, which a run that did not reach it has not; of other test sets `SET/accuracy`.
    """
    summary: dict[str, Any] = {FINAL_ACCURACY: result.final, "final/delivered_macs_share": result.delivered}
    for level in LEVELS:
        seconds = time_to_target(result.times, result.accuracies, level)
        if seconds is not None:
            summary[f"seconds_to/{level:g}"] = seconds
    work = result.macs_spent + result.macs_wasted + result.macs_idle
    if work > 0:
        summary["final/macs_share_spent"] = result.macs_spent / work
    summary |= {f"{name}/accuracy": accuracy for name, accuracy in result.accuracy_on.items()}
    return {key: value for key, value in summary.items() if math.isfinite(value)}
