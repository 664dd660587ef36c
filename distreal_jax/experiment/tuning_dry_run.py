"""What a tuning would train and about how long that takes, without training."""

from collections.abc import Sequence

import numpy as np

from distreal_jax.experiment.dry_run import Speed, measured_speed
from distreal_jax.experiment.tuning import Tuner, rounds_of
from distreal_jax.fleet.federation import Federation
from distreal_jax.methods import Method
from distreal_jax.record.report import markdown_table
from distreal_jax.signs import duration
from distreal_jax.tuning import knobs_of

_PLANNED = 4  # rounds that stand for all, chosen by us


def tuning_dry_run(methods: Sequence[Method], trials: int, tuner: Tuner) -> str:
    """The text of `--dry-run`: the most that it can take, as if every trial near the best were trained to the end.

    Args:
      methods: Those to tune.
      trials: Of each.
      tuner: Has the worlds and settings; its folder is not used.
    """
    rows = [["method", "trials", "knobs", "rounds", "mini-batches a round", "training", "compiling", "evaluating"]]
    total, speeds = 0.0, dict[int, Speed]()
    rounds = rounds_of(trials, tuner.rungs) * len(tuner.worlds)
    for method in methods:
        knobs = knobs_of(method, tuner.training)
        usual = {knob.name: knob.usual for knob in knobs}
        sizes = next(knob.start for knob in knobs if knob.name == "batch_size")
        ends = [
            tuner.federation(method, {**usual, "batch_size": size}, tuner.worlds[0], tuner.training.rounds)
            for size in sorted({sizes[0], sizes[-1]}, key=float)
        ]
        for federation in ends:
            size = federation.training.batch_size
            if size not in speeds:
                speeds[size] = measured_speed(federation, min(federation.table.entries, key=lambda entry: entry.work))
        planned = [_of_a_round(federation, speeds[federation.training.batch_size]) for federation in ends]
        mini_batches, seconds = np.mean(planned, axis=0)
        speed = speeds[ends[-1].training.batch_size]
        programs = len(ends[-1].table.entries) if tuner.execution == "compact" else 1
        parts = (
            rounds * seconds,
            trials * programs * speed.compile_seconds,
            rounds / tuner.record.eval_every * speed.evaluate_seconds,
        )
        total += sum(parts)
        names = ", ".join(knob.name for knob in knobs)
        rows.append([method.name, str(trials), names, f"{rounds:,}", f"{mini_batches:.0f}", *map(duration, parts)])
    return (
        f"{markdown_table(rows)}\nAt most about {duration(total)}: mini-batches of the usual and the smallest size, "
        f"measured just now, over {_PLANNED} rounds that were planned. Nothing was written."
    )


def _of_a_round(federation: Federation, speed: Speed) -> tuple[float, float]:
    """Mini-batches of a round and the seconds that they take, means over some rounds."""
    counts = np.zeros(len(federation.table.entries))
    for index in range(_PLANNED):
        entries = federation.plan(index)[0].entries
        counts += np.bincount(entries[entries >= 0], minlength=len(counts))
    counts /= _PLANNED
    return float(counts.sum()), float(counts @ speed.of_mini_batches(federation.table.costs()))
