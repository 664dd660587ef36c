"""The commands: one implementation behind `distreal`, `python -m distreal_jax` and the scripts."""

import dataclasses
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from test_readme import command_of

from distreal_jax import __version__
from distreal_jax.commands import COMMANDS, main

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))


def test_every_command_has_a_script_of_a_few_lines_and_every_script_a_command() -> None:
    assert sorted(map(command_of, SCRIPTS)) == sorted(COMMANDS)
    assert all(len(script.read_text().splitlines()) <= 10 for script in SCRIPTS)


def test_every_module_of_the_commands_is_a_command_or_used_by_one() -> None:
    modules = {path.stem for path in (ROOT / "distreal_jax/commands").glob("[a-z]*.py")}
    parts = {
        "ahead_of_time",
        "evidence",
        "map_tables",
        "pytorch_loop",
        "suite",
        "suite_tables",
        "traffic",
        "verdicts",
        "workloads",
    }
    assert modules == {*COMMANDS, *parts}


# These three say nothing on the way.
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"account", "results", "validation_study"}))
def test_every_command_that_says_what_it_is_at_can_be_quiet(name: str) -> None:
    fields = {
        field.name: field for field in dataclasses.fields(importlib.import_module(f"distreal_jax.commands.{name}").Options)
    }
    assert "quiet" in fields or "output" in fields


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_all_of_them_are_listed_before_a_large_library_is_loaded(arguments: list[str]) -> None:
    program = "import sys; from distreal_jax.commands import main; main(); assert not {'jax', 'numpy'} & set(sys.modules)"
    command = [sys.executable, "-c", program, *arguments]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"  {name} " in listed.stdout for name in COMMANDS) and listed.stderr == ""


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["distreal", "--version"])
    main()
    assert capsys.readouterr().out == f"{__version__}\n"


def test_the_version_is_said_in_one_place_and_cited_as_it_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"] and "version" not in project["project"]
    assert re.search(rf"^version: {re.escape(__version__)}$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert re.search(rf"^## .*\b{re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def test_an_unknown_command_is_refused_in_one_line_that_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["distreal", "trian", "--rounds", "1"])
    with pytest.raises(SystemExit) as left:
        main()
    error = capsys.readouterr().err
    assert left.value.code == 2 and error.count("\n") == 1
    assert error.startswith("error: unknown command 'trian'; did you mean train? choose from: demo, search, train, ")
