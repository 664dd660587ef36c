"""A federated run that leaves a record: metrics, checkpoints and a result, and goes on where it was stopped."""

import dataclasses
import math
import sys
import time
from typing import Annotated, Any

import jax
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from distreal_jax.availability.segments import Floats, Integers
from distreal_jax.errors import InputError
from distreal_jax.fleet.evaluation import Scores
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.round import RoundResult
from distreal_jax.plan import RoundPlan
from distreal_jax.record.checkpoint import Checkpoints
from distreal_jax.record.divergence import divergence
from distreal_jax.record.interruption import uninterrupted
from distreal_jax.record.json_values import json_value
from distreal_jax.record.logged import round_row
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.record.tracking import Tracker
from distreal_jax.settings import COUNT, SECONDS, check_settings
from distreal_jax.signs import Pace, bar, duration, say

RESULT = "result.json"
_RESULT_KIND = "distreal_jax result"
TIERS = ("weakest third", "middle third", "strongest third")
_WORTH_A_WORD = 3.0  # seconds of a first round, chosen by us
_TIER_ROUNDS = 20  # rounds over which a device's mean availability is taken for its tier, chosen by us


@dataclasses.dataclass(frozen=True)
class RecordSettings:
    """How a run is watched.

    Attributes:
      eval_every: Rounds between evaluations.
      checkpoint_every: Evaluations between checkpoints.
      round_seconds: Simulated seconds of a round; chosen by us, a unit of the time axis and nothing else.
      stop_on_divergence: End a run that has diverged at the evaluation that shows it; what is said of it is the same.
    """

    eval_every: Annotated[int, COUNT] = 5
    checkpoint_every: Annotated[int, COUNT] = 1
    round_seconds: Annotated[float, SECONDS] = 60.0
    stop_on_divergence: bool = False

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass
class Counted:
    """What is summed up over rounds, on the host; JSON values.

    Attributes:
      divergence: What shows that the run has diverged; None: nothing so far.
      records: The lines of metrics so far.
      spent: MACs in mini-batches that are done and uploaded.
      wasted: MACs in work that the deadline cut, or that was not uploaded.
      idle: What devices could have done in their rounds and did not, in the unit of the load: MACs that the full network
        would have computed with it.
      client_rounds: How often a device was asked to train.
      deadline_hits: How many of these the deadline cut short.
      left_out: How many uploads the server refused.
      bytes_up: From devices to the server.
      bytes_down: From the server to devices.
      widest: The largest table entry that was trained; -1: none yet.
      round_computing: When the last client of each round was done, in parts of the round.
      round_bytes: The most bytes that one client of each round received and sent.
    """

    divergence: str | None = None
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    spent: float = 0.0
    wasted: float = 0.0
    idle: float = 0.0
    client_rounds: int = 0
    deadline_hits: int = 0
    left_out: int = 0
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    widest: int = -1
    round_computing: list[float] = dataclasses.field(default_factory=list)
    round_bytes: list[float] = dataclasses.field(default_factory=list)

    def add(self, federation: Federation, plan: RoundPlan) -> None:
        """Counts a planned round; MACs are those of the forward and backward passes of all its examples."""
        macs_of_mini_batch = 3.0 * federation.world.network.macs() * federation.training.batch_size
        counts = plan.entries >= 0
        spent = plan.work_spent * _macs_of_work(federation, plan, counts)
        wasted = plan.work_wasted * _macs_of_work(federation, plan, ~counts)
        self.spent += macs_of_mini_batch * float(spent.sum())
        self.wasted += macs_of_mini_batch * float(wasted.sum())
        self.idle += macs_of_mini_batch * float(plan.work_idle.sum())
        self.client_rounds += len(plan.clients)
        self.deadline_hits += int(plan.deadline_hits.sum())
        up, down = federation.bytes_moved(plan)
        self.bytes_up += float(up.sum())
        self.bytes_down += float(down.sum())
        self.round_computing.append(plan.last_finish)
        self.round_bytes.append(float((up + down).max(initial=0.0)))
        self.widest = max(self.widest, int(plan.entries.max(initial=-1)))


def _macs_of_work(federation: Federation, plan: RoundPlan, among: npt.NDArray[np.bool_]) -> Floats:
    """MACs that a client computes in a unit of its work, where the full network computes 1, [clients].

    Just 1 where work is counted in MACs; the seconds of a narrow network hold fewer MACs than those of the full one.

    Args:
      federation: Has the table.
      plan: Says what is done in each mini-batch, and with which entry.
      among: The mini-batches meant, bool [clients, steps].
    """
    macs_of_entries = federation.table.costs() / federation.costs
    work = np.where(among, plan.work, 0.0)
    macs = (work * macs_of_entries[plan.begun]).sum(axis=1)
    return np.divide(macs, work.sum(axis=1), out=np.ones(len(work)), where=work.any(axis=1))


