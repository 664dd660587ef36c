"""What a person sees while something runs: lines and bars if a command asks, nothing from the library itself."""

import io
import logging
import sys
from typing import Any

import pytest

import distreal_jax as dj
from distreal_jax.experiment import dry_run
from distreal_jax.fleet.federation import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.signs import MeanPace, Pace, bar, duration, percent, said_on_stderr, say, watched


def test_the_library_is_silent_until_somebody_asks(capsys: pytest.CaptureFixture[str]) -> None:
    say("of the library")
    with said_on_stderr(quiet=False):
        say("of a command")
    with said_on_stderr(quiet=True):
        say("of a quiet command")
    say("after it")
    assert capsys.readouterr() == ("", "of a command\n")


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1.0, "100.0%"),
        (0.084, "8.4%"),
        (0.0996, "10.0%"),
        (0.000996, "0.1%"),
        (0.00039, "0.039%"),
        (1e-6, "0.0001%"),
        (0, "0.0%"),
    ],
)
def test_a_share_that_is_not_nothing_is_not_shown_as_nothing(share: float, words: str) -> None:
    assert percent(share) == words


def test_a_line_is_said_once_where_other_libraries_log_too(capsys: pytest.CaptureFixture[str]) -> None:
    root, other = logging.getLogger(), logging.StreamHandler(sys.stderr)
    root.addHandler(other)
    try:
        with said_on_stderr(quiet=False):
            say("once")
    finally:
        root.removeHandler(other)
    assert capsys.readouterr().err == "once\n"


def test_there_is_a_bar_on_a_terminal_alone_and_none_if_quiet(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def shown(quiet: bool) -> bool:
        with said_on_stderr(quiet=quiet), bar(total=3) as progress:
            return not progress.disable

    assert not shown(quiet=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert shown(quiet=False) and not shown(quiet=True)
    assert not bar(total=3).n


def test_compiling_and_planning_show_no_bar_on_a_terminal_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    training = TrainingSettings(rounds=1, devices_per_round=2, steps=1, batch_size=4)
    federation = dj.Federation(World.make(WorldSettings(devices=2), 0), "partial_work", training=training)
    for quiet in (True, False):
        with said_on_stderr(quiet=quiet):
            dry_run([federation], RecordSettings())
            federation.fit()
        assert bool(terminal.getvalue()) is not quiet


def test_what_takes_long_says_now_and_then_how_many_are_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("distreal_jax.signs.time.monotonic", lambda: clock[-1])
    with said_on_stderr(quiet=False):
        compiling = (clock.append(clock[-1] + 7) for _ in range(9))
        assert len([*watched(compiling, 9, "compiled", "training step")]) == 9
    assert capsys.readouterr().err == "compiled 3 of 9 training steps\ncompiled 6 of 9 training steps\n"


def test_seconds_left_are_by_the_pace_after_the_first_part_which_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 130.0])
    monkeypatch.setattr("distreal_jax.signs.time.monotonic", lambda: next(clock))
    pace = Pace(20)
    assert pace.left(5) == ""  # took any time, to compile
    assert pace.left(10) == "about 20 s left"  # 2 s a part
    assert pace.left(20) == ""


def test_time_for_all_runs_is_by_the_mean_of_those_that_were_seen_from_beginning_to_end() -> None:
    pace = MeanPace(["a", "b", "c", "d"], "run")
    assert pace.left() == ""
    pace.done("finished before", None)
    pace.done("a", 10.0)
    assert pace.left() == "about 30 s left for 3 runs"
    pace.done("b", None)  # was begun before, so its time says little
    pace.done("c", 20.0)
    assert pace.left() == "about 15 s left for 1 run"
    pace.done("d", 20.0)
    assert pace.left() == ""


def test_a_time_is_in_the_unit_that_a_person_would_take() -> None:
    assert [duration(seconds) for seconds in (0.031, 12.4, 240.0, 7200.0)] == ["0.031 s", "12 s", "4 min", "2.0 h"]
