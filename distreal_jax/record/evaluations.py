"""A federation trained and evaluated now and then: the loop behind recorded runs and `Federation.fit`."""

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Annotated, Any

import jax
import numpy as np

from distreal_jax.availability.segments import Integers
from distreal_jax.errors import InputError
from distreal_jax.fleet.aggregation import Server
from distreal_jax.fleet.evaluation import Scores
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.programs import RoundResult
from distreal_jax.fleet.rounds import trained_rounds
from distreal_jax.record.counted import Counted
from distreal_jax.record.divergence import divergence
from distreal_jax.record.json_values import json_value
from distreal_jax.record.method_result import MethodResult
from distreal_jax.settings import COUNT, SECONDS, check_settings
from distreal_jax.signs import Pace, bar, duration, how_many, say

TIERS = ("weakest third", "middle third", "strongest third")
_WORTH_A_WORD = 3.0  # seconds of a first round, chosen by us
_TIER_ROUNDS = 20  # rounds over which a device's mean availability is taken for its tier, chosen by us


@dataclasses.dataclass(frozen=True)
class RecordSettings:
    """How a run is watched.

    Attributes:
      eval_every: Rounds between evaluations.
      checkpoint_every: Evaluations between checkpoints.
      round_seconds: Length of a round in simulated seconds, the unit of the time axis; chosen by us, results do not depend
        on it.
      stop_on_divergence: End a run at the evaluation that shows that it has diverged.
    """

    eval_every: Annotated[int, COUNT] = 5
    checkpoint_every: Annotated[int, COUNT] = 1
    round_seconds: Annotated[float, SECONDS] = 60.0
    stop_on_divergence: bool = False

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A federation after some rounds.

    Attributes:
      done: Rounds that are done.
      server: As it is then. The next round takes its buffers, so that what is to stay has to be copied before it.
      scores: Of the model that the method delivers.
      record: The line of metrics.
      counted: What was counted so far.
    """

    done: int
    server: Server
    scores: Scores
    record: dict[str, Any]
    counted: Counted

    def __str__(self) -> str:
        numbers = [
            f"{name} {value:g}"
            for name, value in self.record.items()
            if isinstance(value, int | float) and value is not False
        ]
        return f"{self.record['method']} after {self.done:,} rounds: {', '.join(numbers)}"

    __repr__ = __str__  # a dataclass would write out all weights


def evaluations(
    federation: Federation,
    settings: RecordSettings,
    *,
    begin: int = 0,
    server: Server | None = None,
    counted: Counted | None = None,
    until: int | None = None,
) -> Iterator[Evaluation]:
    """Trains the rounds that are left, and stops at every evaluation; says on the way what happens.

    Args:
      federation: One method in one world.
      settings: How often it is evaluated, and whether divergence ends it.
      begin: Rounds that are done.
      server: As it was then, and given away; None: the first one.
      counted: What was counted until then.
      until: As for `trained_rounds`.
    """
    counted, name, rounds = counted or Counted(), _name_of(federation), until or federation.training.rounds
    progress, pace = bar(total=rounds, initial=begin, desc=name, unit="round"), Pace(rounds)
    pending: list[RoundResult] = []
    if begin < rounds:
        _say_what_begins(name, federation, begin, rounds)
    started = time.monotonic()
    with progress:
        for trained in trained_rounds(federation, begin, server, rounds):
            if trained.done == begin + 1 and time.monotonic() - started > _WORTH_A_WORD:
                spent = duration(time.monotonic() - started)
                say(f"{name}: first round after {spent}, most of it to compile or read programs")
            pending.append(trained.result)
            counted.add(federation, trained.plan)
            if trained.done % settings.eval_every == 0 or trained.done == rounds:
                params = trained.server.params
                scores = federation.evaluate(params, counted.widest)
                record = _evaluated(counted, federation, settings, trained.done, pending, scores, params)
                pending.clear()
                say(_in_a_line(name, record, rounds, federation.world.task.score_name, pace.left(trained.done)))
                progress.set_postfix(accuracy=f"{scores.accuracy:.3f}", refresh=False)
                yield Evaluation(trained.done, trained.server, scores, record, counted)
                if counted.divergence is not None and settings.stop_on_divergence:
                    return
            progress.update()


def _name_of(federation: Federation) -> str:
    return f"{federation.method.name} (seed {federation.world.seed})"


def _say_what_begins(name: str, federation: Federation, begin: int, rounds: int) -> None:
    training, programs = federation.training, len(federation.table.entries) if federation.execution == "compact" else 1
    say(
        f"{name}: rounds {begin + 1:,} to {rounds:,}, each of {training.devices_per_round:,} of "
        f"{federation.world.devices:,} devices; up to {how_many(programs, 'training step')} to compile first, "
        "or to read from the cache"
    )


def _in_a_line(name: str, record: dict[str, Any], rounds: int, score: str, left: str) -> str:
    """An evaluation in one line."""
    parts = [
        f"{name}: round {record['round']:,} of {rounds:,}",
        f"{score} {record['accuracy']:.3f}",
        f"{record['simulated_seconds']:,.0f} simulated seconds",
        left,
    ]
    return ", ".join(part for part in parts if part)


def _evaluated(
    counted: Counted,
    federation: Federation,
    settings: RecordSettings,
    done: int,
    pending: list[RoundResult],
    accuracy: Scores,
    params: Any,
) -> dict[str, Any]:
    """Adds an evaluation to what is counted; the line of metrics that it is. Rounds since the last one are fetched here."""
    delivered = federation.delivered(counted.widest).share
    scores = [accuracy.score, accuracy.score if delivered == 1 else federation.world.evaluator(params).score]
    finite = all(map(math.isfinite, scores))
    score, full = scores if finite else [_untrained(federation)] * 2
    fetched = jax.device_get(pending)
    averaged = sum(float(result.clients) for result in fetched)
    left_out = sum(int(result.left_out) for result in fetched)
    counted.left_out += left_out
    if counted.divergence is None:
        counted.divergence = divergence(federation, params, done=done, loss=accuracy.loss, left_out=left_out, scored=finite)
    record: dict[str, Any] = {
        "round": done,
        "simulated_seconds": done * settings.round_seconds,
        "method": federation.method.name,
        "seed": federation.world.seed,
        "accuracy": score,
        "full_accuracy": full,
        "delivered": delivered,
        "test_loss": accuracy.loss,
        "train_loss": sum(float(r.loss) * float(r.clients) for r in fetched) / averaged if averaged else None,
        "clients_averaged": averaged,
        "clients_left_out": left_out,
        "diverged": counted.divergence is not None,
        "macs_spent": counted.spent,
        "macs_wasted": counted.wasted,
        "macs_idle": counted.idle,
        "deadline_hits": counted.deadline_hits,
        "bytes_up": counted.bytes_up,
        "bytes_down": counted.bytes_down,
    }
    # As it reads back, so that a resumed run has the same: JSON has no NaN.
    counted.records.append(json_value(record))
    return counted.records[-1]


def _untrained(federation: Federation) -> float:
    """The score of the first weights, which stands for that of a model that has none; diverged, it is no better."""
    world = federation.world
    if not math.isfinite(score := world.evaluator(world.params).score):
        raise InputError(f"the {world.task.score_name} of the network before training is not finite; check task and data")
    return score


def result_of(federation: Federation, params: Any, counted: Counted, accuracy: Scores) -> MethodResult:
    """The result of a training.

    Args:
      federation: That was trained.
      params: The server's parameters at the end.
      counted: What was counted over its rounds.
      accuracy: Of the last evaluation.
    """
    others = (
        (name, federation.evaluate(params, counted.widest, test).accuracy) for name, test in federation.world.also_on.items()
    )
    return MethodResult(
        method=federation.method.name,
        seed=federation.world.seed,
        times=tuple(record["simulated_seconds"] for record in counted.records),
        accuracies=tuple(record["accuracy"] for record in counted.records),
        full_accuracies=tuple(record["full_accuracy"] for record in counted.records),
        delivered=counted.records[-1]["delivered"],
        rounds=tuple(float(record["round"]) for record in counted.records),
        macs=tuple(record["macs_spent"] + record["macs_wasted"] for record in counted.records),
        macs_spent=counted.spent,
        macs_wasted=counted.wasted,
        macs_idle=counted.idle,
        client_rounds=counted.client_rounds,
        deadline_hits=counted.deadline_hits,
        clients_left_out=counted.left_out,
        bytes_up=tuple(record["bytes_up"] for record in counted.records),
        bytes_down=tuple(record["bytes_down"] for record in counted.records),
        round_computing=tuple(counted.round_computing),
        round_bytes=tuple(counted.round_bytes),
        memory_bytes=federation.memory_bytes(counted.trained),
        accuracy_per_tier=accuracy_per_tier(federation, accuracy),
        accuracy_per_class=tuple(float(value) for value in accuracy.per_class),
        divergence=counted.divergence,
        accuracy_on={name: score if math.isfinite(score) else math.nan for name, score in others},
        score_name=federation.world.task.score_name,
    )


def accuracy_per_tier(federation: Federation, accuracy: Scores) -> dict[str, float]:
    """Accuracy on the data of weak and strong devices, weakest first.

    Devices are ranked by their mean availability and cut into thirds. A tier's accuracy is that of each class, weighted by
    how often the tier's devices have the class: what a fresh draw of their examples would give where devices differ in
    their labels. (With a natural partition they differ in style as well, which this does not see.) A tier that holds only
    classes without test examples has none: NaN. A task without classes has no tiers.
    """
    world, classes = federation.world, federation.world.task.num_classes
    if classes is None:
        return {}
    devices: Integers = np.arange(min(world.devices, 10_000))
    spans = range(min(federation.training.rounds, _TIER_ROUNDS))
    means = np.mean([world.availability.during(index, devices).means() for index in spans], axis=0)
    tiers = np.array_split(devices[np.argsort(means, kind="stable")], len(TIERS))
    shares = {}
    for name, members in zip(TIERS, tiers, strict=True):
        if len(members):
            examples = np.concatenate([world.partition.examples_of(int(device)) for device in members])
            counts = np.bincount(world.dataset.train.targets[examples], minlength=classes)
            tested = counts[~np.isnan(accuracy.per_class)].sum()
            shares[name] = float(np.nansum(counts * accuracy.per_class) / tested) if tested else math.nan
    return shares