def recorded_run(
    federation: Federation,
    folder: RunFolder,
    settings: RecordSettings,
    *,
    tracker: Tracker | None = None,
    name: str = "metrics",
) -> MethodResult:
    """Trains all rounds of a federation, or those that are left.

    Args:
      federation: One method in one world.
      folder: Where metrics, checkpoints and the result go.
      settings: How the run is watched.
      tracker: Weights & Biases beside the files.
      name: Of the stream of metrics.

    Returns:
      The result, which a run that was finished before returns at once.
    """
    tracker = tracker or Tracker(None)
    rounds = federation.training.rounds
    checkpoints = Checkpoints(folder.path, folder.identity)
    finished = _finished(federation, folder, settings)
    if finished is not None:
        _restore_finished(folder, name, checkpoints.counted(), finished)
        return finished
    server = federation.start()
    begin, counted = 0, Counted()
    latest = checkpoints.latest(server)
    if latest is not None:
        begin, server, counted = latest.rounds, latest.state, Counted(**latest.counted)
        folder.say_what_changed()
    folder.restore_metrics(name, counted.records)
    told = counted.divergence is not None
    split = "validation" if "test" in federation.world.also_on else "test"
    accuracy: Scores | None = None
    name_of_run = f"{federation.method.name} (seed {federation.world.seed})"
    progress = bar(total=rounds, initial=begin, desc=name_of_run, unit="round")
    pace = Pace(rounds)
    pending: list[RoundResult] = []
    _say_what_begins(name_of_run, federation, begin)
    with progress:
        for index in range(begin, rounds):
            if counted.divergence is not None and settings.stop_on_divergence:
                break
            plan, work = federation.plan(index)
            started = time.monotonic()
            server, result = federation.run_round(server, work, index)
            if index == begin and time.monotonic() - started > _WORTH_A_WORD:
                say(f"{name_of_run}: first round after {duration(time.monotonic() - started)}, most of them compiling")
            pending.append(result)
            counted.add(federation, plan)
            done = index + 1
            if done % settings.eval_every == 0 or done == rounds:
                accuracy = federation.evaluate(server.params, counted.widest)
                record = _evaluated(counted, federation, settings, done, pending, accuracy, server.params)
                pending.clear()
                stops = record["diverged"] and settings.stop_on_divergence
                with uninterrupted():
                    folder.append_metrics(name, record)
                    if (done // settings.eval_every) % settings.checkpoint_every == 0 or done == rounds or stops:
                        checkpoints.save(done, server, dataclasses.asdict(counted))
                say(_evaluation(name_of_run, record, rounds, federation.world.task.score_name, pace.left(done)))
                tracker.log(round_row(record, split, federation.world.task.score_name), done)
                if counted.divergence is not None and not told:
                    told = True
                    tracker.summarise({"divergence": counted.divergence})
                    tqdm.write(counted.divergence, file=sys.stderr)  # above a bar that is on the screen
                progress.set_postfix(accuracy=f"{accuracy.accuracy:.3f}", refresh=False)
            progress.update()
    accuracy = accuracy or federation.evaluate(server.params, counted.widest)
    outcome = _result(federation, server.params, counted, accuracy)
    folder.write_part(RESULT, _RESULT_KIND, outcome.to_json())
    return outcome


def _say_what_begins(name: str, federation: Federation, begin: int) -> None:
    training, programs = federation.training, len(federation.table.entries) if federation.execution == "compact" else 1
    say(
        f"{name}: rounds {begin + 1:,} to {training.rounds:,}, each of {training.devices_per_round:,} of "
        f"{federation.world.devices:,} devices; up to {programs} programs to compile first, or to read from the cache"
    )


def _evaluation(name: str, record: dict[str, Any], rounds: int, score: str, left: str) -> str:
    """An evaluation in one line."""
    parts = [
        f"{name}: round {record['round']:,} of {rounds:,}",
        f"{score} {record['accuracy']:.3f}",
        f"{record['simulated_seconds']:,.0f} simulated seconds",
        left,
    ]
    return ", ".join(part for part in parts if part)


def _finished(federation: Federation, folder: RunFolder, settings: RecordSettings) -> MethodResult | None:
    """The result that the folder has already, if it can be believed to be this run's."""
    stored = folder.read_part(RESULT, _RESULT_KIND)
    if stored is None:
        return None
    try:
        result = MethodResult.from_json(stored, str(folder.path / RESULT))
    except InputError as error:
        folder.refuse_part(RESULT, str(error))
        return None
    asked, rounds = (federation.method.name, federation.world.seed), float(federation.training.rounds)
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
    if known != list(zip(result.rounds, result.accuracies, strict=True)):
        sys.stderr.write(
            f"{folder.path / name}.jsonl is not what {RESULT} says, and no checkpoint is left to restore it from\n"
        )


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
    full = accuracy.score if delivered == 1 else federation.world.evaluator(params).score
    if not (math.isfinite(accuracy.score) and math.isfinite(full)):
        raise InputError(
            f"the {federation.world.task.score_name} of {federation.method.name} is not finite after round {done}: training "
            "diverged; lower the learning rate, or give clip_norm"
        )
    fetched = jax.device_get(pending)
    averaged = sum(float(result.clients) for result in fetched)
    left_out = sum(int(result.left_out) for result in fetched)
    counted.left_out += left_out
    if counted.divergence is None:
        counted.divergence = divergence(federation, params, done=done, loss=accuracy.loss, left_out=left_out)
    record: dict[str, Any] = {
        "round": done,
        "simulated_seconds": done * settings.round_seconds,
        "method": federation.method.name,
        "seed": federation.world.seed,
        "accuracy": accuracy.score,
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


def _result(federation: Federation, params: Any, counted: Counted, accuracy: Scores) -> MethodResult:
    others = federation.world.also_on.items()
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
        memory_bytes=federation.memory_bytes(counted.widest),
        accuracy_per_tier=accuracy_per_tier(federation, accuracy),
        accuracy_per_class=tuple(float(value) for value in accuracy.per_class),
        divergence=counted.divergence,
        accuracy_on={name: federation.evaluate(params, counted.widest, test).accuracy for name, test in others},
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
