"""Claims about seconds of any table and any size of mini-batches: measured once, kept in a file, counted by one deadline."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from distreal_jax import processes
from distreal_jax.availability import make_availability
from distreal_jax.errors import InputError
from distreal_jax.experiment.measured import counted_in
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import table_for
from distreal_jax.fleet.step_seconds import StepSeconds
from distreal_jax.fleet.timed_step import ClientSteps
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS, method_named
from distreal_jax.record.recorded_run import Counted
from distreal_jax.table import Configuration, DropoutTable

SETTINGS = WorldSettings(partition="iid", devices=4, availability="constant:0.5", cost="seconds:pi")
TRAINING = TrainingSettings(devices_per_round=2, steps=3, batch_size=10)
SMALL = dataclasses.replace(TRAINING, steps=30, batch_size=1)  # as many examples
FULL = (16, 32, 32, 64)


@dataclasses.dataclass(frozen=True)
class Timer:
    """A step that always takes as long."""

    seconds: float

    def seconds_of_step(self) -> float:
        return self.seconds


def seconds_of(configuration: Configuration, batch_size: int) -> float:
    """Of a device with an overhead of four examples: 14 for the full network's step of ten, 5 for one of one."""
    return 4 + configuration.examples(batch_size) * sum(configuration.widths) / sum(FULL) / (1 + configuration.depth)


