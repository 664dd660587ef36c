"""What `wandb agent` would call is a command line that the script takes, with values that exist."""

import fnmatch
import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from test_readme import command_of
from wandb_files import Kept, kept_offline

from distreal_jax.availability import make_availability
from distreal_jax.experiment.command_line import PARSING
from distreal_jax.methods import METHODS, method_named
from distreal_jax.record.logged import FINAL_ACCURACY, ROUND_AXIS, ROUND_KEYS, SEARCH_KEYS, summary_of
from distreal_jax.record.method_result import MethodResult

ROOT = Path(__file__).parents[1]
SWEEPS = sorted((ROOT / "experiments/sweeps").glob("*.yaml"))
SMALL = {"rounds": 2, "steps": 2, "devices": 6, "devices-per-round": 2, "eval-every": 1, "execution": "masked"}
PATIENCE = 600.0  # seconds for one process; CI machines are slow


@pytest.fixture(params=SWEEPS, ids=lambda path: path.stem)
def sweep(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return loaded


def runs(sweep: dict[str, Any]) -> list[list[str]]:
    """The arguments of each run of a grid, as the agent writes them; of others, each value beside the first of the rest."""
    choices = {name: said.get("values", [said.get("value")]) for name, said in sweep["parameters"].items()}
    first = {name: values[0] for name, values in choices.items()}
    if sweep["method"] == "grid":
        chosen = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    else:
        chosen = [first | {name: value} for name, values in choices.items() for value in values]
    return [[f"--{name}={value}" for name, value in run.items()] for run in chosen]


def test_there_are_sweeps() -> None:
    assert {path.stem for path in SWEEPS} >= {"availability_rate", "methods_by_seeds", "tune"}


def test_every_run_of_a_sweep_is_a_command_line_that_its_script_takes(sweep: dict[str, Any]) -> None:
    assert sweep["method"] in ("grid", "bayes") and (sweep["method"] == "grid" or "early_terminate" in sweep)
    options = importlib.import_module(f"distreal_jax.commands.{command_of(ROOT / sweep['program'])}").Options
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


def command_line(sweep: dict[str, Any], arguments: list[str]) -> list[str]:
    """A run's command as `wandb agent` makes it of the sweep's `command`."""
    macros = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": [sys.executable],
        "${program}": [sweep["program"]],
        "${args}": arguments,
    }
    return [part for said in sweep["command"] for part in macros.get(said, [said])]


@pytest.fixture(scope="module")
def first_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kept]:
    """The first run of every sweep, started as an agent does it but made small; without an account they stay offline."""
    folder = tmp_path_factory.mktemp("sweeps")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(folder), "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_SWEEP_ID": "a-sweep"}
    processes = {}
    for path in SWEEPS:
        sweep = yaml.safe_load(path.read_text())
        sweep["parameters"] |= {name: {"value": value} for name, value in SMALL.items()}
        if "examples" in sweep["parameters"]:
            sweep["parameters"]["examples"] = {"value": 8}
            del sweep["parameters"]["steps"]
        sweep["parameters"]["out"] = {"value": str(folder / path.stem)}
        processes[path.stem] = subprocess.Popen(
            command_line(sweep, runs(sweep)[0]),
            cwd=ROOT,
            env=environment | {"WANDB_RUN_ID": f"run-of-{path.stem}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    kept = {}
    for name, process in processes.items():
        _, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 and error.count("W&B") == error.count("wandb sync") == 1, error
        kept[name] = kept_offline(folder / name)
    return kept


def test_every_sweep_maximises_a_key_that_its_runs_have_in_their_summary(first_runs: dict[str, Kept]) -> None:
    for path in SWEEPS:
        metric = yaml.safe_load(path.read_text())["metric"]
        assert metric["goal"] == "maximize" and 0 <= first_runs[path.stem].summary[metric["name"]] <= 1


def test_a_sweep_that_ends_runs_early_goes_by_a_key_of_every_evaluation(first_runs: dict[str, Kept]) -> None:
    kept = first_runs["tune"]
    assert [row["round"] for row in kept.rows if "validation/accuracy" in row] == [1, 2]
    assert 0 <= kept.summary["test/accuracy"] <= 1  # at the end, of the test set, which nothing is chosen by


def test_a_run_has_the_keys_axes_tags_and_artifacts_that_the_docs_list(first_runs: dict[str, Kept]) -> None:
    kept = first_runs["availability_rate"]
    written = {key.format(split="test", score="accuracy") for key in ROUND_KEYS.values()}
    assert all(written <= set(row) for row in kept.rows) and len(kept.rows) == 2
    over_rounds = {key for key in written if any(fnmatch.fnmatch(key, pattern) for pattern in kept.axes)}
    assert over_rounds == written - {ROUND_AXIS} and set(kept.axes.values()) == {ROUND_AXIS}
    assert kept.summary["test/accuracy"] == kept.rows[-1]["test/accuracy"]  # a number: pictures have keys of their own
    pictures = {key.split(".")[0] for key in kept.summary if key.startswith("pictures/")}
    assert pictures == {"pictures/accuracy"} and kept.artifacts == {"dropout-table": "dropout-table"}
    assert kept.run["job"] == "distreal" and kept.run["tags"] == [
        "digits",
        "digits_cnn",
        "dirichlet:0.3",
        "redrawn:0.1,1,0.1",
    ]
    page = (ROOT / "docs/wandb.md").read_text()
    named = set(ROUND_KEYS.values()) | set(SEARCH_KEYS) | {FINAL_ACCURACY}
    assert all(f"`{key.format(split='test', score='accuracy')}`" in page for key in named)


def test_levels_of_accuracy_that_are_reached_stand_in_the_summary_with_their_simulated_time() -> None:
    axes = dict(times=(60.0, 120.0), rounds=(1.0, 2.0), macs=(1.0, 2.0), bytes_up=(1.0, 2.0), bytes_down=(1.0, 2.0))
    counts = dict(macs_spent=3.0, macs_wasted=1.0, macs_idle=0.0, client_rounds=2, deadline_hits=0, clients_left_out=0)
    more = dict(delivered=1.0, round_computing=(1.0, 1.0), round_bytes=(1.0, 1.0), memory_bytes=1e6)
    result = MethodResult("partial_work", 0, accuracies=(0.55, 0.7), full_accuracies=(0.55, 0.7), **axes, **counts, **more)
    summary = summary_of(result)
    assert summary["final/accuracy"] == pytest.approx(0.625) and summary["final/macs_share_spent"] == 0.75
    times = {key: value for key, value in summary.items() if key.startswith("seconds_to/")}
    assert times == {"seconds_to/0.5": 60.0, "seconds_to/0.6": 120.0, "seconds_to/0.7": 120.0}
