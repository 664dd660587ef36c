"""Tuning as part of an experiment: the same number of trials for every method, on a validation split with seeds of its own.

The first points of a method are trained for a quarter of the rounds, the better half of them for half, the better half of
these to the end (successive halving: Jamieson and Talwalkar, AISTATS 2016). Then the neighbours of the best are tried one by
one, each to half of the rounds, and to the end if it is ahead there. Then each method tries in the same way what was best
for the others, until none finds anything better. In the end, the best of a method are trained with further seeds, if there
are any, and the mean over all seeds decides. All of it is recorded runs: it can be stopped, and goes on where it was.
"""

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from distreal_jax.experiment.comparison import table_settings
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import Measured, table_for
from distreal_jax.fleet.programs import Execution
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World
from distreal_jax.methods import Method
from distreal_jax.record.json_values import settings_hash
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.recorded_run import RecordSettings, recorded_run
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.record.statistics import area_under_curve, final_accuracy
from distreal_jax.table import DropoutTable
from distreal_jax.tuning import (
    Knob,
    Point,
    TunedMethod,
    at_edges,
    first_points,
    in_common,
    knobs_of,
    next_point,
    settings_of,
)

Goal = Literal["final", "area"]
TunedFor = Annotated[
    Goal,
    tyro.conf.arg(help="What trials are scored by: final accuracy, or area: mean accuracy over time (early learning)."),
]
"""What methods are tuned for."""

FinalSeeds = Annotated[
    str,
    tyro.conf.arg(
        help="Further seeds, such as 1001-1003, with which the best three trials of each method, and its usual settings, "
        "are trained in the end. The mean over all seeds then decides. Empty: none."
    ),
]
"""Seeds of the finalists."""

