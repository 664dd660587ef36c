"""Tuning: equal trials at equal MACs, a spread before a search, extended grids, and a file that comparisons take."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies

from distreal_jax.commands import validation_study
from distreal_jax.data.datasets import load_dataset, synthetic_dataset
from distreal_jax.document import write_document
from distreal_jax.errors import InputError
from distreal_jax.experiment.tuning import Tuner, Tuning, rounds_of
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS, Method, method_named
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.metrics import read_metrics
from distreal_jax.record.recorded_run import RESULT, RESULT_KIND, RecordSettings, recorded_run
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.table import DropoutTable
from distreal_jax.tuning import TunedMethod, TunedSettings, at_edges, first_points, knobs_of, next_point, settings_of
from distreal_jax.tuning.knobs import Point, batch_ladder, usual_point

TRAINING = TrainingSettings(rounds=8, devices_per_round=2, steps=4, batch_size=4)


@hypothesis.given(strategies.integers(1, 40), strategies.integers(1, 64))
def test_batch_sizes_divide_the_examples_of_a_round_and_hold_the_usual_one(steps: int, size: int) -> None:
    ladder = batch_ladder(TrainingSettings(steps=steps, batch_size=size))
    assert list(ladder) == sorted(set(ladder)) and size in ladder and ladder[0] == 1
    assert all(steps * size % other == 0 for other in ladder)


@pytest.mark.parametrize("name", METHODS)
def test_every_point_is_a_method_at_equal_macs_of_a_round(name: str) -> None:
    knobs = knobs_of(METHODS[name], TRAINING)
    points = first_points(knobs, 12, np.random.default_rng(0))
    assert len(points) == 12 and settings_of(points[0], METHODS[name], TRAINING)[1] == TRAINING
    for point in points:
        method, training = settings_of(point, METHODS[name], TRAINING)
        assert training.steps * training.batch_size == 16 and method.name == name
        assert set(point) == {knob.name for knob in knobs}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_tuned_over_a_masked_loss_where_the_task_has_classes(name: str) -> None:
    of_classes = {"masked_loss"} | ({"label_rows"} if METHODS[name].average == "covered" else set())
    names = {knob.name for knob in knobs_of(METHODS[name], TRAINING)}
    assert names - {knob.name for knob in knobs_of(METHODS[name], TRAINING, classes=False)} == of_classes


def test_the_first_points_use_each_learning_rate_and_batch_size_about_equally() -> None:
    training = TrainingSettings()
    points = first_points(knobs_of(METHODS["heterofl"], training), 13, np.random.default_rng(0))[1:]
    assert Counter(point["learning_rate"] for point in points) == dict.fromkeys((0.03, 0.1, 0.3, 1.0), 3)
    assert Counter(point["batch_size"] for point in points) == dict.fromkeys((2, 4, 8, 20), 3)
    assert len({(point["learning_rate"], point["batch_size"]) for point in points}) == 12


def test_a_grid_whose_best_lies_at_its_edge_is_extended() -> None:
    knobs, generator = knobs_of(METHODS["partial_work"], TrainingSettings()), np.random.default_rng(0)
    tried = first_points(knobs, 12, generator)
    best = {**tried[0], "learning_rate": 1.0}
    tried.append(best)
    assert "learning_rate" in at_edges(knobs, best, tried)
    rates = []
    for _ in range(8):
        point = next_point(knobs, best, tried, generator)
        assert point is not None and point not in tried and sum(point[name] != best[name] for name in best) == 1
        tried.append(point)
        rates.append(point["learning_rate"])
        best = point if point["learning_rate"] > best["learning_rate"] else best
    assert 3.0 in rates and 10.0 in rates
    assert "learning_rate" not in at_edges(knobs, best, tried)  # there is nothing beyond 10
    without_3 = [point for point in tried if point["learning_rate"] != 3.0]
    assert "learning_rate" not in at_edges(knobs, best, without_3)  # a gap below the best is no edge


def test_whole_numbers_stand_for_numbers_in_settings() -> None:
    whole = TrainingSettings(learning_rate=1, momentum=0)
    _, tuned = settings_of({"learning_rate": 0.3, "momentum": 0.9}, METHODS["partial_work"], whole)
    assert (tuned.learning_rate, tuned.momentum) == (0.3, 0.9)
    with pytest.raises(InputError, match="momentum is True; expected a number"):
        settings_of({"momentum": True}, METHODS["partial_work"], whole)


def test_what_is_next_to_the_best_ends_when_all_of_it_was_tried() -> None:
    knobs, generator = knobs_of(METHODS["full_resources"], TRAINING), np.random.default_rng(0)
    tried = first_points(knobs, 1, generator)
    while (point := next_point(knobs, tried[0], tried, generator)) is not None:
        tried.append(point)
    assert len(tried) == 1 + sum(len(knob.beside(knob.usual)) for knob in knobs)


def test_a_validation_split_is_a_part_of_the_training_data_with_its_share_of_each_class() -> None:
    whole = load_dataset("digits")
    split = whole.validated(0.2, seed=3)
    assert split.train.num_examples + split.test.num_examples == whole.train.num_examples
    classes = np.bincount(split.test.targets) / np.bincount(whole.train.targets)
    np.testing.assert_allclose(classes, 0.2, atol=0.01)
    rows = {image.tobytes() for image in split.train.inputs} | {image.tobytes() for image in split.test.inputs}
    assert rows == {image.tobytes() for image in whole.train.inputs}
    again, other = whole.validated(0.2, seed=3), whole.validated(0.2, seed=4)
    np.testing.assert_array_equal(again.test.inputs, split.test.inputs)
    assert not np.array_equal(other.test.inputs, split.test.inputs)
    for share in (0.0, 1.0, 1e-9):
        with pytest.raises(InputError, match="validation split"):
            whole.validated(share, seed=0)


def test_a_world_with_a_validation_split_scores_it_and_has_the_test_set_beside_it(world: World) -> None:
    whole = synthetic_dataset(num_examples=80, image_shape=(8, 8, 1), num_classes=3, seed=0)
    split = whole.validated(0.3, seed=1000)
    assert world.partition.sizes.sum() == split.train.num_examples == 56
    np.testing.assert_array_equal(world.evaluator.test.inputs, split.test.inputs)
    np.testing.assert_array_equal(world.also_on["test"].test.inputs, whole.test.inputs)
    with pytest.raises(InputError, match=r"validation is 1\.5"):
        WorldSettings(validation=1.5)


def test_smaller_images_are_said_in_the_name_of_the_set() -> None:
    whole = load_dataset("digits")
    small = whole.shrunk(2)
    assert small.name == "digits at 4x4" and small.train.inputs.shape == (whole.train.num_examples, 4, 4, 1)
    assert small.test.inputs[0, 0, 0, 0] == round(float(whole.test.inputs[0, :2, :2, 0].mean()))
    with pytest.raises(InputError, match="shrink is 0"):
        WorldSettings(shrink=0)


def world_of(settings: WorldSettings = WorldSettings(devices=4, validation=0.3)) -> World:
    dataset = synthetic_dataset(num_examples=80, image_shape=(8, 8, 1), num_classes=3, seed=0)
    return World.make(settings, 1000, dataset)


@pytest.fixture(scope="module")
def world() -> World:
    return world_of()


def stand_in(federation: Federation, folder: RunFolder, record: RecordSettings, until: int) -> MethodResult:
    """No training: accuracy rises to what the learning rate is worth, 0.3 being best, and a little with the batch."""
    del folder
    rounds = tuple(float(done) for done in range(record.eval_every, until + 1, record.eval_every))
    worth = 0.9 - 0.2 * abs(np.log10(federation.training.learning_rate / 3)) + 0.001 * federation.training.batch_size
    curve = tuple(float(worth * done / (done + 1)) for done in rounds)
    ones, count = (1.0,) * int(rounds[-1]), dict.fromkeys(("client_rounds", "deadline_hits", "clients_left_out"), 0)
    return MethodResult(
        federation.method.name, federation.world.seed, times=rounds, accuracies=curve, full_accuracies=curve, delivered=1.0,
        rounds=rounds, macs=rounds, macs_spent=1.0, macs_wasted=0.0, macs_idle=0.0, **count, bytes_up=rounds,
        bytes_down=rounds, round_computing=ones, round_bytes=ones, memory_bytes=1.0, accuracy_on={"test": curve[-1]},
    )  # fmt: skip


def tuner_of(world: World, folder: RunFolder) -> Tuner:
    uniform = DropoutTable.uniform(world.network, (0.0, 0.5))
    return Tuner((world,), TRAINING, RecordSettings(eval_every=1), folder, lambda *_: uniform, "masked")


@pytest.mark.parametrize("name", ["partial_work", "distreal"])
def test_every_method_gets_its_trials_and_the_best_of_them_is_found(
    name: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, int]] = []

    def counting(federation: Federation, folder: RunFolder, record: RecordSettings, until: int) -> MethodResult:
        ran.append((folder.path.name, until))
        return stand_in(federation, folder, record, until)

    monkeypatch.setattr("distreal_jax.experiment.tuning.recorded_run", counting)
    said: list[str] = []
    with RunFolder.at(tmp_path / "tune", {}, may_change=("trials",)) as folder:
        tuning = tuner_of(world, folder).tune(method_named(name), 12, 1000, said.append)
    tuned = tuning.tuned()
    assert tuned.trials == len(tuning.trials) == 12
    assert tuned.point["learning_rate"] == 3.0 > 1.0, "beyond the grid, whose best lay at its edge"
    assert "learning_rate" not in tuned.at_edge and tuned.score > tuned.untuned
    assert {rounds for _, rounds in ran} == {2, 4, 8}
    assert Counter(rounds for _, rounds in ran)[2] == 8  # the others begin at half, next to the best
    trained = sum(max(rounds for path, rounds in ran if path == trial) for trial in {path for path, _ in ran})
    assert trained <= rounds_of(12, (2, 4, 8))
    assert said[0] == f"{name}: trial 1 of 12, the usual settings: trained to round 2"
    of_trials = [line for line in said if ": trial " in line]
    assert len(of_trials) == len(set(ran)), "a line each time a trial begins or goes on"
    for number, trial in enumerate(tuning.trials, 1):
        differs = [f"{knob} {value}" for knob, value in trial.point.items() if value != tuning.trials[0].point[knob]]
        (begins, *goes_on) = [line for line in of_trials if line.startswith(f"{name}: trial {number} of 12, ")]
        assert all(part in begins for part in differs) and all(" goes on to round " in line for line in goes_on)
    assert any("among the better half of 8 at round 2" in line for line in of_trials)


def test_what_was_best_for_one_method_is_tried_with_the_others(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distreal_jax.experiment.tuning.recorded_run", stand_in)
    methods, said = [METHODS["partial_work"], METHODS["distreal"], METHODS["full_resources"]], list[str]()
    with RunFolder.at(tmp_path / "tune", {}, may_change=("trials",)) as folder:
        tuner = tuner_of(world, folder)
        alone = [tuner.tune(method, 3, 1000) for method in methods]
        together = tuner.tune_all(methods, 3, 1000, said.append)
    found = [tuning.best.score() for tuning in alone]
    best = max(found)
    assert min(found) < best, "not all found the best by themselves"
    for before, after in zip(alone, together, strict=True):
        assert after.best.score() >= best and after.trials[:3] == before.trials and len(after.trials) <= 5
        assert [*after.best.point] == [knob.name for knob in after.knobs], "knobs that only others have are left alone"
        assert after.tuned().trials == len(after.trials)
    exchanged = [line for line in said if ": as " in line]
    assert any(f": as {methods[int(np.argmax(found))].name} at its best, " in line for line in exchanged)
    assert any(line.endswith("trained to round 4") for line in exchanged)
    assert any(line.endswith("goes on to round 8, ahead of the best at round 4") for line in exchanged)


def test_an_exchange_tries_others_settings_beside_the_usual_choices_as_well(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distreal_jax.experiment.tuning.recorded_run", stand_in)
    method, other = METHODS["distreal_uniform"], METHODS["partial_work"]
    with RunFolder.at(tmp_path / "tune", {}, may_change=("trials",)) as folder:
        tuner = tuner_of(world, folder)
        usual = usual_point(tuner.knobs(method))
        best = tuner.trained(method, usual | {"pace": "remaining"}, 8)
        tuning = Tuning(method, tuner.knobs(method), (tuner.trained(method, usual, 8), best), best)
        theirs = usual_point(tuner.knobs(other)) | {"learning_rate": 0.3, "batch_size": 2}
        found = tuner.trained(other, theirs, 8)
        exchanged = tuner.exchanged(tuning, [tuning, Tuning(other, tuner.knobs(other), (found,), found)], lambda _: None)
    tried = [trial.point for trial in exchanged.trials[2:]]
    assert tried == [best.point | theirs, usual | theirs] and [point["pace"] for point in tried] == ["remaining", "present"]


def test_a_trial_that_an_earlier_tuning_trained_further_is_judged_at_the_rounds_that_are_asked_for(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_the_disk(federation: Federation, folder: RunFolder, record: RecordSettings, until: int) -> MethodResult:
        return stand_in(federation, folder, record, 8)

    monkeypatch.setattr("distreal_jax.experiment.tuning.recorded_run", on_the_disk)
    with RunFolder.at(tmp_path / "tune", {}, may_change=("trials",)) as folder:
        tuner, method = tuner_of(world, folder), METHODS["partial_work"]
        point = usual_point(tuner.knobs(method))
        half, whole = (tuner.trained(method, point, rounds) for rounds in (4, 8))
    assert (half.rounds, whole.rounds) == (4, 8) and half.score() == whole.score(4) < whole.score()


def test_an_exchange_goes_on_beside_the_choices_that_it_found(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of others, the one has a pace that is better, the other a batch size that is good with that pace alone."""

    def by_pace(federation: Federation, folder: RunFolder, record: RecordSettings, until: int) -> MethodResult:
        training, pace = federation.training, federation.method.pace
        theirs = training.batch_size == 2
        accuracy = {("present", False): 0.5, ("remaining", False): 0.6, ("remaining", True): 0.9}.get((pace, theirs), 0.1)
        if federation.method.name == simple.name and theirs:
            accuracy = 0.8
        return dataclasses.replace(stand_in(federation, folder, record, until), accuracies=(accuracy,) * until)

    monkeypatch.setattr("distreal_jax.experiment.tuning.recorded_run", by_pace)
    method, simple, like = METHODS["distreal_uniform"], METHODS["partial_work"], METHODS["distreal"]
    with RunFolder.at(tmp_path / "tune", {}, may_change=("trials",)) as folder:
        tuner = tuner_of(world, folder)
        usual = usual_point(tuner.knobs(method))

        def found(of: Method, point: Point) -> Tuning:
            trial = tuner.trained(of, point, 8)
            return Tuning(of, tuner.knobs(of), (tuner.trained(of, usual, 8), trial), trial)

        own = found(method, usual)
        others = [found(simple, usual_point(tuner.knobs(simple)) | {"batch_size": 2})]
        others.append(found(like, usual | {"pace": "remaining"}))
        best = tuner.all_exchanged([own, *others])[0].best
    assert (best.point["pace"], best.point["batch_size"]) == ("remaining", 2) and best.score() == pytest.approx(0.9)


