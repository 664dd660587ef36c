"""The plan of a round: which table entry each client runs at each mini-batch, and which mini-batches meet the deadline.

A plan depends on costs and availability only, never on weights. So a round is planned on the host and then run as data.

Time is exact. A client works at the rate a(t) * steps, counted in full mini-batches per round. A mini-batch of cost c that
begins at time s ends at the time e for which the integral of a(t) * steps from s to e equals c.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from distreal_jax import plan_shown
from distreal_jax.availability.draws import uniforms
from distreal_jax.availability.history import expected, expected_of_fleet
from distreal_jax.availability.segments import Availability, Floats, Integers, Segments, checked, unchanging
from distreal_jax.errors import InputError
from distreal_jax.methods import Method

MOST_MORE = 10  # times a round's mini-batches that `idle=train` may do, chosen by us: bounds a round's arrays
GROWTH = {"progress": 0.5, "best": 0.0}  # progress grows with mini-batches to this power, by pace; chosen by us
NOISE = 2.0  # standard errors above none from which on an entry's progress counts as measured; chosen by us
TOLERANCE = 1e-9  # of a full mini-batch, chosen by us: far above the rounding of sums of work, far below any cost


@dataclasses.dataclass(frozen=True)
class RoundPlan:
    """What every client of a round does. Work is counted in mini-batches of the full network.

    Attributes:
      clients: Indices of the devices that take part, int64 [clients].
      caps: The dearest entry that each client may run in the round, int32 [clients].
      entries: The table entry of each mini-batch that counts, int32 [clients, steps]; -1 if the mini-batch does not finish
        by the deadline or its client uploads nothing.
      uploads: Whether each client's update reaches the server, bool [clients].
      steps_done: Mini-batches finished by the deadline, uploaded or not, int32 [clients].
      finish_times: The end of each mini-batch in fractions of the round, float64 [clients, steps]; inf if it does not end.
      deadline_hits: Whether the deadline cut a client off before its last mini-batch, bool [clients].
      begun: The table entry of each mini-batch that begins before the deadline, whether or not it counts, int32
        [clients, steps]; -1 if none begins.
      work: The part of each mini-batch's work that is done by the deadline, float64 [clients, steps].
      work_offered: The work that each client could do, float64 [clients]: the sum of spent, wasted and idle work.
      work_spent: Work in mini-batches that are finished and uploaded, float64 [clients].
      work_wasted: Work in a mini-batch that the deadline cut, or in mini-batches that are not uploaded, float64 [clients].
      work_idle: Work that was possible after the last mini-batch or while a device waited, float64 [clients].
    """

    clients: Integers
    caps: npt.NDArray[np.int32]
    entries: npt.NDArray[np.int32]
    uploads: npt.NDArray[np.bool_]
    steps_done: npt.NDArray[np.int32]
    finish_times: Floats
    deadline_hits: npt.NDArray[np.bool_]
    begun: npt.NDArray[np.int32]
    work: Floats
    work_offered: Floats
    work_spent: Floats
    work_wasted: Floats
    work_idle: Floats

    def __str__(self) -> str:
        return plan_shown.as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return plan_shown.as_html(self)

    @property
    def last_finish(self) -> float:
        """When the last client stops computing, as a fraction of the round; 1 if the deadline cut a mini-batch."""
        finite = np.isfinite(self.finish_times)
        cut = np.any(self.deadline_hits) or np.any((self.begun >= 0) & ~finite)
        return 1.0 if cut else float(np.where(finite, self.finish_times, 0.0).max(initial=0.0))


def plan_round(
    method: Method,
    costs: npt.ArrayLike,
    availability: Availability,
    clients: npt.ArrayLike,
    *,
    round_index: int,
    steps: int,
    seed: int,
    progress: npt.ArrayLike | None = None,
    progress_stderr: npt.ArrayLike | None = None,
    most: int | None = None,
    only: int | None = None,
) -> RoundPlan:
    """Plans a round for all its clients at once. A client's plan does not depend on the other clients.

    Args:
      method: Decides when a device chooses an entry and what it does at the deadline. A device that chooses before each
        mini-batch has a budget for it: 1 / `steps` of a round at its present speed (pace `present`), or an equal share of
        the time that is left of the round (pace `remaining`). Paces `progress` and `best` go by measured progress; once a
        device has done an entry with measurable progress, it rather waits for another speed than trains one without. With
        `idle=train` a device trains on after its last mini-batch, and the plan has `planned_steps` columns.
      costs: Cost of a mini-batch with each entry, [entries], ascending, as fractions of what a round offers for each of its
        `steps` at full availability: of the full network's mini-batch, as a rule.
      availability: The availability of the devices over time; ignored if the method does not limit them.
      clients: Indices of the devices that take part, [clients].
      round_index: The round, 0 for the first.
      steps: Mini-batches of each client in a round.
      seed: The experiment's seed.
      progress: Measured progress of each entry, [entries], for paces `progress` and `best`.
      progress_stderr: Its standard error, [entries]; None: it is exact.
      most: The dearest entry that the method's schedule allows in this round; None: all are allowed.
      only: The entry that all devices run in this round, where a schedule says so.

    Raises:
      InputError: The costs are not ascending or not above 0, or there are no steps.
    """
    ascending = _checked(costs)
    if steps < 1:
        raise InputError(f"{steps} mini-batches a round given; expected at least 1")
    devices = np.asarray(clients, dtype=np.int64)
    segments = unchanging(np.ones(len(devices)))
    if method.limited:
        segments = checked(availability.during(round_index, devices), round_index, devices)
    clock, columns = _Clock(segments, steps), planned_steps(method, ascending, steps)
    cap = _caps(method, ascending, availability, segments, devices, round_index)
    cap = np.minimum(cap, len(ascending) - 1 if most is None else most) if only is None else np.full(len(devices), only)
    promises = None
    if method.by_progress and progress is not None:
        promises = _Promises.of(ascending, progress, progress_stderr, GROWTH[method.pace])
    log = _Log.of(len(devices), columns)
    running, promised = np.ones(len(devices), dtype=bool), np.zeros(len(devices), dtype=bool)
    for step in range(columns):
        entry, running = cap, running & ~log.cut
        if promises is not None:
            entry, measurable, until = promises.chosen(clock, log.done, cap, columns - step, promised & running)
            log.stopped |= running & promised & ~measurable
            log.waited += until - log.done
            log.done, running, promised = until, running & ~log.stopped, promised | (running & measurable)
        elif method.decided == "step" and method.unfinished != "layers":
            time, present = clock.at(log.done)
            share = 1.0 if method.pace == "present" else steps * (1.0 - time) / max(steps - step, 1)
            entry = np.minimum(_largest_within(ascending, present * share), cap)
        elif method.below_cap:
            entry = np.floor((cap + 1) * uniforms(seed, "plan/below_cap", devices, round_index, step)).astype(np.int64)
        after = log.done + ascending[entry]
        if method.unfinished == "layers":  # what the deadline leaves of a mini-batch is one with frozen layers
            cut = running & (after > clock.offered + TOLERANCE)
            fitting = _fitting(ascending, clock.offered - log.done + TOLERANCE)
            entry = np.where(cut & (fitting >= 0), fitting, entry)
            after, log.cut = log.done + ascending[entry], log.cut | cut
        log.begun[:, step] = np.where(running & (log.done < clock.offered), entry, -1)
        log.work[:, step] = np.where(running, np.clip(clock.offered - log.done, 0.0, ascending[entry]), 0.0)
        running &= after <= clock.offered + TOLERANCE
        log.entries[:, step] = np.where(running, entry, -1)
        log.finish_times[:, step] = np.where(running, clock.at(after)[0], np.inf)
        log.done = np.where(running, after, log.done)
    return _accounted(method, devices, cap, log, clock.offered, steps)


def planned_steps(method: Method, costs: npt.ArrayLike, steps: int) -> int:
    """The largest number of mini-batches that a client can do in a round; more than `steps` with `idle=train`.

    Args:
      method: Says what a device does after its last mini-batch.
      costs: Of the entries as fractions of the full network's, [entries].
      steps: Mini-batches of a round.
    """
    cheapest = float(np.min(costs))
    return steps if method.idle == "wait" else steps * min(MOST_MORE, math.ceil(1 / cheapest - TOLERANCE))


def _caps(
    method: Method, costs: Floats, availability: Availability, segments: Segments, devices: Integers, round_index: int
) -> Integers:
    """The dearest entry that each client may run in the round, as its method decides on it, [clients]."""
    if method.decided == "step" or not method.limited:
        return np.full(len(devices), len(costs) - 1)
    if method.decided == "never":
        return _largest_within(costs, np.full(len(devices), expected_of_fleet(method.cap, availability, devices)))
    return _largest_within(costs, expected(method.cap, availability, round_index, devices, segments.values[:, 0]))


@dataclasses.dataclass
class _Log:
    """What the clients did, written step by step.

    Attributes:
      entries: The entry that each ran in time, [clients, steps]; -1 from the deadline on.
      begun: The entry of each mini-batch that was begun, [clients, steps]; -1 if none was.
      finish_times: When each mini-batch ends, [clients, steps].
      work: Done in each, [clients, steps].
      done: Work in the mini-batches that were done in time, and what was possible while a device waited, [clients].
      waited: The latter, [clients].
      cut: Whether the deadline cut a mini-batch of which the last layers count, [clients].
      stopped: Whether a device stopped by itself, because nothing that fitted promised anything, [clients].
    """

    entries: npt.NDArray[np.int32]
    begun: npt.NDArray[np.int32]
    finish_times: Floats
    work: Floats
    done: Floats
    waited: Floats
    cut: npt.NDArray[np.bool_]
    stopped: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, clients: int, steps: int) -> "_Log":
        entries, begun = (np.full((clients, steps), -1, dtype=np.int32) for _ in range(2))
        finish_times, work = np.full((clients, steps), np.inf), np.zeros((clients, steps))
        cut, stopped = (np.zeros(clients, dtype=bool) for _ in range(2))
        return cls(entries, begun, finish_times, work, np.zeros(clients), np.zeros(clients), cut, stopped)


def _accounted(method: Method, devices: Integers, cap: Integers, log: _Log, offered: Floats, steps: int) -> RoundPlan:
    """What is uploaded, and what became of the work that the devices could have done.

    Args:
      method: Says what an unfinished device uploads.
      devices: That take part, [clients].
      cap: The dearest entry of each, [clients].
      log: What they did.
      offered: Work that was possible, [clients].
      steps: Mini-batches of a round.
    """
    steps_done = np.count_nonzero(log.entries >= 0, axis=1).astype(np.int32)
    missed, ended = (~log.stopped & (log.cut | np.less(steps_done, full)) for full in (steps, log.entries.shape[1]))
    uploads = ~missed if method.unfinished == "discard" else np.greater(steps_done, 0)
    spent = np.where(uploads, np.minimum(log.done, offered) - log.waited, 0.0)
    return RoundPlan(
        clients=devices,
        caps=cap.astype(np.int32),
        entries=np.where(uploads[:, np.newaxis], log.entries, np.int32(-1)),
        uploads=uploads,
        steps_done=steps_done,
        finish_times=log.finish_times,
        deadline_hits=missed,
        begun=log.begun,
        work=log.work,
        work_offered=offered,
        work_spent=spent,
        work_wasted=np.where(ended, offered - log.waited - spent, 0.0),
        work_idle=np.where(ended, log.waited, offered - spent),
    )


class _Clock:
    """When each client has done how much work, in mini-batches of the full network since the round began."""

    def __init__(self, segments: Segments, steps: int) -> None:
        self._times = segments.times
        self._values = segments.values
        self._speeds = segments.values * steps
        self.steps = steps
        work = np.cumsum(np.diff(segments.times) * self._speeds, axis=1)
        self._work = np.pad(work, ((0, 0), (1, 0)))
        self.offered: Floats = work[:, -1]

    def at(self, done: Floats) -> tuple[Floats, Floats]:
        """Time at which each client has done `done` [clients], and its availability from then on."""
        passed = np.sum(self._work[:, 1:-1] <= done[:, np.newaxis] + TOLERANCE, axis=1)
        rows = np.arange(len(done))
        time = self._times[rows, passed] + (done - self._work[rows, passed]) / self._speeds[rows, passed]
        return np.clip(time, self._times[rows, passed], 1.0), self._values[rows, passed]

    def next_change(self, done: Floats) -> Floats:
        """The work that is possible until the availability changes next, or else until the deadline, [clients]."""
        later = np.where(self._work > done[:, np.newaxis] + TOLERANCE, self._work, np.inf)
        return np.minimum(later.min(axis=1), self.offered)


def _largest_within(costs: Floats, budgets: Floats) -> Integers:
    """The last entry whose cost is within each budget; the first, which is the cheapest, if none is."""
    return np.maximum(_fitting(costs, budgets * (1 + TOLERANCE)), 0)


def _fitting(costs: Floats, budgets: Floats) -> Integers:
    """The last entry whose cost is within each budget; -1 if none is."""
    return np.searchsorted(costs, budgets, side="right").astype(np.int64) - 1


class _Promises(NamedTuple):
    """What entries promise, by their measured progress."""

    costs: Floats  # [entries]
    progress: Floats  # [entries], at least 0
    measurable: npt.NDArray[np.bool_]  # [entries], progress is above none by more than its noise
    growth: float  # progress grows with mini-batches to this power

    @classmethod
    def of(cls, costs: Floats, progress: npt.ArrayLike, stderr: npt.ArrayLike | None, growth: float) -> "_Promises":
        measured = np.asarray(progress, dtype=np.float64)
        noise = np.zeros_like(measured) if stderr is None else np.asarray(stderr, dtype=np.float64)
        return cls(costs, np.maximum(measured, 0.0), measured > NOISE * noise, growth)

    def chosen(
        self, clock: "_Clock", done: Floats, cap: Integers, steps: int, choosy: npt.NDArray[np.bool_]
    ) -> tuple[Integers, npt.NDArray[np.bool_], Floats]:
        """The entry that each client takes next, whether its progress is measurable, and when it begins; [clients] each.

        A choosy client takes none without measurable progress. It waits, and looks again when its speed changes.

        Args:
          clock: Of the clients.
          done: The work that is past, [clients].
          cap: The dearest entry that each may take, [clients].
          steps: Mini-batches that a client may still do in the round.
          choosy: Who has done a mini-batch with measurable progress in this round, [clients].

        Returns:
          The entries; whether they are measurable; the work that is past when the mini-batch begins.
        """
        while True:
            time, present = clock.at(done)
            entry, measurable = self.best(present * clock.steps * (1.0 - time), cap, steps)
            waits = choosy & ~measurable & (done < clock.offered - TOLERANCE)
            if not waits.any():
                return entry, measurable, done
            done = np.where(waits, clock.next_change(done), done)

    def best(self, left: Floats, cap: Integers, steps: int) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """The entry with the most progress by the deadline, and whether it is measurable; [clients] each.

        An entry whose progress is not measurable is taken only where no other can be done in time; the cheapest, where none
        can.

        Args:
          left: What each client can still compute at its present speed, in mini-batches of the full network, [clients].
          cap: The dearest entry that each may take, [clients].
          steps: Mini-batches that a client may still do in the round.
        """
        mini_batches = np.minimum(np.floor(left[:, np.newaxis] / self.costs + TOLERANCE), steps)
        possible = (mini_batches > 0) & (np.arange(len(self.costs)) <= cap[:, np.newaxis])
        promised = np.where(possible, mini_batches**self.growth * self.progress, 0.0)
        surely = np.where(self.measurable, promised, 0.0)
        measurable = np.any(surely > 0, axis=1)
        best = np.argmax(np.where(measurable[:, np.newaxis], surely, promised), axis=1)
        return best.astype(np.int64), measurable


def _checked(costs: npt.ArrayLike) -> Floats:
    ascending = np.asarray(costs, dtype=np.float64)
    if ascending.ndim != 1 or not len(ascending):
        raise InputError(f"costs of shape {ascending.shape} given; expected [entries], at least one")
    if not np.all((ascending > 0) & np.isfinite(ascending)):
        wrong = ascending[~((ascending > 0) & np.isfinite(ascending))][0]
        raise InputError(f"cost {wrong:g} is no number above 0; expected fractions of the full network's mini-batch")
    if not np.all(np.diff(ascending) > 0):
        raise InputError("costs do not ascend from each entry to the next; sort the entries and keep one of each cost")
    return ascending
