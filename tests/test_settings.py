"""What a setting may be is said once: for the library's users, the command line and the help alike."""

import dataclasses
import importlib
import math
import sys
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distreal_jax.commands import COMMANDS, population
from distreal_jax.errors import InputError
from distreal_jax.experiment.command_line import parsed
from distreal_jax.fleet.profile import ProfileSettings
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.search import SearchSettings
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.settings import Within, check_settings
from tests.test_damage import AWKWARD_NUMBERS, fine_or_one_line

SETTINGS = [TrainingSettings, WorldSettings, RecordSettings, SearchSettings, ProgressSettings, ProfileSettings]
OPTIONS = [importlib.import_module(f"distreal_jax.commands.{command}").Options for command in COMMANDS]
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**20, 10**400, -(10**400), 2**32, 1e308, math.inf, -math.inf, math.nan, 5e-324]),
    st.floats(),
    st.text(max_size=5),
    st.tuples(st.integers()),
    st.sampled_from(
        [np.int64(3), np.float32(0.5), np.array([1]), Path("x"), "sgd", "adam", "mac", "equal", "dirichlet:0.1"]
    ),
)


@pytest.mark.parametrize("kind", SETTINGS)
@given(data=st.data())
@settings(max_examples=500)
def test_any_value_of_any_setting_is_in_its_range_or_is_refused_in_one_line(kind: type, data: st.DataObject) -> None:
    fields = [field.name for field in dataclasses.fields(kind)]
    name = data.draw(st.sampled_from(fields))
    value = data.draw(ANYTHING)
    with fine_or_one_line():
        made = kind(**{name: value})
        if isinstance(getattr(made, name), float | int):
            assert math.isfinite(np.float32(value))


@pytest.mark.parametrize("kind", [*SETTINGS, *OPTIONS])
def test_every_number_of_every_option_has_a_range(kind: Any) -> None:
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        assert not numbers_without_a_range(hint), f"{kind.__module__}: {name}"


def numbers_without_a_range(hint: Any) -> bool:
    if typing.get_origin(hint) is Annotated:
        return not any(isinstance(note, Within) for note in hint.__metadata__) and numbers_without_a_range(hint.__origin__)
    return hint in (int, float) or any(map(numbers_without_a_range, typing.get_args(hint)))


@given(
    option=st.sampled_from(["--devices", "--clients", "--steps", "--rounds", "--cliens", "-x", ""]),
    value=st.sampled_from([*AWKWARD_NUMBERS, "--", "-", "--rounds", "\n", "\ud800"]) | st.text(max_size=8),
)
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_command_line_is_options_or_one_line(monkeypatch: pytest.MonkeyPatch, option: str, value: str) -> None:
    monkeypatch.setattr(sys, "argv", ["distreal population", *([option] if option else []), value])
    if value in ("-h", "--help"):
        return
    with fine_or_one_line():
        options = parsed(population.Options)
        assert options.rounds >= 1 and options.steps >= 1


@dataclasses.dataclass(frozen=True)
class Inner:
    folder: Path = Path("~/inside")


@dataclasses.dataclass(frozen=True)
class Example:
    rounds: Annotated[int, Within(1, 10)] = 1
    rate: Annotated[float, Within(0, 1, above=True, below=True)] | None = None
    optimizer: Literal["sgd", "adam"] = "sgd"
    places: tuple[Annotated[int, Within(0, 9)], ...] = (0,)
    folder: Path | None = None
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds": 0}, "rounds is 0; give a whole number of at least 1 and at most 10"),
        ({"rounds": 10**9}, "rounds is 1,000,000,000; give"),
        ({"rounds": 10**5000}, "rounds is a number of more than 20 digits; give"),
        ({"rounds": 2.5}, "rounds is 2.5; give a whole number"),
        ({"rounds": True}, "rounds is True; give a whole number"),
        ({"rate": 0.0}, "rate is 0; give a finite number above 0 and below 1"),
        ({"rate": 1.0}, "rate is 1; give"),
        ({"rate": math.nan}, "rate is nan; give"),
        ({"optimizer": "yogi"}, "optimizer is yogi; give one of: sgd, adam"),
        ({"optimizer": ["sgd"]}, "optimizer is ['sgd']; give one of: sgd, adam"),
        ({"places": (1, 10)}, "places is (1, 10); give a list, each a whole number of at least 0 and at most 9"),
        ({"places": [1]}, "places is [1]; give a list"),
        ({"folder": 3}, "folder is 3; give a path"),
    ],
)
def test_what_is_no_setting_is_said_with_what_would_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        check_settings(Example(**changes))
    assert str(error.value).startswith(said)


def test_numpys_numbers_are_numbers_and_ends_of_ranges_belong_to_them() -> None:
    for changes in ({"rounds": np.int64(10)}, {"rate": np.float32(0.5)}, {"rate": None}, {"folder": "here"}, {"places": ()}):
        check_settings(Example(**changes))


def test_a_tilde_is_the_home_folder_in_every_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["x.py", "--folder=~/a", "--inner.folder", "~"])
    options = parsed(Example)
    assert options.folder == tmp_path / "a" and options.inner.folder == tmp_path
