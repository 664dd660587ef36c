"""What a tuning would train and about how long that takes, without training."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from distreal_jax.experiment.dry_run import WROTE_NOTHING, Forecast, forecast, time_of
from distreal_jax.experiment.speed import Speed, SpeedOf, Time, estimated_speed
from distreal_jax.experiment.tuning import FINALISTS, FIRST_SHARE, Tuner, rounds_of
from distreal_jax.fleet.federation import Federation
from distreal_jax.methods import Method
from distreal_jax.record.report import markdown_table
from distreal_jax.signs import duration
from distreal_jax.table import TableEntry
from distreal_jax.tuning import Point, first_points

_PLANNED = 4  # rounds of a trial that stand for all, chosen by us


def tuning_dry_run(
    methods: Sequence[Method], trials: int, tuner: Tuner, *, seed: int, speed_of: SpeedOf = estimated_speed
) -> str:
    """The text of `--dry-run`: what a tuning takes if every later trial is trained to the end, with one exchange.

    The trials of a method are its own and those of what is best for the others.

    Args:
      methods: Those to tune.
      trials: Of each.
      tuner: Has the worlds and settings; its folder is not used.
      seed: Of what is drawn, as for `Tuner.tune`.
      speed_of: Estimates or measures how fast this machine is.
    """
    rows = [["method", "trials", "knobs", "rounds", "mini-batches a round", "compiling", "training", "evaluating"]]
    total, speeds = Time(), dict[int, Speed]()

    def of_batch_size(federation: Federation, cheapest: TableEntry) -> Speed:
        size = federation.training.batch_size
        if size not in speeds:
            speeds[size] = speed_of(federation, cheapest)
        return speeds[size]

    named = {method.name: {knob.name for knob in tuner.knobs(method)} for method in methods}
    for method in methods:
        knobs = tuner.knobs(method)
        # Knobs that another method lacks are tried as in the own best and as usual.
        others = sum(1 + bool(named[method.name] - names) for other, names in named.items() if other != method.name)
        rounds = rounds_of(trials, tuner.rungs, others) * len(tuner.worlds)
        rounds += (FINALISTS + 1) * tuner.rungs[-1] * len(tuner.finals)  # the usual settings beside the finalists
        first = max(1, math.ceil(trials * FIRST_SHARE))
        points = first_points(knobs, first, np.random.default_rng([seed, *method.name.encode()]))
        runs = [planned(tuner, method, point) for point in points]
        time = time_of(runs, dataclasses.replace(tuner.record, eval_every=_PLANNED), of_batch_size)
        mini_batches = float(np.mean([plan.mini_batches.sum() / _PLANNED for _, plan in runs]))
        # What a later trial compiles is not known before; taken is what a first one does.
        later = 1 + (trials + others - len(points)) / len(points)
        part = Time(
            time.compiling * later,
            rounds * time.training / (_PLANNED * len(runs)),
            rounds / tuner.record.eval_every * time.evaluating / len(runs),
            round(time.programs * later),
            round(rounds / tuner.record.eval_every),
            time.origin,
        )
        total += part
        parts = map(duration, (part.compiling, part.training, part.evaluating))
        names = ", ".join(knob.name for knob in knobs)
        rows.append([method.name, str(trials + others), names, f"{rounds:,}", f"{mini_batches:.0f}", *parts])
    return (
        f"{markdown_table(rows)}\nIf every later trial is trained to the end, and the exchange finds nothing better. "
        f"{total.said()} {_PLANNED} rounds of each first trial were planned.\n{WROTE_NOTHING}"
    )


def planned(tuner: Tuner, method: Method, point: Point) -> tuple[Federation, Forecast]:
    """A trial of a few rounds, and what it would do.

    Args:
      tuner: Of the tuning.
      method: The method, before tuning.
      point: The settings to try, by name.
    """
    few = dataclasses.replace(tuner, training=dataclasses.replace(tuner.training, rounds=_PLANNED))
    federation = few.federation(method, point, tuner.worlds[0])
    return federation, forecast(federation)
