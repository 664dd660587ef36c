"""Claims about what an entry costs on a device: what is measured and kept, and that devices choose by it where asked to."""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from distreal_jax.availability import make_availability
from distreal_jax.availability.segments import Integers, Segments
from distreal_jax.commands import profile as commands_profile
from distreal_jax.errors import InputError
from distreal_jax.experiment import OutputSettings
from distreal_jax.experiment.comparison import table_settings
from distreal_jax.experiment.measured import CountedIn
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import table_for
from distreal_jax.fleet.profile import ProfileSettings, StepProfile, profile_steps
from distreal_jax.fleet.timed_step import ClientSteps, RelativeSeconds
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS, method_named
from distreal_jax.record.recorded_run import Counted
from distreal_jax.signs import said_on_stderr
from distreal_jax.table import Configuration, DropoutTable

WORLD = WorldSettings(partition="iid", devices=4, availability="constant:0.5")
TRAINING = TrainingSettings(devices_per_round=2, steps=3, batch_size=10)
NARROW, MIDDLE, FULL = (2, 2, 2, 4), (8, 16, 16, 64), (16, 32, 32, 64)


@pytest.fixture(scope="module")
def world() -> World:
    return World.make(WORLD, seed=0)


class Profiled(NamedTuple):
    """What the script left and printed, for a table that lacks the full network."""

    given: bytes
    path: Path
    folder: Path
    printed: str