def test_an_exchange_goes_on_with_a_trial_that_was_dropped_early(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distreal_jax.experiment.tuning.recorded_run", stand_in)
    method, other = METHODS["partial_work"], METHODS["full_resources"]
    with RunFolder.at(tmp_path / "tune", {}, may_change=("trials",)) as folder:
        tuner = tuner_of(world, folder)
        usual = usual_point(knobs_of(method, TRAINING))
        better = usual | {"learning_rate": 3.0}
        best = tuner.trained(method, usual, 8)
        dropped = tuner.trained(method, better, 2)
        tuning = Tuning(method, knobs_of(method, TRAINING), (best, dropped), best)
        found = Tuning(other, tuning.knobs, (tuner.trained(other, better, 8),), tuner.trained(other, better, 8))
        exchanged = tuner.exchanged(tuning, [tuning, found], lambda _: None)
    assert exchanged.best.point == better and exchanged.best.rounds == 8
    assert [trial.point for trial in exchanged.trials] == [usual, better]


def test_further_seeds_decide_between_the_best_of_one_seed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lucky(federation: Federation, folder: RunFolder, record: RecordSettings, until: int) -> MethodResult:
        """In seed 1000 a rate of 0.3 is ahead of 0.1 by luck, in others behind; 1.0 and 3.0 are the worst everywhere."""
        worth = {0.03: 0.4, 0.1: 0.5, 0.3: 0.6 if federation.world.seed == 1000 else 0.2, 1.0: 0.1, 3.0: 0.0}
        result = stand_in(federation, folder, record, until)
        return dataclasses.replace(result, accuracies=(worth[federation.training.learning_rate],) * until)

    monkeypatch.setattr("distreal_jax.experiment.tuning.recorded_run", lucky)
    method, said = METHODS["partial_work"], list[str]()
    with RunFolder.at(tmp_path / "tune", {}, may_change=("trials",)) as folder:
        one = dataclasses.replace(tuner_of(world, folder), worlds=(dataclasses.replace(world, seed=1000),))
        more = dataclasses.replace(one, finals=tuple(dataclasses.replace(world, seed=seed) for seed in (1001, 1002)))
        usual = usual_point(knobs_of(method, TRAINING)) | {"learning_rate": 3.0}
        trials = [one.trained(method, usual | {"learning_rate": rate}, 8) for rate in (3.0, 0.03, 0.1, 0.3, 1.0)]
        early = one.trained(method, usual | {"learning_rate": 0.1, "momentum": 0.9}, 4)
        tuning = Tuning(method, knobs_of(method, TRAINING), (*trials, early), trials[3])
        assert one.decided(tuning) == tuning
        found = more.decided(tuning, said.append)
        unlucky = Tuning(method, tuning.knobs, (trials[2], trials[3]), trials[3])  # the usual settings are better in the end
        monkeypatch.setattr("distreal_jax.experiment.tuning.FINALISTS", 1)
        assert more.decided(unlucky).best.point == trials[2].point
    assert found.best.point["learning_rate"] == 0.1 and found.best.of_all_seeds.score() == pytest.approx(0.5)
    assert [len(trial.further) for trial in found.trials] == [2, 2, 2, 2, 0, 0]  # the first is the untuned one
    assert [trial.score() for trial in found.trials] == [trial.score() for trial in tuning.trials], "by seeds of all trials"
    assert [trial.point for trial in found.trials] == [trial.point for trial in tuning.trials]
    assert found.tuned().score == pytest.approx(0.5) and found.tuned().untuned == 0
    assert sum("in the final, trained with seeds 1001, 1002" in line for line in said) == 4
    assert said[-1] == "partial_work: best 0.500 over 3 seeds, learning_rate 0.1"


@pytest.mark.parametrize("name", ["partial_work", "fedgmr"])  # the latter is scheduled by the rounds of the whole
def test_a_trial_is_gone_on_with_and_its_curve_stays(world: World, tmp_path: Path, name: str) -> None:
    """A quarter of the rounds first, then half of them, is bitwise the same as the first half of all at once."""
    with RunFolder.at(tmp_path / "tune", {}, may_change=("trials",)) as folder:
        tuner, method = tuner_of(world, folder), METHODS[name]
        point = usual_point(knobs_of(method, TRAINING))
        first = tuner.trained(method, point, 2)
        whole = tuner.trained(method, point, 4)
        again = tuner.trained(method, point, 2)  # of a tuning that was stopped and started again
    assert (first.rounds, whole.rounds, again.rounds) == (2, 4, 2)
    assert whole.results[0].accuracies[:2] == first.results[0].accuracies and again.results == whole.results
    assert again.score() == first.score()
    assert whole.score(2) == first.score() and 0 <= whole.tested <= 1
    federation = tuner.federation(method, point, world)
    with RunFolder.at(tmp_path / "alone", {}) as folder:
        alone = recorded_run(federation, folder, tuner.record, until=4)
    assert alone == whole.results[0]
    (trial,) = (tmp_path / "tune" / name).iterdir()
    assert read_metrics(trial / "metrics.jsonl") == read_metrics(tmp_path / "alone/metrics.jsonl")
    assert not list(trial.glob("*.damaged"))


def test_methods_are_tuned_for_the_end_or_for_early_learning(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def early_or_late(federation: Federation, folder: RunFolder, record: RecordSettings, until: int) -> MethodResult:
        """Rates of at least 0.1 learn at once and stay at 0.5; lower ones learn nothing at first and end at 0.9."""
        result, fast = stand_in(federation, folder, record, until), federation.training.learning_rate >= 0.1
        curve = tuple(0.5 if fast else 0.9 * (done / TRAINING.rounds) ** 4 for done in result.rounds)
        return dataclasses.replace(result, accuracies=curve)

    monkeypatch.setattr("distreal_jax.experiment.tuning.recorded_run", early_or_late)
    found = {}
    for goal in ("final", "area"):
        with RunFolder.at(tmp_path / goal, {}, may_change=("trials",)) as folder:
            tuner = dataclasses.replace(tuner_of(world, folder), goal=goal)
            method, points = METHODS["partial_work"], {}
            for rate in (0.01, 0.1):
                points[rate] = usual_point(knobs_of(method, TRAINING)) | {"learning_rate": rate}
            found[goal] = {rate: tuner.trained(method, point, TRAINING.rounds).score() for rate, point in points.items()}
    assert found["final"][0.01] > found["final"][0.1] == 0.5
    assert found["area"][0.01] < found["area"][0.1] == pytest.approx(0.5)


@pytest.mark.parametrize("execution", ["masked", "compact"])
def test_trials_that_differ_in_rates_alone_compile_once_and_learn_as_if_they_had_compiled_for_themselves(
    world: World, execution: Any
) -> None:
    method, table = METHODS["distreal_uniform"], DropoutTable.uniform(world.network, (0.0, 0.5))
    usual = dataclasses.replace(TRAINING, momentum=0.5, server_optimizer="momentum")
    others = dataclasses.replace(usual, learning_rate=0.3, momentum=0.9, server_learning_rate=2.0)

    def trained(training: TrainingSettings, compiled: dict[Any, Any]) -> tuple[Federation, list[Any]]:
        federation = Federation(world, method, table, training, execution).using(compiled)
        server, _ = federation.run_round(federation.start(), federation.plan(0)[1], 0)
        return federation, jax.tree.leaves(jax.device_get(server.params))

    shared: dict[Any, Any] = {}
    first, before = trained(usual, shared)
    compilations = first.round.compilations()
    _, after = trained(others, shared)
    assert first.round.compilations() == compilations and sum(compilations.values()) >= 4
    _, alone = trained(others, {})
    for one, other in zip(after, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    cut = Federation(world, method, table, dataclasses.replace(others, batch_size=2, steps=8), execution).using(shared)
    assert cut.round.programs is not first.round.programs


TUNED = TunedSettings(
    [
        TunedMethod(
            "heterofl", {"learning_rate": 0.3, "batch_size": 5, "cap": "mean"}, 0.8, 0.7, 12, {"learning_rate": 0.3}
        ),
        TunedMethod("fedprox", {"fedprox_mu": 0.01, "client_weights": "equal"}, 0.8, 0.7, 12, {}),
    ],
    {"model": "digits_cnn", "availability": "constant:0.5", "validation": 0.2},
    {"rounds": 60},
    {"command": "tune", "seeds": [1000], "final_seeds": [0, 1001]},
)


def test_tuned_settings_read_back_and_change_a_method_and_its_training(tmp_path: Path) -> None:
    TUNED.save(tmp_path / "tuned.json")
    read = TunedSettings.load(tmp_path / "tuned.json")
    method, training = read.of(METHODS["heterofl"], TrainingSettings())
    assert method == dataclasses.replace(METHODS["heterofl"], cap="mean")
    assert training == TrainingSettings(learning_rate=0.3, batch_size=5, steps=40)
    _, training = read.of(METHODS["fedprox"], TrainingSettings())
    assert (training.fedprox_mu, training.client_weights) == (0.01, "equal")
    with pytest.raises(InputError, match=r"have none of 'distreal' .*; tune it too, or leave it out"):
        read.of(METHODS["distreal"], TrainingSettings())
    with pytest.raises(InputError, match="batch size of 5 does not divide the 12 examples"):
        read.of(METHODS["heterofl"], TrainingSettings(steps=3, batch_size=4))
    differs = read.differences({"model": "resnet20", "availability": "constant:0.5"}, {"rounds": 60})
    assert differs == ["model resnet20, tuned with digits_cnn"]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; expected a number"),
        ({"learning_rate": -1.0}, "learning-rate is -1; give"),
        ({"batch_size": 2.5}, "batch_size is 2.5; expected a whole number"),
        ({"batch_size": True}, "batch_size is True"),
        ({"rounds": 5}, "'rounds' is nothing to tune; choose from: learning_rate"),
        ({"cap": "most"}, "cap is most; choose from: present, mean, quartile"),
        ({"pace": "remaining"}, "give decided=step"),
    ],
)
def test_a_point_that_is_no_good_ends_in_one_line(point: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        settings_of(point, METHODS["heterofl"], TrainingSettings())
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_file_of_tuned_settings_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    TUNED.save(path)
    content = json.loads(path.read_text())
    content["methods"][0]["score"] = 0.99
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="was changed after it was written"):
        TunedSettings.load(path)


def test_a_comparison_with_tuned_settings_says_so(command: Any, tmp_path: Path) -> None:
    TUNED.save(tmp_path / "tuned.json")
    tiny = "--devices 4 --devices-per-round 2 --rounds 1 --steps 5 --batch-size 4 --eval-every 1".split()
    options = [*tiny, "--tuned", str(tmp_path / "tuned.json"), "--out", str(tmp_path / "out"), "--quiet"]
    status, _, error = command("compare", "--methods", "heterofl,partial_work", *options)
    assert status == 2 and "tune it too, or leave it out" in error and not (tmp_path / "out").exists()
    status, printed, error = command("compare", "--methods", "fedprox", *options)
    assert (status, error) == (0, "")
    report = (tmp_path / "out/report.md").read_text()
    assert "## Tuned settings" in report and "Tuned under other settings than these: availability" in report
    assert "Not independent of the tuning, which used the same data and load: seeds 0." in report
    config = json.loads((tmp_path / "out/fedprox-seed0/config.json").read_text())["settings"]
    assert config["training"]["fedprox_mu"] == 0.01 and "`fedprox`" in printed


def test_tuning_on_the_test_set_is_refused(command: Any, tmp_path: Path) -> None:
    status, _, error = command("tune", "--validation", "0", "--out", str(tmp_path / "out"))
    assert status == 2 and "give --validation a share such as 0.2" in error and not (tmp_path / "out").exists()
    status, _, error = command("tune", "--trials", "0", "--out", str(tmp_path / "out"))
    assert status == 2 and "trials is 0; give a whole number of at least 1" in error


def test_a_tuning_leaves_a_file_that_a_comparison_takes_and_a_picture(command: Any, tmp_path: Path) -> None:
    tiny = "--devices 4 --devices-per-round 2 --rounds 2 --steps 2 --batch-size 2 --eval-every 1".split()
    options = [*tiny, "--methods", "partial_work", "--trials", "2", "--execution", "masked", "--out", str(tmp_path / "tune")]
    status, _, said = command("tune", *options)
    assert status == 0 and "partial_work: 2 of 2 trials" in said
    tuned = TunedSettings.load(tmp_path / "tune/tuned.json")
    assert [method.name for method in tuned.methods] == ["partial_work"] and tuned.methods[0].trials == 2
    assert (tmp_path / "tune/sensitivity.png").read_bytes().startswith(b"\x89PNG")
    assert "(sensitivity.png)" in (tmp_path / "tune/report.md").read_text()
    before = {path: path.read_bytes() for path in (tmp_path / "tune").glob("partial_work/*/result.json")}
    assert command("tune", *options)[0] == 0
    assert {path: path.read_bytes() for path in before} == before


def finished_trial(folder: Path, name: str, validation: float, test: float | None, rounds: int = 4) -> None:
    """A trial's folder, as far as the study of the validation split reads it."""
    curves = dict.fromkeys(("times", "rounds", "macs", "bytes_up", "bytes_down"), (float(rounds),))
    whole = dict.fromkeys(("macs_spent", "macs_wasted", "macs_idle", "memory_bytes"), 1.0) | {"delivered": 1.0}
    counts = dict.fromkeys(("client_rounds", "deadline_hits", "clients_left_out"), 1)
    each = dict.fromkeys(("round_computing", "round_bytes"), (1.0,) * rounds)
    scores = {"accuracies": (validation,), "full_accuracies": (validation,)}
    on = {} if test is None else {"test": test}
    seed = int(name.partition("-seed")[2])
    result = MethodResult("salf", seed, accuracy_on=on, **curves, **scores, **whole, **counts, **each)  # type: ignore[arg-type]
    (folder / name).mkdir(parents=True)
    write_document(folder / name / RESULT, RESULT_KIND, 1, {"identity": "0" * 10, **result.to_json()})


def test_the_study_of_the_validation_split_counts_pairs_of_one_method_that_were_trained_to_the_end(tmp_path: Path) -> None:
    salf, other = tmp_path / "tuning" / "salf", tmp_path / "tuning" / "partial_work"
    for name, validation, test in [("a", 0.90, 0.80), ("b", 0.905, 0.79), ("c", 0.70, 0.60)]:
        finished_trial(salf, f"{name}-seed1000", validation, test)
    finished_trial(salf, "a-seed1001", 0.2, 0.1)  # of a final, which only the best have
    finished_trial(salf, "dropped-seed1000", 0.99, 0.0, rounds=2)
    finished_trial(salf, "untested-seed1000", 0.99, None)
    finished_trial(other, "d-seed1000", 0.5, 0.4)
    finished_trial(other, "d-seed1001", 0.7, 0.6)  # the same settings with another seed
    finished_trial(other, "e-seed1000", 0.6, 0.9)
    finished_trial(other, "e-seed1001", 0.62, 0.9)
    finished_trial(tmp_path / "tuning" / "alone", "f-seed1000", 0.5, 0.4)
    found = {tuned.method: tuned for tuned in validation_study.every_tuned(f"{tmp_path}/tun* {tmp_path}/tuning")}
    assert sorted(found) == ["partial_work", "salf"]  # one setting alone has no order
    assert found["salf"].pairs() == [(pytest.approx(0.005), pytest.approx(-0.01)), *[(ANY, ANY)] * 2]
    assert found["salf"].lost == pytest.approx(0.01) and found["salf"].correlation == pytest.approx(0.5)
    assert found["partial_work"].pairs() == [(pytest.approx(0.01), pytest.approx(0.4))] and found["partial_work"].lost == 0
    rows = [line.strip("| ").split("|") for line in validation_study.report(list(found.values())).splitlines()]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert cells["above 0.03"] == ["2", "100%"] and cells["any"] == ["4", "75%"]
    assert cells[f"`{tmp_path}/tuning`"] == ["2", "5", "+0.75", "0.005", "0.010"]


def test_a_study_without_finished_trials_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "tuning" / "salf").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="names no tuning for final accuracy that has trials that ran to the end"):
        validation_study.main(validation_study.Options(folders=f"{tmp_path}/tuning {tmp_path}/nothing {tmp_path}/notes.txt"))