FIRST_SHARE = 2 / 3  # of the trials that spread out; the others look around the best; chosen by us
FINALISTS = 3  # trials of a method that further seeds decide between, chosen by us
Searched = Callable[[World, Method], DropoutTable]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One point of a method, trained with every seed of the tuning.

    Trials are compared by these seeds, which all of them have. Finalists have further ones, by which one of them is chosen.

    Attributes:
      point: A value for each knob.
      results: One for each seed, as far as they were trained.
      goal: What it is scored by.
      further: One for each further seed; empty if it did not come that far.
      until: Rounds that it was asked for: an earlier tuning in the folder may have trained it further.
    """

    point: Point
    results: tuple[MethodResult, ...]
    goal: Goal = "final"
    further: tuple[MethodResult, ...] = ()
    until: float = math.inf

    @property
    def of_all_seeds(self) -> "Trial":
        """The same with all its seeds, to compare finalists by."""
        return dataclasses.replace(self, results=self.results + self.further, further=())

    @property
    def rounds(self) -> float:
        """Rounds that were trained."""
        return min(self.until, *(result.rounds[-1] for result in self.results))

    def score(self, rounds: float | None = None) -> float:
        """Validation accuracy until a round, mean over seeds: of the last three evaluations, or over time (`goal`)."""
        until = self.rounds if rounds is None else rounds
        scores = []
        for result in self.results:
            count = sum(at <= until for at in result.rounds)
            times, accuracies = result.times[:count], result.accuracies[:count]
            of_area = self.goal == "area"
            scores.append(area_under_curve(times, accuracies, times[-1]) if of_area else final_accuracy(accuracies))
        return float(np.mean(scores))

    @property
    def delivered(self) -> float:
        """MACs of the model that is scored, as a share of the full network's; mean over seeds."""
        return float(np.mean([result.delivered for result in self.results]))

    @property
    def tested(self) -> float:
        """Test accuracy at the end, mean over seeds: reported, never chosen by."""
        return float(np.mean([result.accuracy_on["test"] for result in self.results]))


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What tuning one method found.

    Attributes:
      method: The method, untuned.
      knobs: What it was tuned over.
      trials: All trials, in the order in which they were made; the first is of the usual settings.
      best: The best of those that were trained to the end; where there are further seeds, of those that have them.
    """

    method: Method
    knobs: tuple[Knob, ...]
    trials: tuple[Trial, ...]
    best: Trial

    def tuned(self) -> TunedMethod:
        """For the file of tuned settings."""
        tried = [trial.point for trial in self.trials]
        edges = {name: self.best.point[name] for name in at_edges(self.knobs, self.best.point, tried)}
        scores = self.best.of_all_seeds.score(), self.trials[0].of_all_seeds.score()
        return TunedMethod(self.method.name, self.best.point, *scores, len(self.trials), edges)


@dataclasses.dataclass(frozen=True)
class Tuner:
    """Runs trials in the worlds of the tuning's seeds.

    Attributes:
      worlds: One for each seed of all trials, with a validation split in place of the test set.
      training: The usual settings; its rounds are those of the end.
      record: How runs are watched.
      folder: Gets a folder for each trial and seed; None: nothing can be trained.
      searched: The searched table for a method in a world.
      execution: `compact` or `masked`.
      measured: As for `table_for`.
      goal: What trials are scored by.
      finals: As `worlds`, one for each further seed, of the finalists.
      compiled: What trials have compiled; those of a method have most of it in common.
    """

    worlds: tuple[World, ...]
    training: TrainingSettings
    record: RecordSettings
    folder: RunFolder | None
    searched: Searched
    execution: Execution = "compact"
    measured: Measured | None = None
    goal: Goal = "final"
    finals: tuple[World, ...] = ()
    compiled: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def rungs(self) -> tuple[int, int, int]:
        """Rounds of a quarter, a half and the whole, at evaluations."""
        every, rounds = self.record.eval_every, self.training.rounds
        quarter, half = (min(rounds, math.ceil(rounds / part / every) * every) for part in (4, 2))
        return quarter, half, rounds

    def knobs(self, method: Method) -> tuple[Knob, ...]:
        """What a method is tuned over with its table."""
        table = self.searched(self.worlds[0], method) if method.rates == "table" else None
        measured = table is not None and all(entry.progress is not None for entry in table.entries)
        return knobs_of(method, self.training, measured=measured, classes=self.worlds[0].task.num_classes is not None)

    def federation(self, method: Method, point: Point, world: World) -> Federation:
        """A trial in a world, which goes on for all rounds if it is good.

        Args:
          method: The method, before tuning.
          point: The settings to try, by name.
          world: The world of a seed.

        Raises:
          InputError: As `settings_of` and `table_for`.
        """
        tuned, training = settings_of(point, method, self.training)
        searched = self.searched(world, tuned) if tuned.rates == "table" else None
        table = table_for(tuned, world, searched, training, self.measured)
        return Federation(world, tuned, table, training, self.execution).using(self.compiled)

    def trained(self, method: Method, point: Point, rounds: int, worlds: Sequence[World] | None = None) -> Trial:
        """A trial with every seed, trained for that many rounds; a trial of fewer rounds continues.

        Args:
          method: The method, before tuning.
          point: The settings to try, by name.
          rounds: How many.
          worlds: Of the seeds; None: of those of all trials.
        """
        results = []
        assert self.folder is not None
        for world in self.worlds if worlds is None else worlds:
            federation = self.federation(method, point, world)
            settings = {
                "tuning": {key: value for key, value in self.folder.settings.items() if key not in self.folder.may_change},
                "method": dataclasses.asdict(federation.method),
                "training": dataclasses.asdict(federation.training),
                "seed": world.seed,
                "table": table_settings(federation),
                "rounds": rounds,
            }
            name = settings_hash({"method": method.name, "point": point})
            path = self.folder.path / method.name / f"{name}-seed{world.seed}"
            with RunFolder.at(path, settings, may_change=("rounds",)) as own:
                results.append(recorded_run(federation, own, self.record, until=rounds))
        return Trial(point, tuple(results), self.goal, until=rounds)

    def tune_all(
        self, methods: Sequence[Method], trials: int, seed: int, said: Callable[[str], None] = lambda _: None
    ) -> list[Tuning]:
        """Tunes every method, tries with each what was best for the others, and decides between the best by further seeds.

        So no method is behind only because good settings were found for another one, or because of one seed's luck.

        Args:
          methods: Which ones.
          trials: Of each before the exchange.
          seed: Of what is drawn.
          said: Told about each trial: its settings, how far it is trained and why.
        """
        tunings = self.all_exchanged([self.tune(method, trials, seed, said) for method in methods], said)
        return [self.decided(tuning, said) for tuning in tunings]

    def all_exchanged(self, tunings: Sequence[Tuning], said: Callable[[str], None] = lambda _: None) -> list[Tuning]:
        """With trials of what was best for the others, again and again until nobody finds anything better.

        Args:
          tunings: Of all methods.
          said: Told about each trial.
        """
        after, before = [*tunings], list[Point]()
        while (now := [tuning.best.point for tuning in after]) != before:
            before = now
            for index, tuning in enumerate(after):
                after[index] = self.exchanged(tuning, after, said)
        return after

    def decided(self, tuning: Tuning, said: Callable[[str], None] = lambda _: None) -> Tuning:
        """With the finalists trained with further seeds as well, and the best of them by the mean over all seeds.

        The usual settings are always among them. Without further seeds nothing changes.

        Args:
          tuning: Of the method.
          said: Told about each finalist.
        """
        if not self.finals:
            return tuning
        method, trials = tuning.method, {_key(trial.point): trial for trial in tuning.trials}
        ended = [trial for trial in tuning.trials if trial.rounds >= self.rungs[-1]]
        usual, *_ = tuning.trials
        finalists = sorted(ended, key=lambda trial: -trial.score())[:FINALISTS]
        for trial in finalists if usual in finalists else [*finalists, usual]:
            seeds = ", ".join(str(world.seed) for world in self.finals)
            said(f"{method.name}: {what_differs(trial.point, usual.point)}: in the final, trained with seeds {seeds}")
            further = self.trained(method, trial.point, self.rungs[-1], self.finals).results
            trials[_key(trial.point)] = dataclasses.replace(trial, further=further)
        best = max((trial for trial in trials.values() if trial.further), key=lambda trial: trial.of_all_seeds.score())
        whole = best.of_all_seeds
        over = f"{whole.score():.3f} over {len(whole.results)} seeds"
        said(f"{method.name}: best {over}, {what_differs(best.point, usual.point)}")
        self._forget()
        return dataclasses.replace(tuning, trials=tuple(trials.values()), best=best)

    def exchanged(self, tuning: Tuning, others: Sequence[Tuning], said: Callable[[str], None]) -> Tuning:
        """With trials of what was best for other methods, in the knobs that both have.

        The rest is as in its own best, and once more as usual: its own choices were the best beside other settings.

        Args:
          tuning: Of the method.
          others: Of all methods, this one or not.
          said: Told about each trial.
        """
        method, best, usual = tuning.method, tuning.best, tuning.trials[0].point
        done = {_key(trial.point): trial for trial in tuning.trials}

        def tell(what: str, why: str) -> None:
            said(f"{method.name}: {what}: {why}")

        for other, rest in itertools.product(others, (best.point, usual)):
            point = rest | in_common(tuning.knobs, other.best.point)
            if _key(point) in done and self._is_decided(done[_key(point)], best):
                continue
            what = f"as {other.method.name} at its best, {what_differs(point, usual)}"
            done[_key(point)] = self.beside(method, point, best, functools.partial(tell, what))
            best = max(best, done[_key(point)], key=self._at_end)
        if tuple(done.values()) != tuning.trials:
            said(f"{method.name}: {len(done)} trials with those of other methods' settings, best {best.score():.3f}")
            self._forget()
        return dataclasses.replace(tuning, trials=tuple(done.values()), best=best)

    def tune(self, method: Method, trials: int, seed: int, said: Callable[[str], None] = lambda _: None) -> Tuning:
        """The best of so many trials of a method.

        Args:
          method: The method.
          trials: Points that are tried, the usual settings among them.
          seed: Of what is drawn.
          said: Told about each trial: its settings, how far it is trained and why.
        """
        knobs, generator = self.knobs(method), np.random.default_rng([seed, *method.name.encode()])
        quarter, half, rounds = self.rungs
        points = first_points(knobs, max(1, math.ceil(trials * FIRST_SHARE)), generator)
        usual, done = _key(points[0]), dict[str, Trial]()

        def tell(point: Point, *why: str) -> None:
            number = [*done].index(_key(point)) if _key(point) in done else len(done)
            said(f"{method.name}: trial {number + 1} of {trials}, {what_differs(point, points[0])}: {', '.join(why)}")

        for point in points:
            tell(point, f"trained to round {quarter:,}")
            done[_key(point)] = self.trained(method, point, quarter)
        for before, after in ((quarter, half), (half, rounds)):
            alive = [key for key, trial in done.items() if trial.rounds >= before]
            kept = sorted(alive, key=lambda key: -done[key].score(before))[: math.ceil(len(alive) / 2)]
            for key in dict.fromkeys([*kept, usual]):  # the usual settings go to the end, to be compared with
                if done[key].rounds < after:
                    among = f"among the better half of {len(alive)} at round {before:,}"
                    tell(done[key].point, f"goes on to round {after:,}, {among if key in kept else 'to be compared with'}")
                done[key] = self.trained(method, done[key].point, after)
        best = max(done.values(), key=self._at_end)
        said(f"{method.name}: {len(done)} of {trials} trials, best {best.score():.3f}")
        while len(done) < trials:
            beside = next_point(knobs, best.point, [trial.point for trial in done.values()], generator)
            if beside is None:
                break
            done[_key(beside)] = self.beside(method, beside, best, functools.partial(tell, beside, "beside the best"))
            best = max(best, done[_key(beside)], key=self._at_end)
            said(f"{method.name}: {len(done)} of {trials} trials, best {best.score():.3f}")
        self._forget()
        return Tuning(method, knobs, tuple(done.values()), best)

    def beside(self, method: Method, point: Point, best: Trial, tell: Callable[[str], None]) -> Trial:
        """A trial that is trained to half of the rounds, and to the end if it is ahead of the best there.

        Args:
          method: The method, before tuning.
          point: The settings to try, by name.
          best: A trial that was trained to the end.
          tell: Told how far it is trained and why.
        """
        _, half, rounds = self.rungs
        tell(f"trained to round {half:,}")
        trial = self.trained(method, point, half)
        if self._is_decided(trial, best):
            return trial
        tell(f"goes on to round {rounds:,}, ahead of the best at round {half:,}")
        return self.trained(method, point, rounds)

    def _is_decided(self, trial: Trial, best: Trial) -> bool:
        """Whether nothing more is to be trained of a trial: it has come to the end, or is not ahead of the best at half."""
        _, half, rounds = self.rungs
        return trial.rounds >= rounds or (trial.rounds >= half and trial.score(half) <= best.score(half))

    def _forget(self) -> None:
        """What is compiled: the next method has other steps. For memory, not time."""
        self.compiled.clear()
        jax.clear_caches()

    def _at_end(self, trial: Trial) -> float:
        return trial.score() if trial.rounds >= self.rungs[-1] else -math.inf


def what_differs(point: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """A point in words: the settings that are not the usual ones."""
    differing = [f"{name} {value}" for name, value in point.items() if value != usual.get(name)]
    return ", ".join(differing) or "the usual settings"


def _key(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)


def rounds_of(trials: int, rungs: tuple[int, int, int], others: int = 0) -> int:
    """The most rounds that the trials of a method take with one seed, those of the best settings of others among them."""
    quarter, half, rounds = rungs
    first = max(1, math.ceil(trials * FIRST_SHARE))
    at_half = min(first, math.ceil(first / 2) + 1)  # the usual settings go on in any case
    at_end = min(at_half, math.ceil(at_half / 2) + 1)
    return first * quarter + at_half * (half - quarter) + at_end * (rounds - half) + (trials - first + others) * rounds
