"""What `--dry-run` says is what the run then does, and it leaves nothing behind."""

import dataclasses
import importlib
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distreal_jax.commands import (
    COMMANDS,
    compare,
    profile,
    search,
    train,
)
from distreal_jax.commands import map as commands_map
from distreal_jax.experiment import dry_run as dry_run_of
from distreal_jax.experiment.dry_run import MOST_PLANNED, forecast
from distreal_jax.experiment.estimate import StepSize, compiling_seconds, size_of_step, step_seconds
from distreal_jax.experiment.search_dry_run import measurements
from distreal_jax.experiment.speed import Speed, measured_speed
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import UNIFORM_RATES, table_for
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS
from distreal_jax.networks import make_network
from distreal_jax.record import RunFolder
from distreal_jax.record.recorded_run import RecordSettings, recorded_run
from distreal_jax.search import SearchSettings
from distreal_jax.search import search as search_vectors
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.search.space import KNOBS, Knob
from distreal_jax.step.outputs import batch_shapes
from distreal_jax.table import Configurations, DropoutTable
from distreal_jax.tracing import trace_network

TRAINING = TrainingSettings(rounds=3, devices_per_round=2, steps=3)
WORLD = WorldSettings(devices=5)


@pytest.fixture(scope="module")
def federation() -> Federation:
    world = World.make(WORLD, seed=0)
    method = METHODS["distreal_uniform"]
    return Federation(world, method, table_for(method, world, None, TRAINING), TRAINING, execution="masked")


def test_a_forecast_is_what_the_run_counts(federation: Federation, tmp_path: Path) -> None:
    plan = forecast(federation)
    with RunFolder.at(tmp_path / "run", {"rounds": 3}) as folder:
        result = recorded_run(federation, folder, RecordSettings())
    counted = plan.counted
    assert (counted.spent, counted.wasted, counted.idle) == (result.macs_spent, result.macs_wasted, result.macs_idle)
    assert (counted.client_rounds, counted.deadline_hits) == (result.client_rounds, result.deadline_hits)
    assert (counted.bytes_up, counted.bytes_down) == (result.bytes_up[-1], result.bytes_down[-1])
    examples = federation.world.network.training_macs() * TRAINING.batch_size
    np.testing.assert_allclose(plan.mini_batches @ plan.costs * examples, result.macs_spent)


def test_seconds_of_a_mini_batch_lie_on_the_line_through_those_measured() -> None:
    speed = Speed(compile_seconds=5, evaluate_seconds=1, macs=(0.2, 1.0), seconds=(0.1, 0.5), origin="")
    np.testing.assert_allclose(speed.of_mini_batches([0.2, 0.6, 1.0]), [0.1, 0.3, 0.5])
    alike = Speed(compile_seconds=5, evaluate_seconds=1, macs=(1.0, 1.0), seconds=(0.5, 0.5), origin="")
    np.testing.assert_allclose(alike.of_mini_batches([0.2, 1.0]), [0.5, 0.5])


def test_a_dry_run_tells_entries_deadlines_macs_bytes_and_time(federation: Federation) -> None:
    text = dry_run_of([federation], RecordSettings())
    plan = forecast(federation)
    for count in plan.mini_batches:
        assert re.search(rf"\|\s+{count:.0f}\s+\|", text)
    assert f"{plan.counted.deadline_hits:.0f} of 6" in text
    assert "About " in text and "(1 for training" in text and "for 1 evaluation." in text


def test_a_dry_run_shows_what_devices_choose_by(federation: Federation) -> None:
    assert "mean share of MACs" in dry_run_of([federation], RecordSettings())
    world, method = dataclasses.replace(federation.world, cost="seconds:pi 5"), METHODS["distreal"]
    table = DropoutTable.uniform(world.network, [0.0, 0.5]).with_seconds("pi 5", [6.0, 10.0], full_seconds=10.0)
    text = dry_run_of([dataclasses.replace(federation, world=world, method=method, table=table)], RecordSettings())
    assert "Devices choose by seconds on pi 5" in text and "mean share of seconds on pi 5" in text
    assert re.search(r"\| 0 +\| 60\.0% +\|", text) and "share of MACs" not in text