@pytest.fixture(scope="module")
def world() -> World:
    return World.make(SETTINGS, seed=0)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is timed: sizes of mini-batches, and how many configurations."""
    timed = []

    def fake(steps: ClientSteps, configurations: Sequence[Configuration]) -> list[Timer]:
        size = steps._federation.training.batch_size
        timed.append((size, len(configurations)))
        return [Timer(seconds_of(each, size)) for each in configurations]

    monkeypatch.setattr(ClientSteps, "timed", fake)
    return timed


def federation(world: World, method: str, training: TrainingSettings, seconds: StepSeconds) -> Federation:
    chosen = method_named(method)
    table = table_for(chosen, world, DropoutTable.uniform(world.network, [0, 0.5]), training, seconds.measured)
    return Federation(world, chosen, table, training)


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("name", [name for name in METHODS if name != "slt"])
def test_every_method_can_be_counted_in_seconds(name: str, world: World, tmp_path: Path) -> None:
    own = federation(world, name, TRAINING, StepSeconds("pi", tmp_path / "seconds.json"))
    seconds = [seconds_of(entry.configuration, TRAINING.batch_size) / 14 for entry in own.table.entries]
    assert own.table.costs("seconds:pi").tolist() == pytest.approx(seconds, abs=0.03)  # widths are padded up
    assert (own.plan(0)[0].begun[:, 0] >= 0).all()


def test_small_mini_batches_meet_the_same_deadline(world: World, measured: list[tuple[int, int]], tmp_path: Path) -> None:
    seconds = StepSeconds("pi", tmp_path / "seconds.json")
    offered = seconds.of_round(world, TRAINING)
    assert offered == pytest.approx(3 * 14)
    of_round = dataclasses.replace(world, seconds_offered=offered)
    large, small = (federation(of_round, "partial_work", training, seconds) for training in (TRAINING, SMALL))
    assert large.costs.tolist() == [1.0] and small.costs.tolist() == pytest.approx([5 * 30 / 42])
    # Half of 42 seconds: one step of 14, or four of 5.
    assert [own.plan(0)[0].steps_done.tolist() for own in (large, small)] == [[1, 1], [4, 4]]
    blind = federation(world, "partial_work", SMALL, seconds)
    assert blind.plan(0)[0].steps_done.tolist() == [15, 15], "without it a round offers 30 of its own steps"
    assert measured == [(10, 1), (10, 1), (1, 1)], "the reference, the full network's step at both sizes"


@pytest.mark.usefixtures("measured")
def test_what_devices_leave_unused_is_counted_in_the_full_networks_macs(world: World, tmp_path: Path) -> None:
    seconds = StepSeconds("pi", tmp_path / "seconds.json")
    load = make_availability("constant:1", seed=0, num_devices=world.devices)
    of_round = dataclasses.replace(world, seconds_offered=2 * 30 * 5.0, availability=load)
    counted, own = Counted(), federation(of_round, "partial_work", SMALL, seconds)
    counted.add(own, own.plan(0)[0])
    of_clients = 2 * 30 * world.network.training_macs()  # which do all of their 30 steps in half of the time
    assert (counted.spent, counted.idle) == pytest.approx((of_clients, of_clients))


def test_what_is_known_is_not_measured_again(world: World, measured: list[tuple[int, int]], tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "seconds.json"
    first = federation(world, "adaptive_batch", TRAINING, StepSeconds("pi", file)).costs.tolist()
    count = len(measured)
    again = StepSeconds("pi", file)
    assert federation(world, "adaptive_batch", TRAINING, again).costs.tolist() == first
    assert len(measured) == count
    federation(world, "adaptive_batch", dataclasses.replace(TRAINING, momentum=0.9), again)
    assert len(measured) == count + 2, "the reference, and other steps"


@pytest.mark.usefixtures("measured")
def test_a_file_of_seconds_that_is_no_good_is_refused(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "seconds.json"
    StepSeconds("pi", file).of_round(world, TRAINING)
    with pytest.raises(InputError, match="has the seconds of 'pi', not of 'phone'; give each device a file"):
        StepSeconds("phone", file)
    file.write_text(file.read_text().replace('"examples": 10', '"examples": 0'))
    with pytest.raises(InputError, match=r"examples is 0, expected a whole number .*; remove it, and it is measured again"):
        StepSeconds("pi", file)
    with pytest.raises(InputError, match=r"--seconds .* work is counted in MACs; give --cost seconds:NAME too"):
        counted_in(dataclasses.replace(SETTINGS, cost="macs"), TRAINING, file, world)
    with pytest.raises(InputError, match="slt makes stages that fit a budget of MACs; leave --cost out"):
        federation(world, "slt", TRAINING, StepSeconds("pi", tmp_path / "slt.json"))
    with pytest.raises(InputError, match="start one process first, without --share"):
        counted_in(SETTINGS, TRAINING, tmp_path / "shared.json", world, shared=True)
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(InputError, match="start one process first, without --share"):
        StepSeconds("pi", tmp_path / "other.json").of_round(world, TRAINING)


@pytest.mark.usefixtures("measured")
def test_a_command_counts_the_seconds_of_its_usual_round_or_those_that_are_given(world: World, tmp_path: Path) -> None:
    file = tmp_path / "seconds.json"
    counted = counted_in(SETTINGS, TRAINING, file, world)
    assert counted.of(world).seconds_offered == counted.settings.seconds_offered == pytest.approx(42)
    given = dataclasses.replace(SETTINGS, seconds_offered=7.0)
    assert counted_in(given, TRAINING, file, world).settings == given
    for settings in (SETTINGS, given):
        planned = counted_in(settings, TRAINING, tmp_path / "no file", world, planned=True)
        assert planned.of(world).cost == "macs" and planned.measured is None and "MACs stand in" in planned.notes[0]
        assert ("a round offers" in planned.notes[0]) == bool(settings.seconds_offered)
    assert counted_in(SETTINGS, TRAINING, None, world).measured is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seconds.json"]


def test_seconds_are_measured_for_real(world: World, tmp_path: Path) -> None:
    seconds = StepSeconds("here", tmp_path / "seconds.json")
    here = dataclasses.replace(world, cost="seconds:here")
    table = table_for(METHODS["partial_work"], here, None, SMALL, seconds.measured)
    assert 1e-6 < table.full_seconds["here"] < 10 and seconds.of_round(here, SMALL) == 30 * table.full_seconds["here"]
