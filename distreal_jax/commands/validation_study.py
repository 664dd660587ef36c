"""Does a validation split order settings as the test set does?

    python experiments/validation_study.py --folders "runs/trial_tune_*"

Tuning chooses settings by a validation split that is taken from the training data. For every trial that ran to its end, a
tuning's folder has the accuracy on the test set beside it, by which nothing was chosen. Settings of the same method and
tuning are compared by twos: how often does the one with the higher validation accuracy have the higher test accuracy? And
what is lost by choosing with the split: the best test accuracy among a method's settings, minus that of the chosen one?

Only trials that ran to the end are compared. Those are the better ones, and close to each other.
"""

import dataclasses
import glob
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distreal_jax.errors import InputError
from distreal_jax.experiment.tuning import Trial
from distreal_jax.experiment.tuning_report import TUNED_FILE, rank_correlation_with_test
from distreal_jax.record import mean_interval
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.recorded_run import RESULT, RESULT_KIND
from distreal_jax.record.report import level, markdown_table
from distreal_jax.record.run_folder import read_part
from distreal_jax.tuning import TunedSettings

GAPS = (0.01, 0.03, math.inf)
"""Differences in validation accuracy up to which pairs are counted together."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare what tunings chose by with the test set."""

    folders: str = "runs/trial_tune_*"
    """Folders of finished tunings; a pattern, or several with spaces between them."""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The settings of one method in one tuning that were trained to the end.

    Attributes:
      tuning: The folder, as the pattern names it.
      method: Name of the method.
      trials: One of each; their points are not read.
    """

    tuning: str
    method: str
    trials: tuple[Trial, ...]

    @property
    def lost(self) -> float:
        """Best test accuracy, minus that of the settings with the best validation accuracy."""
        return max(trial.tested for trial in self.trials) - max(self.trials, key=Trial.score).tested

    @property
    def correlation(self) -> float:
        """As `rank_correlation_with_test`."""
        return rank_correlation_with_test(self.trials)

    def pairs(self) -> list[tuple[float, float]]:
        """For each pair of settings that differ in validation accuracy: that difference, above zero, and that in test."""
        both = itertools.combinations(self.trials, 2)
        differences = [(a.score() - b.score(), a.tested - b.tested) for a, b in both]
        return [(abs(seen), math.copysign(1, seen) * truly) for seen, truly in differences if seen]


def main(options: Options) -> None:
    """Prints the tables.

    Args:
      options: The command line.

    Raises:
      InputError: There is no such folder, no trial in it, or a result can't be read.
    """
    print(report(every_tuned(options.folders)))


def every_tuned(folders: str) -> list[Tuned]:
    """Methods with at least two settings that were trained to the end, of tunings for final accuracy.

    The test set is scored at the end alone, so it says nothing of what was chosen for the mean over time.

    Args:
      folders: As `Options.folders`.

    Raises:
      InputError: As `main`.
    """
    found = [
        Tuned(folder, method.name, trials)
        for folder in sorted({path for pattern in folders.split() for path in glob.glob(pattern)})
        if _for_the_end(Path(folder))
        for method in sorted(Path(folder).glob("*/"))
        if len(trials := _trained_to_the_end(method)) > 1
    ]
    if not found:
        raise InputError(
            f"{folders!r} names no tuning for final accuracy that has trials that ran to the end; run `distreal tune` first"
        )
    return found


def _for_the_end(tuning: Path) -> bool:
    file = tuning / TUNED_FILE  # comes last: a tuning that is not finished may still be asked
    return not file.exists() or TunedSettings.load(file).provenance.get("goal", "final") == "final"


def _trained_to_the_end(method: Path) -> tuple[Trial, ...]:
    """A method's trials with the most rounds, each with the seeds that all of them have: finalists have more."""
    of_points: dict[str, dict[int, MethodResult]] = {}
    for path in sorted(method.glob(f"*-seed*/{RESULT}")):
        result = MethodResult.from_json(read_part(path, RESULT_KIND)[1], str(path))
        if "test" in result.accuracy_on:
            of_points.setdefault(path.parent.name.rpartition("-seed")[0], {})[result.seed] = result
    end = max((result.rounds[-1] for seeds in of_points.values() for result in seeds.values()), default=0)
    ended = [seeds for seeds in of_points.values() if all(result.rounds[-1] == end for result in seeds.values())]
    common = set.intersection(*map(set, ended)) if ended else set()
    return tuple(Trial({}, tuple(seeds[seed] for seed in sorted(common))) for seeds in ended if common)


def report(every: Sequence[Tuned]) -> str:
    """Markdown: how often the order is kept, then what is lost by choosing with the validation split.

    Args:
      every: The methods of all tunings, those of one beside each other.
    """
    rows = [["difference in validation accuracy", "pairs of settings", "same order on the test set"]]
    for least, most in (*itertools.pairwise((0.0, *GAPS)), (0.0, math.inf)):
        kept = [truly > 0 for tuned in every for seen, truly in tuned.pairs() if least < seen <= most]
        above, up_to = f"above {least:g}" if least else "", f"up to {most:g}" if most < math.inf else ""
        label = ", ".join(filter(None, (above, up_to))) or "any"
        rows.append([label, str(len(kept)), f"{np.mean(kept):.0%}" if kept else "–"])
    tunings = [["tuning", "methods", "settings", "rank correlation, mean over methods", "lost by choosing, mean", "most"]]
    for name, of_tuning in itertools.groupby(every, key=lambda tuned: tuned.tuning):
        own = list(of_tuning)
        known = [value for tuned in own if not math.isnan(value := tuned.correlation)]
        lost, settings = [tuned.lost for tuned in own], sum(len(tuned.trials) for tuned in own)
        correlation = f"{np.mean(known):+.2f}" if known else "–"
        tunings.append([f"`{name}`", str(len(own)), str(settings), correlation, f"{np.mean(lost):.3f}", f"{max(lost):.3f}"])
    overall = f"Lost by choosing with the validation split, all methods: {level(mean_interval([t.lost for t in every]))}."
    return f"{markdown_table(rows)}\n{markdown_table(tunings)}\n{overall}"