def test_a_long_training_is_planned_in_part_and_counted_whole(federation: Federation) -> None:
    longer = dataclasses.replace(federation, training=dataclasses.replace(TRAINING, rounds=10 * MOST_PLANNED))
    plan = forecast(longer)
    assert plan.planned == MOST_PLANNED and plan.counted.client_rounds == 2 * 10 * MOST_PLANNED
    assert "Counts are scaled up from 200 planned rounds" in dry_run_of([longer], RecordSettings())


def test_a_step_is_counted_as_its_jaxpr_says(federation: Federation) -> None:
    world, step = federation.world, federation.round.step
    whole, half = (
        size_of_step(step, world.params, [max(1, width // part) for width in world.network.full_widths], batch)
        for batch in [batch_shapes(world.train, 4)]
        for part in (1, 2)
    )
    assert whole.macs == 4 * world.network.training_macs() and half.macs < whole.macs / 3
    # At half of the filters activations are halved and weights are quartered, and there is more to do: gather, write back.
    assert half.bytes < whole.bytes and half.equations > whole.equations
    assert step_seconds(StepSize(2e9, 1e6, 100)) > step_seconds(StepSize(1e9, 1e6, 100))


def test_programs_compile_side_by_side_and_those_on_the_disk_cost_less() -> None:
    assert compiling_seconds(1, 10.0) >= 10.0
    assert compiling_seconds(8, 10.0) > compiling_seconds(4, 10.0) > compiling_seconds(0, 10.0, from_disk=4) > 0


def test_estimates_and_measurements_are_given_in_the_same_way(federation: Federation) -> None:
    text = dry_run_of([federation], RecordSettings(), speed_of=measured_speed)
    assert "Measured just now" in text and "Estimated from" in dry_run_of([federation], RecordSettings())


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"results", "validation_study"}))  # they train nothing
def test_no_dry_run_compiles_a_training_step(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = importlib.import_module(f"distreal_jax.commands.{name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distreal_jax.fleet.programs.RoundPrograms.compile", None)
    monkeypatch.setattr("distreal_jax.search.progress.Progress.__call__", None)
    few = {
        "population": {"devices": 20, "clients": 2},
        "account": {"workload": "A"},
        "benchmark": {"plan": True},
        "map": {"means": "0.3", "rates": "1", "methods": "partial_work,full_resources"},
        "tune": {"methods": "partial_work", "trials": 3},
        "compare": {"methods": "distreal,partial_work"},
    }
    command.main(command.Options(dry_run=True, **few.get(name, {})))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", [train, compare])
def test_a_dry_run_of_a_script_writes_nothing(
    script: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = {"method": "partial_work"} if script is train else {"methods": "distreal,partial_work", "seeds": "0,1"}
    options = script.Options(world=WORLD, training=TRAINING, execution="masked", dry_run=True, **asked)  # type: ignore[attr-defined]
    script.main(options)  # type: ignore[attr-defined]
    said = capsys.readouterr().out
    assert said.count("partial_work") == 1 and ("seed 0, one of 2" in said) == (script is compare)
    assert "Nothing was written." in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("methods", "needed"), [("partial_work,heterofl", False), ("partial_work,distreal", True)])
def test_a_dry_run_misses_a_table_only_where_a_method_uses_one(
    methods: str, needed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    world = dataclasses.replace(WORLD, model="leaf_cnn")  # no table comes with the package for it and digits
    options = compare.Options(methods=methods, seeds="0", world=world, training=TRAINING, execution="masked", dry_run=True)
    compare.main(options)
    assert ("uniform rates stand in" in capsys.readouterr().out) == needed


@pytest.mark.parametrize("name", ["compare", "map", "tune"])
def test_at_equal_computing_no_method_waits_and_each_is_named_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, world = importlib.import_module(f"distreal_jax.commands.{name}"), WORLD
    few = {"tune": {"trials": 1, "world": dataclasses.replace(world, validation=0.2)}, "map": {"means": "0.3", "rates": "1"}}
    asked = {"methods": "heterofl[cap=mean],fjord[idle=train]", "world": world, "iso_compute": True} | few.get(name, {})
    command.main(command.Options(training=TRAINING, execution="masked", dry_run=True, **asked))
    said = capsys.readouterr().out
    assert "heterofl[cap=mean,idle=train]" in said and "fjord[idle=train]" in said and "heterofl[cap=mean]" not in said


def test_a_dry_run_of_a_map_tells_every_cell_of_its_first_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = {"means": "0.3,1", "rates": "2", "methods": "partial_work,full_resources", "seeds": "0,1"}
    commands_map.main(commands_map.Options(world=WORLD, training=TRAINING, execution="masked", dry_run=True, **few))
    said = capsys.readouterr().out
    assert all(f"| {method} at {mean}, 2 " in said for method in ("partial_work", "full_resources") for mean in ("0.3", "1"))
    assert "The table is of seed 0, one of 2; the time is for all of them." in said and list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_profile_compiles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distreal_jax.fleet.timed_step._lowered", None)
    profile.main(profile.Options(world=WORLD, training=TRAINING, dry_run=True))
    # the table that comes with the package: 12 entries, the full network among them; 20 timings of 0.1 s each
    assert "12 training steps, to compile and to time 20 times each, by turns: at least 24 s" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_search_tells_what_it_would_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = SearchSettings(population=8, generations=3, repeats=2, final_repeats=2)
    short = ProgressSettings(rounds=1, devices=2, steps=3, batch_size=4, held_out=50, sizes=1)
    search.main(search.Options(world=WORLD, search=small, progress=short, dry_run=True))
    said = capsys.readouterr().out
    # 8 x 3 x 2; and twice 8 best, 12 vectors of one rate with the full network, and the narrowest that the search began with
    assert "At most 48 short trainings in 3 generations of 8, then 42 of the best" in said
    assert "6 mini-batches of 4, examples of 8x8, 34.7 MMACs at full shapes" in said  # 1,445,760 x 24
    assert "to compile about 1 program (" in said
    assert "Nothing was written." in said and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "population", "knobs"),
    [("digits_cnn", 8, ("filters",)), ("resnet20", 8, ("filters",)), ("digits_cnn", 4, KNOBS)],
)
def test_a_search_measures_at_most_what_its_dry_run_says(name: str, population: int, knobs: tuple[Knob, ...]) -> None:
    model = make_network(name, image_shape=(8, 8, 1), num_classes=10, seed=0)
    network = trace_network(model, jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32))
    small = SearchSettings(population=population, generations=3, repeats=2, final_repeats=2, knobs=knobs)
    measured = []

    def progress(vectors: Configurations, _: int) -> np.ndarray:
        measured.append(len(vectors.depths))
        return np.log(vectors.macs(network)) / 100

    uniform = [entry.configuration for entry in DropoutTable.uniform(network, UNIFORM_RATES).entries]
    search_vectors(network, progress, small, also=uniform, batch_size=8)
    selecting, afresh = measurements(network, small, batch_size=8)
    assert sum(measured[:-2]) == selecting and afresh - 2 * small.population <= sum(measured[-2:]) <= afresh


def test_a_dry_run_and_the_run_have_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = train.Options(world=WORLD)
    for dry in (False, True):
        with train.open_folder(options.output, "train", dataclasses.replace(options, dry_run=dry)) as folder:
            assert "dry_run" not in folder.settings
    assert len(list((tmp_path / "runs").iterdir())) == 1