@pytest.fixture(scope="module")
def profiled(world: World, tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    folder = tmp_path_factory.mktemp("profile")
    path = folder / "given.json"
    DropoutTable.from_widths(world.network, [NARROW, MIDDLE], progress=[0.1, 0.2], provenance={"seed": 3}).save(path)
    given, lines = path.read_bytes(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text: lines.append(text))
        commands_profile.main(
            commands_profile.Options(
                table=str(path),
                device_name="bench",
                profile=ProfileSettings(repetitions=3, sample_seconds=0.001, more=0),
                world=WORLD,
                training=TRAINING,
                output=OutputSettings(out=folder / "out"),
            )
        )
    return Profiled(given, path, folder / "out", "\n".join(lines))


def test_every_entry_gets_seconds_and_flops(profiled: Profiled, world: World) -> None:
    table = DropoutTable.load(profiled.folder / "table.json").checked_for(world.network)
    assert [entry.widths for entry in table.entries] == [NARROW, MIDDLE]
    assert all(entry.seconds["bench"] > 0 and entry.flops > 0 for entry in table.entries)
    assert table.full_seconds["bench"] > 0
    assert table.costs("seconds:bench").tolist() == [
        entry.seconds["bench"] / table.full_seconds["bench"] for entry in table.entries
    ]


def test_flops_are_those_of_one_step_however_many_are_timed(profiled: Profiled, world: World) -> None:
    table = DropoutTable.load(profiled.folder / "table.json")
    results = json.loads((profiled.folder / "results.json").read_text())
    narrow, middle, full = *(entry.flops for entry in table.entries), results["full_flops"]
    assert narrow < middle < full
    # Each MAC is a multiplication and an addition.
    assert 1 <= middle / (2 * TRAINING.batch_size * world.network.training_macs(MIDDLE)) < 1.2
    assert 1 <= full / (2 * TRAINING.batch_size * world.network.training_macs()) < 1.2


def test_what_the_table_said_before_stays_and_the_given_file_too(profiled: Profiled) -> None:
    assert profiled.path.read_bytes() == profiled.given
    table = DropoutTable.load(profiled.folder / "table.json")
    assert [entry.progress for entry in table.entries] == [0.1, 0.2] and table.provenance["seed"] == 3
    source = table.provenance["seconds:bench"]
    assert source["commit"] and source["versions"] and source["training"]["batch_size"] == TRAINING.batch_size


def test_the_report_has_a_line_for_each_entry_and_the_picture(profiled: Profiled) -> None:
    report = (profiled.folder / "report.md").read_text()
    rows = [line.split("|")[1:-1] for line in profiled.printed.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows] == ["entry", "0", "1"]
    assert all("|".join(row) in report for row in rows)
    assert rows[1][1].strip() == f"{DropoutTable.load(profiled.path).costs()[0]:.1%}"
    assert (profiled.folder / "seconds.png").read_bytes().startswith(b"\x89PNG") and "(seconds.png)" in report
    samples = np.array(json.loads((profiled.folder / "results.json").read_text())["samples"])
    assert samples.shape == (2, 3) and (samples > 0).all()
    assert '--cost "seconds:bench"' in profiled.printed


def test_a_report_whose_entries_are_all_slower_than_the_full_network_says_so(world: World) -> None:
    """Its measurements are kept: a busy machine is enough for that."""
    table = DropoutTable.from_widths(world.network, [NARROW, MIDDLE])
    measured = table.with_seconds("busy", [2.0, 3.0], full_seconds=1.0)
    profile = profile_steps(
        Federation(world, METHODS["distreal"], table, TRAINING), ProfileSettings(repetitions=1, sample_seconds=1e-4, more=0)
    )
    assert measured.worth_choosing("seconds:busy") == () and len(measured.worth_choosing()) == 2
    assert (
        "every entry is slower than the full network" in commands_profile.section_of(table, measured, profile, "busy").text
    )
    with pytest.raises(InputError, match="every entry of the table is slower"):
        measured.undominated("seconds:busy")


def test_parts_of_a_mini_batch_are_measured_as_such(world: World) -> None:
    table = DropoutTable.from_widths(world.network, [FULL]).with_cut_batches(TRAINING.batch_size)
    federation = Federation(world, METHODS["distreal"], table, TRAINING)
    measured = profile_steps(federation, ProfileSettings(repetitions=1, sample_seconds=1e-4, more=0))
    examples = federation.examples
    assert examples is not None and len(examples) > 2
    # FLOPs follow the examples, but for the update of the weights
    assert np.all(np.diff(measured.flops) > 0) and measured.flops[-1] == measured.full_flops
    share = (measured.flops[0] - 3 * world.network.macs()) / measured.full_flops
    assert share < 2 * examples[0] / TRAINING.batch_size
    # by seconds, devices choose among parts of mini-batches as among filters
    seconds = table.with_seconds("pi", examples.tolist(), full_seconds=float(TRAINING.batch_size))
    by_seconds = dataclasses.replace(federation, world=dataclasses.replace(world, cost="seconds:pi"), table=seconds)
    np.testing.assert_allclose(by_seconds.costs, examples / TRAINING.batch_size)


def test_what_is_timed_is_as_wide_as_the_program_of_a_round_and_what_is_counted_is_not(world: World) -> None:
    """A round computes 6 of 16 filters as 8, and an entry of 8 in the same program (docs/benchmarks.md)."""
    federation = Federation(world, METHODS["distreal"], DropoutTable.full(world.network), TRAINING)
    steps = ClientSteps(federation, sample_seconds=1e-4)
    odd, even = Configuration((6, 8, 16, 64)), Configuration((8, 8, 16, 64))
    assert steps.program(odd) == steps.program(even) and steps.program(odd).widths == even.widths
    assert steps.flops(odd) < steps.flops(even)
    half = dataclasses.replace(even, batch_share=0.5, depth=1)
    assert (steps.program(half).examples, steps.program(half).depth) == (TRAINING.batch_size // 2, 1)
    seconds = RelativeSeconds(federation, "bench", samples=1, sample_seconds=1e-4)
    longer = dataclasses.replace(odd, step_factor=2.0)
    first, same, again = seconds([odd, even, longer])
    assert first == same == again > 0 and seconds.full_seconds > 0


def test_what_slows_the_whole_machine_down_is_no_noise_and_what_differs_between_entries_is(world: World) -> None:
    slow = np.array([1.0, 5.0, 1.0, 3.0])  # the machine, from turn to turn
    steady, restless = 0.5 * slow, slow * np.array([0.4, 0.5, 0.5, 0.8])
    profile = StepProfile(np.array([steady, restless]), np.array([1.0, 2.0]), slow, 3.0)
    np.testing.assert_allclose(profile.uncertainty[0], 0)
    # ratios 0.4, 0.5, 0.5, 0.8: quartiles 0.475 and 0.575 about 0.5
    np.testing.assert_allclose(profile.uncertainty[1], 1.57 * 0.1 / (0.5 * 2))
    assert profile.noisy == [1]
    table = DropoutTable.from_widths(world.network, [NARROW, MIDDLE])
    text = commands_profile.section_of(table, profile.added_to(table, "pi"), profile, "pi").text
    assert "too noisy to choose by**: the costs of 1 entries are uncertain by more than 5% after 4 timings" in text


def test_the_report_names_entries_that_leave_a_table_in_order_of_the_seconds_that_are_measured_anew(world: World) -> None:
    profile = StepProfile(np.array([[2.0] * 4, [3.0] * 4]), np.array([1.0, 2.0]), np.full(4, 10.0), 3.0)
    before = DropoutTable.from_widths(world.network, [NARROW, MIDDLE]).with_seconds("pi", [2.0, 5.0], 10.0)
    entries = [
        dataclasses.replace(entry, progress=progress) for entry, progress in zip(before.entries, (0.1, 0.2), strict=True)
    ]
    table = dataclasses.replace(before, entries=tuple(entries), unit="seconds:pi")
    slower = StepProfile(profile.samples[::-1], profile.flops, profile.full_samples, 3.0)  # the better entry is faster now
    measured = slower.added_to(table, "pi")
    assert len(measured.entries) == 1
    text = commands_profile.section_of(table, measured, slower, "pi").text
    assert "entries 0 are never chosen" in text and "| 30.0%" in text and "| 20.0%" in text


def test_noisy_timings_are_repeated_until_they_serve_or_as_often_as_was_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    timings = {"steady": itertools.repeat(1.0), "restless": itertools.cycle([1.0, 2.0, 3.0])}
    for kind, repetitions in (("steady", 3), ("restless", 3 * 3)):
        monkeypatch.setattr(ClientSteps, "flops", lambda *_: 1.0)
        monkeypatch.setattr(ClientSteps, "timed", lambda _, every, kind=kind: [FakeTimer(timings[kind])] * len(every))
        federation = Federation(world, METHODS["distreal"], DropoutTable.from_widths(world.network, [NARROW]), TRAINING)
        profile = profile_steps(federation, ProfileSettings(repetitions=3, more=2))
        assert profile.samples.shape == (1, repetitions) and bool(profile.noisy) == (kind == "restless")


def test_that_seconds_are_noisy_stays_with_the_table_and_is_said_where_devices_choose_by_them(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, full = DropoutTable.from_widths(world.network, [NARROW, MIDDLE]), np.ones(4)
    for name, samples in (("restless", [1.0, 2.0, 3.0, 4.0]), ("steady", [1.0] * 4)):
        profile = StepProfile(np.array([[0.5] * 4, samples]), np.ones(2), full, 1.0)
        profile.added_to(table, name).save(tmp_path / f"{name}.json")
    by = {name: CountedIn(dataclasses.replace(WORLD, cost=f"seconds:{name}")) for name in ("restless", "steady")}
    with said_on_stderr(quiet=False):
        for name in by:
            by[name].say_how_sure(DropoutTable.load(tmp_path / f"{name}.json"))
        restless = DropoutTable.load(tmp_path / "restless.json")
        CountedIn(WORLD).say_how_sure(restless)  # by MACs
        dataclasses.replace(by["restless"], measured=lambda table, *_: table).say_how_sure(restless)  # other seconds
        by["restless"].say_how_sure(table)
    said = capsys.readouterr().err
    assert said.startswith(
        "the table's seconds of restless are too noisy to choose by: the costs of 1 of 2 entries are uncertain"
    )
    assert said.count("\n") == 1


class FakeTimer:
    """A timer that reads what it is given; the next timer goes on where this one was."""

    def __init__(self, seconds: Iterator[float]) -> None:
        self.seconds = seconds

    def seconds_of_step(self) -> float:
        return next(self.seconds)


@pytest.mark.parametrize("settings", [{"repetitions": 0}, {"sample_seconds": 0.0}, {"sample_seconds": float("nan")}])
def test_measuring_nothing_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"; give a whole number of at least 1|; give a finite number of at least 1e-09"):
        ProfileSettings(**settings)


def measured(world: World, seconds: list[float]) -> DropoutTable:
    """Three entries, of 1 %, 27 % and 100 % of the MACs; the full network takes 10 s."""
    table = DropoutTable.from_widths(world.network, [NARROW, MIDDLE, FULL])
    return table.with_seconds("pi", seconds, full_seconds=10.0)


def by_seconds(world: World, method: str, seconds: list[float]) -> Federation:
    world = dataclasses.replace(world, cost="seconds:pi")
    chosen = method_named(method)
    return Federation(world, chosen, table_for(chosen, world, measured(world, seconds), TRAINING), TRAINING)


def widths_run(federation: Federation) -> set[tuple[int, ...]]:
    """Widths of the mini-batches of a round, in which every device has half of its resources."""
    plan, _ = federation.plan(0)
    return {federation.table.entries[entry].widths for entry in plan.entries[plan.entries >= 0]}


@pytest.mark.parametrize(
    ("seconds", "widths"),
    [
        ([3.0, 6.0, 10.0], NARROW),  # 6 of 10 seconds are more than half
        ([3.0, 5.0, 10.0], MIDDLE),
        ([3.0, 2.0, 10.0], MIDDLE),  # the narrow entry is slower than a better one
        ([3.0, 11.0, 10.0], NARROW),  # the middle one is slower than the full network
    ],
)
def test_devices_choose_by_seconds_where_the_world_counts_seconds(
    world: World, seconds: list[float], widths: tuple[int, ...]
) -> None:
    assert widths_run(by_seconds(world, "distreal", seconds)) == {widths}


def test_devices_choose_by_macs_unless_told_otherwise(world: World) -> None:
    table = table_for(METHODS["distreal"], world, measured(world, [3.0, 6.0, 10.0]), TRAINING)
    assert widths_run(Federation(world, METHODS["distreal"], table, TRAINING)) == {MIDDLE}


def test_an_entry_for_ever_is_the_best_that_the_weakest_device_has_the_seconds_for(world: World) -> None:
    for seconds, widths in ([3.0, 6.0, 10.0], NARROW), ([3.0, 5.0, 10.0], MIDDLE):
        federation = by_seconds(world, "distreal[decided=never]", seconds)
        assert [entry.widths for entry in federation.table.entries] == [widths] and widths_run(federation) == {widths}


def test_work_is_counted_in_seconds_of_the_full_network(world: World) -> None:
    plan, _ = by_seconds(world, "distreal", [3.0, 6.0, 10.0]).plan(0)
    # Three mini-batches of 3 seconds each, where the full network's takes 10; offered is half of three of those.
    assert plan.work_spent.tolist() == pytest.approx([3 * 0.3] * 2)
    assert plan.work_idle.tolist() == pytest.approx([1.5 - 3 * 0.3] * 2)


def counted(federation: Federation) -> Counted:
    """What the first round counts for: two devices, each with time for one and a half mini-batches of the full network."""
    counted, (plan, _) = Counted(), federation.plan(0)
    counted.add(federation, plan)
    return counted


def test_macs_are_those_of_the_entries_that_ran_whatever_the_devices_choose_by(world: World) -> None:
    trained = 2 * TRAINING.batch_size  # devices; examples
    narrow, full = trained * world.network.training_macs(NARROW), trained * world.network.training_macs()
    ended = counted(by_seconds(world, "distreal", [3.0, 6.0, 10.0]))
    assert (ended.spent, ended.wasted, ended.idle) == pytest.approx((3 * narrow, 0, 0.6 * full))
    # The narrow entry takes 6 seconds, the time left is 15: two and a half mini-batches.
    cut = counted(by_seconds(world, "distreal", [6.0, 8.0, 10.0]))
    assert (cut.spent, cut.wasted, cut.idle) == pytest.approx((2 * narrow, 0.5 * narrow, 0))
    never_sent = counted(by_seconds(world, "distreal[decided=round,unfinished=discard]", [6.0, 8.0, 10.0]))
    assert (never_sent.spent, never_sent.wasted, never_sent.idle) == pytest.approx((0, 2.5 * narrow, 0))
    in_full = counted(by_seconds(world, "partial_work", [6.0, 8.0, 10.0]))
    assert (in_full.spent, in_full.wasted, in_full.idle) == pytest.approx((full, 0.5 * full, 0))


@dataclasses.dataclass(frozen=True)
class Falling:
    """Six tenths of its resources for a third of the round, then three tenths, then one."""

    minimum: float = 0.1

    def during(self, round_index: int, devices: Integers) -> Segments:
        count = len(devices)
        return Segments(np.tile([0, 1 / 3, 2 / 3, 1], (count, 1)), np.tile([0.6, 0.3, 0.1], (count, 1)))


def test_a_mini_batch_that_the_deadline_cut_is_counted_by_its_own_entry(world: World) -> None:
    trained = 2 * TRAINING.batch_size
    narrow, middle = trained * world.network.training_macs(NARROW), trained * world.network.training_macs(MIDDLE)
    falling = dataclasses.replace(world, availability=Falling())
    # The middle entry in the first third, the narrow one in the second; in the last a third of a narrow one.
    sent = counted(by_seconds(falling, "distreal", [3.0, 6.0, 10.0]))
    assert (sent.spent, sent.wasted) == pytest.approx((middle + narrow, narrow / 3))
    never_sent = counted(by_seconds(falling, "distreal[unfinished=discard]", [3.0, 6.0, 10.0]))
    assert (never_sent.spent, never_sent.wasted) == pytest.approx((0, middle + narrow + narrow / 3))


def test_by_macs_what_is_counted_is_the_work_of_the_plan_to_the_bit(world: World) -> None:
    load = make_availability("redrawn:0.1,1,3", seed=0, num_devices=world.devices)
    world, full = dataclasses.replace(world, availability=load), world.network.training_macs() * TRAINING.batch_size
    for name in ("distreal", "distreal_uniform", "heterofl", "fjord", "partial_work", "full_resources"):
        method = method_named(name)
        federation = Federation(
            world, method, table_for(method, world, measured(world, [3.0, 6.0, 10.0]), TRAINING), TRAINING
        )
        work, of_plan = counted(federation), federation.plan(0)[0]
        assert work.spent == full * float(of_plan.work_spent.sum())
        assert work.wasted == full * float(of_plan.work_wasted.sum())


def test_a_run_by_seconds_is_another_one_where_the_table_was_measured_again(world: World) -> None:
    first, again = (by_seconds(world, "distreal", [seconds, 6.0, 10.0]) for seconds in (3.0, 3.1))
    assert table_settings(first) != table_settings(again)
    assert table_settings(first) == {"entries": [[*NARROW], [*MIDDLE], [*FULL]], "costs": [0.3, 0.6, 1.0]}
    by_macs = [dataclasses.replace(federation, world=world) for federation in (first, again)]
    assert [table_settings(federation) for federation in by_macs] == [[[*NARROW], [*MIDDLE], [*FULL]]] * 2
    in_full = [by_seconds(world, "partial_work", [seconds, 6.0, 10.0]) for seconds in (3.0, 3.1)]
    assert table_settings(in_full[0]) == table_settings(in_full[1])


def test_the_full_network_needs_no_measurement(world: World) -> None:
    federation = by_seconds(world, "partial_work", [3.0, 6.0, 10.0])
    assert federation.table.costs("seconds:pi").tolist() == [1.0] and widths_run(federation) == {FULL}


def test_methods_whose_tables_were_not_measured_are_refused(world: World) -> None:
    for method in ("distreal_uniform", "heterofl", "small_network"):
        with pytest.raises(InputError, match=f"{method} makes a table .* of which no seconds were measured"):
            by_seconds(world, method, [3.0, 6.0, 10.0])
    elsewhere = dataclasses.replace(world, cost="seconds:phone")
    with pytest.raises(InputError, match=r"no seconds of 'phone' \(devices measured: pi\)"):
        table_for(METHODS["distreal"], elsewhere, measured(world, [3.0, 6.0, 10.0]), TRAINING)
    with pytest.raises(InputError, match="unknown unit of cost 'joules'"):
        table_for(METHODS["partial_work"], dataclasses.replace(world, cost="joules"), None, TRAINING)
