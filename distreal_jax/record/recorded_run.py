"""A federated run that leaves a record: metrics, checkpoints and a result, and goes on where it was stopped."""

import dataclasses
import sys
from typing import Any

from tqdm import tqdm

from distreal_jax import processes
from distreal_jax.errors import InputError
from distreal_jax.fleet.evaluation import Scores
from distreal_jax.fleet.federation import Federation
from distreal_jax.record.checkpoint import Checkpoints
from distreal_jax.record.counted import Counted
from distreal_jax.record.evaluations import TIERS, RecordSettings, accuracy_per_tier, evaluations, result_of
from distreal_jax.record.interruption import uninterrupted
from distreal_jax.record.logged import round_row
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.record.tracking import Tracker
from distreal_jax.signs import say, scored_on

__all__ = ["RESULT", "TIERS", "Counted", "RecordSettings", "accuracy_per_tier", "recorded_run"]

RESULT = "result.json"
RESULT_KIND = "distreal_jax result"


def recorded_run(
    federation: Federation,
    folder: RunFolder,
    settings: RecordSettings,
    *,
    tracker: Tracker | None = None,
    name: str = "metrics",
    until: int | None = None,
) -> MethodResult:
    """Trains all rounds of a federation, or those that are left.

    Args:
      federation: One method in one world.
      folder: Where metrics, checkpoints and the result go.
      settings: How the run is watched.
      tracker: Weights & Biases beside the files.
      name: Of the stream of metrics.
      until: As for `trained_rounds`: a part of the whole, which may go on later where the folder lets `rounds` change.

    Returns:
      The result, which a run that was finished before returns at once.
    """
    tracker = tracker or Tracker(None)
    rounds = until or federation.training.rounds
    checkpoints = Checkpoints(folder.path, folder.identity)
    finished = _finished(federation, folder, settings, rounds)
    if finished is not None:
        _restore_finished(folder, name, checkpoints.counted(), finished)
        say(f"{finished.method} (seed {finished.seed}): finished before, its result is read from {folder.path / RESULT}")
        return finished
    server = federation.start()
    begin, counted = 0, Counted()
    latest = checkpoints.latest(server)
    if latest is not None:
        begin, server, counted = latest.rounds, latest.state, Counted(**latest.counted)
        folder.say_what_changed()
    folder.restore_metrics(name, counted.records)
    told = counted.divergence is not None
    if told and settings.stop_on_divergence:  # stopped at the evaluation that showed it, and again before its result
        begin = rounds
    split, score = scored_on(federation.world.also_on), federation.world.task.score_name
    last: Scores | None = None
    for evaluation in evaluations(federation, settings, begin=begin, server=server, counted=counted, until=rounds):
        done, server, last = evaluation.done, evaluation.server, evaluation.scores
        stops = evaluation.record["diverged"] and settings.stop_on_divergence
        with uninterrupted():
            folder.append_metrics(name, evaluation.record)
            if (done // settings.eval_every) % settings.checkpoint_every == 0 or done == rounds or stops:
                checkpoints.save(done, server, dataclasses.asdict(counted))
        tracker.log(round_row(evaluation.record, split, score), done)
        if counted.divergence is not None and not told:
            told = True
            tracker.summarise({"divergence": counted.divergence})
            if processes.is_first():
                tqdm.write(counted.divergence, file=sys.stderr)  # above a bar that is on the screen
    last = last or federation.evaluate(server.params, counted.widest)
    outcome = result_of(federation, server.params, counted, last)
    folder.write_part(RESULT, RESULT_KIND, outcome.to_json())
    return outcome


def _finished(federation: Federation, folder: RunFolder, settings: RecordSettings, rounds: int) -> MethodResult | None:
    """The result that the folder has already, if it can be believed to be this run's."""
    stored = folder.read_part(RESULT, RESULT_KIND)
    if stored is None:
        return None
    try:
        result = MethodResult.from_json(stored, str(folder.path / RESULT))
    except InputError as error:
        folder.refuse_part(RESULT, str(error))
        return None
    asked = federation.method.name, federation.world.seed
    stopped = settings.stop_on_divergence and result.divergence is not None
    if "rounds" in folder.may_change and (result.method, result.seed) == asked:
        return result if stopped or result.rounds[-1] >= rounds else None  # it is to have more, and goes on
    if (result.method, result.seed, rounds if stopped else result.rounds[-1]) != (*asked, rounds):
        reason = f"is of {result.method} with seed {result.seed} and {result.rounds[-1]:g} rounds, not of this run"
        folder.refuse_part(RESULT, f"{folder.path / RESULT} {reason}")
        return None
    return result


def _restore_finished(folder: RunFolder, name: str, counted: dict[str, Any] | None, result: MethodResult) -> None:
    """Gives a finished run the lines of metrics back that it lost since."""
    if counted is not None:
        folder.restore_metrics(name, Counted(**counted).records)
        return
    try:
        known = [(record.get("round"), record.get("accuracy")) for record in folder.read_metrics(name)]
    except InputError:
        known = []
    if processes.is_first() and known != list(zip(result.rounds, result.accuracies, strict=True)):
        sys.stderr.write(
            f"{folder.path / name}.jsonl is not what {RESULT} says, and no checkpoint is left to restore it from\n"
        )
