"""What `wandb agent` would call is a command line that the script takes, with values that exist."""

import importlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from distreal_jax.availability import make_availability
from distreal_jax.experiment.command_line import PARSING
from distreal_jax.methods import METHODS, method_named

SWEEPS = sorted((Path(__file__).parents[1] / "experiments/sweeps").glob("*.yaml"))


@pytest.fixture(params=SWEEPS, ids=lambda path: path.stem)
def sweep(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return loaded


def runs(sweep: dict[str, Any]) -> list[list[str]]:
    """The arguments of every run of a grid, as the agent writes them."""
    choices = [
        [(name, value) for value in said.get("values", [said.get("value")])] for name, said in sweep["parameters"].items()
    ]
    return [[f"--{name}={value}" for name, value in run] for run in itertools.product(*choices)]


def test_there_are_sweeps() -> None:
    assert {path.stem for path in SWEEPS} >= {"availability_rate", "methods_by_seeds", "tune"}


def test_every_run_of_a_sweep_is_a_command_line_that_its_script_takes(sweep: dict[str, Any]) -> None:
    assert sweep["method"] in ("grid", "bayes") and (sweep["method"] == "grid" or "early_terminate" in sweep)
    options = importlib.import_module(sweep["program"].removesuffix(".py").replace("/", ".")).Options
    fixed = [part for part in sweep["command"] if not part.startswith("${")]
    for arguments in runs(sweep):
        chosen = tyro.cli(options, args=[*fixed, *arguments], config=PARSING)
        method_named(chosen.method)
        assert chosen.examples is None or chosen.examples % chosen.training.batch_size == 0
        make_availability(chosen.world.availability, seed=chosen.seed, num_devices=chosen.world.devices)
        assert chosen.output.wandb == "online"


def test_the_sweep_over_methods_has_all_of_them() -> None:
    (path,) = (path for path in SWEEPS if path.stem == "methods_by_seeds")
    assert yaml.safe_load(path.read_text())["parameters"]["method"]["values"] == list(METHODS)
