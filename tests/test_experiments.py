"""The scripts as a person runs them: end to end, one of them as a process of its own, bad input in one line, help."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from running_scripts import run_here
from wandb_files import kept_offline

from distreal_jax.methods import METHODS
from distreal_jax.networks import make_network
from distreal_jax.record.logged import SEARCH_KEYS
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.metrics import read_metrics
from distreal_jax.table import DropoutTable
from distreal_jax.tracing import TracedNetwork, trace_network
from distreal_jax.tuning import TunedSettings

ROOT = Path(__file__).parents[1]
SCRIPTS = [
    "quickstart",
    "search",
    "train",
    "compare",
    "profile_device",
    "availability_map",
]  # the studies are in test_studies.py
TINY_FLEET = "--devices 6 --devices-per-round 3 --rounds 2 --steps 2 --batch-size 4 --eval-every 1".split()
TINY_SEARCH = (
    "--search.population 8 --search.generations 2 --search.repeats 1 --search.final-repeats 2 "
    "--progress.rounds 4 --progress.devices 2 --progress.steps 4 "
    "--progress.batch-size 4 --progress.held-out 50 --progress.sizes 1"
).split()
VARIANT = "distreal[filters=first,drawn=round]"
PATIENCE = 900.0  # seconds for one process; CI machines are slow


def in_a_process(script: str, *options: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """A script in a process of its own: status, stdout and stderr."""
    command = [sys.executable, f"experiments/{script}.py", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stdout, done.stderr


def as_users_have_it() -> dict[str, str]:
    """The environment without the tests' settings of the compiler and its devices."""
    settings = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
    return {name: value for name, value in os.environ.items() if name not in settings}


def as_users_run(script: str, *options: str) -> tuple[int, str, str]:
    """A script in a process whose programs are compiled as those of users are."""
    return in_a_process(script, *options, environment=as_users_have_it())


def printed_by(run: Callable[..., tuple[int, str, str]], script: str, *options: str) -> str:
    """What a script that goes well prints; with `--quiet` it says nothing on stderr."""
    status, printed, error = run(script, *options, "--quiet")
    assert (status, error) == (0, ""), error
    return printed


@pytest.fixture(scope="module")
def network() -> TracedNetwork:
    model = make_network("digits_cnn", image_shape=(8, 8, 1), num_classes=10, seed=0)
    return trace_network(model, jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32))


@pytest.fixture(scope="module")
def table(network: TracedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "table.json"
    DropoutTable.from_widths(network, [[4, 4, 4, 64], [16, 32, 32, 64]]).save(path)
    return path


@dataclasses.dataclass
class Runs:
    """One run of each script, when the first test asks for it."""

    folder: Path
    options: dict[str, list[str]]
    printed: dict[str, str] = dataclasses.field(default_factory=dict)

    def of(self, script: str) -> tuple[Path, str]:
        folder = self.folder / script
        if script not in self.printed:
            run = {"train": as_users_run, "search": in_a_process}.get(script, run_here)  # W&B in a process of its own
            with pytest.MonkeyPatch.context() as patch:  # tables of two entries in place of 12 and 5: fewer programs
                patch.setattr("distreal_jax.fleet.method_table.UNIFORM_RATES", (0.8, 0.0))
                patch.setattr("distreal_jax.fleet.method_table.HALVING_RATES", (0.0, 3 / 4))
                self.printed[script] = printed_by(run, script, *self.options[script], "--out", str(folder))
        return folder, self.printed[script]


@pytest.fixture(scope="module")
def runs(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    options = {
        "quickstart": [*TINY_FLEET, *TINY_SEARCH],
        "search": [*TINY_SEARCH, "--wandb", "offline"],
        "train": [*TINY_FLEET, "--method", "partial_work"],
        "compare": compare_options(table),
        "profile_device": [*TINY_FLEET[:-2], "--table", str(table), "--repetitions", "2", "--sample-seconds", "0.001"],
        "availability_map": [*TINY_FLEET, *map_options(table)],
    }
    return Runs(tmp_path_factory.mktemp("runs"), options)


def compare_options(table: Path) -> list[str]:
    return [
        *TINY_FLEET,
        "--methods",
        f"distreal,{VARIANT}",
        "--seeds",
        "0,1",
        "--table",
        str(table),
        "--execution",
        "masked",
    ]


def map_options(table: Path) -> list[str]:
    digits = "--dataset digits --model digits_cnn --execution masked".split()
    asked = "--means 0.3,1 --rates 2 --methods partial_work,heterofl --seeds 0".split()
    tuning = "--trials 2 --final-seeds 1001 --validation 0.3".split()
    return [*digits, *asked, *tuning, "--table", str(table)]


def test_map_leaves_a_cell_for_each_load_and_a_picture(runs: Runs) -> None:
    folder, printed = runs.of("availability_map")
    cells = json.loads((folder / "map.json").read_text())
    assert [(cell["mean"], cell["rate"]) for cell in cells] == [(0.3, 2.0), (1.0, 2.0)]
    assert all(len(cell["final"]["partial_work"]) == len(cell["final"]["heterofl"]) == 1 for cell in cells)
    assert all(cell["delivered"]["partial_work"] == 1 for cell in cells) and cells[0]["delivered"]["heterofl"] < 1
    assert (folder / "map.png").stat().st_size > 10_000 and (folder / "mean0.3-rate2" / "partial_work-seed0").is_dir()
    lines = printed.splitlines()
    heading = next(
        n for n, line in enumerate(lines) if "| mean availability | changes a round | partial_work | heterofl" in line
    )
    first, last = (line.split(" | ")[-1].strip(" |") for line in lines[heading + 2 : heading + 4])
    assert re.fullmatch(r"heterofl: [\d.]+% of its MACs; others: full network", first) and last == "full network"
    tuned = TunedSettings.load(folder / "mean0.3-rate2/tuning/tuned.json")
    assert [method.name for method in tuned.methods] == ["partial_work", "heterofl"]
    assert all(2 <= method.trials <= 3 for method in tuned.methods)  # and what was best for the other
    assert tuned.provenance["final_seeds"] == [1001]
    assert tuned.world["availability"] == "redrawn:0.06,0.54,2" and tuned.world["validation"] == 0.3
    (result,) = (folder / "mean0.3-rate2").glob("partial_work-seed0/result.json")
    assert json.loads(result.read_text())["accuracy_on"] == {}  # the comparison is scored on the test set
    for measure in ("final accuracy", "mean accuracy over time"):
        assert f"partial_work minus the others, {measure}:" in printed


def test_a_map_with_trials_takes_no_more_methods_as_they_would_change_what_is_tuned(
    runs: Runs, table: Path, command: Any
) -> None:
    folder, _ = runs.of("availability_map")
    options = [option.replace("partial_work,heterofl", "partial_work,heterofl,fedprox") for option in map_options(table)]
    status, _, error = command("availability_map", *TINY_FLEET, *options, "--out", str(folder))
    assert status == 2 and '(methods is "partial_work,heterofl" there, "partial_work,heterofl,fedprox" now)' in error


def test_a_map_with_trials_is_not_taken_for_one_without(runs: Runs, table: Path, command: Any) -> None:
    folder, _ = runs.of("availability_map")
    options = (
        " ".join(map_options(table))
        .replace("--trials 2", "--trials 0")
        .replace("--validation 0.3", "")
        .replace("--final-seeds 1001", "")
        .split()
    )
    status, _, error = command("availability_map", *TINY_FLEET, *options, "--out", str(folder))
    assert status == 2 and "trials" in error.replace("(trials", "trials") and "2 there, 0 now" in error


def test_profile_leaves_the_table_with_seconds(runs: Runs, table: Path) -> None:
    folder, printed = runs.of("profile_device")
    profiled = DropoutTable.load(folder / "table.json")
    assert [entry.widths for entry in profiled.entries] == [entry.widths for entry in DropoutTable.load(table).entries]
    assert all(min(entry.seconds.values()) > 0 and (entry.flops or 0) > 0 for entry in profiled.entries)
    assert "seconds" in printed and (folder / "seconds.png").exists()


def test_train_leaves_a_record(runs: Runs) -> None:
    folder, printed = runs.of("train")
    assert printed.startswith("partial_work: accuracy 0.")
    metrics = read_metrics(folder / "metrics.jsonl")
    assert [line["round"] for line in metrics] == [1, 2] and {line["method"] for line in metrics} == {"partial_work"}
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"]["training"]["rounds"] == 2 and config["sessions"][0]["commit"]
    (result,) = json.loads((folder / "results.json").read_text())["runs"]
    assert MethodResult.from_json(result).rounds == (1, 2)
    assert is_png(folder / "accuracy.png")


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_search_leaves_a_table_that_loads_and_its_pictures(runs: Runs, network: TracedNetwork) -> None:
    folder, printed = runs.of("search")
    table = DropoutTable.load(folder / "table.json").checked_for(network)
    assert table.entries[-1].macs <= network.training_macs() and table.provenance["dataset"] == "digits"
    results = json.loads((folder / "results.json").read_text())
    assert results["entries"] == len(table.entries)
    report = (folder / "report.md").read_text()
    assert f"of the front: {results['hypervolume']:.4f}; of one rate for all layers: {results['uniform']:.4f}" in report
    assert results["hypervolume"] == table.provenance["search"]["hypervolume"] > 0 and results["uniform"] > 0
    for picture in ("front.png", "rates.png", "hypervolume.png"):
        assert is_png(folder / picture) and f"({picture})" in report
    assert printed.strip() and all(line in report for line in printed.splitlines() if line.startswith("|"))


def test_search_logs_its_generations_the_front_and_the_table(runs: Runs) -> None:
    folder, _ = runs.of("search")
    kept = kept_offline(folder)
    generations = [row for row in kept.rows if "generation" in row]
    assert [row["generation"] for row in generations] == [0, 1] and set(kept.axes.values()) == {"generation"}
    assert all({*SEARCH_KEYS} <= row.keys() for row in generations)
    assert kept.summary["final/hypervolume"] == json.loads((folder / "results.json").read_text())["hypervolume"]
    assert kept.artifacts["dropout-table"] == "dropout-table" and kept.run["job"] == "search"
    assert {"pictures/front._type", "search/front._type"} <= {*kept.summary}


def test_compare_runs_every_method_with_every_seed_and_reports(runs: Runs) -> None:
    folder, printed = runs.of("compare")
    results = json.loads((folder / "results.json").read_text())
    ran = {(run["method"], run["seed"]) for run in results["runs"]}
    assert ran == {(method, seed) for method in ("distreal", VARIANT) for seed in (0, 1)}
    assert [summary["method"] for summary in results["summaries"]] == ["distreal", VARIANT]
    assert all(run["full_accuracies"] == run["accuracies"] for run in results["runs"] if run["method"] == "distreal")
    assert len(results["targets"]) in (2, 3) and all(set(run["accuracy_on"]) == set() for run in results["runs"])
    report = (folder / "report.md").read_text()
    for method in ("distreal", VARIANT):
        assert f"`{method}`" in report and f"`{method}`" in printed
    assert report.count("| delivered ") == 2  # of what the accuracy is, in every table
    for picture in ("accuracy.png", "costs.png", "utilisation.png", "fairness.png"):
        assert is_png(folder / picture) and f"({picture})" in report
    # The same world: same clients asked, the same load offered.
    for seed in (0, 1):
        of_seed = [run for run in results["runs"] if run["seed"] == seed]
        offered = [run["macs_spent"] + run["macs_wasted"] + run["macs_idle"] for run in of_seed]
        assert offered == pytest.approx([offered[0]] * 2) and len({run["client_rounds"] for run in of_seed}) == 1


def test_finished_runs_are_not_run_again(runs: Runs, table: Path) -> None:
    folder, first = runs.of("compare")
    shutil.rmtree(folder / f"{VARIANT}-seed1")

    def written() -> dict[str, tuple[int, bytes]]:
        files = [path for path in folder.glob("*-seed?/*") if path.name in ("metrics.jsonl", "result.json")]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = written()
    assert len(before) == 2 * 3
    command = [*compare_options(table), "--out", str(folder), "--wandb", "offline"]
    again = printed_by(in_a_process, "compare", *command)
    after = written()
    assert {path: after[path] for path in before} == before
    assert len(after) == 2 * 4 and again == first
    kept = kept_offline(folder / f"{VARIANT}-seed1")
    assert (kept.run["name"], kept.run["job"], kept.run["group"]) == (f"{VARIANT}-seed1", VARIANT, folder.name)
    assert "final/accuracy" in kept_offline(folder / "distreal-seed0").summary  # of a run that was finished before


def test_quickstart_leaves_report_results_pictures_and_table(runs: Runs) -> None:
    folder, printed = runs.of("quickstart")
    methods = [
        "distreal",
        "distreal_uniform",
        "heterofl",
        "small_network",
        "partial_work",
        "adaptive_batch",
        "full_resources",
    ]
    summaries = json.loads((folder / "results.json").read_text())["summaries"]
    assert [summary["method"] for summary in summaries] == methods
    report = (folder / "report.md").read_text()
    for picture in ("front.png", "accuracy.png", "utilisation.png", "fairness.png", "rates.png"):
        assert is_png(folder / picture) and f"({picture})" in report
    assert DropoutTable.load(folder / "table.json").entries
    assert all(f"`{method}`" in printed for method in methods) and "report.md" in printed


TABLE = "--table {table}"
BAD_INPUT = {
    "unknown data set": ("train", "--method partial_work --dataset digitz", "digitz"),
    "a table of one entry": ("search", "--entries 1", "a table of at most 1 entries is no choice for a device"),
    "unknown network": (
        "train",
        "--method partial_work --model resnet21",
        "did you mean resnet20? choose from: digits_cnn, small_cnn, leaf_cnn",
    ),
    "unknown method": ("train", "--method distreel", "did you mean distreal? choose from: distreal, distreal_uniform"),
    "unknown method to compare": ("compare", "--methods distreal,fedavg", "unknown method 'fedavg'; choose from: distreal"),
    "unknown choice": ("compare", "--methods distreal[filters=last]", "choose from: random, first, rolling"),
    "contradicting choices": ("compare", "--methods distreal_uniform[average=covered]", "give filters=first"),
    "a method twice": ("compare", "--methods distreal,distreal", "name each method once"),
    "no seed": ("compare", "--seeds one", "give seeds such as 0,1,2 or 0-4"),
    "a table of every knob alone": (
        "train",
        "--dataset digits --model resnet20",
        "for this network and input size but --table resnet20_digits_every_knob (every knob); search one",
    ),
    "no table": (
        "train",
        "--model leaf_cnn",
        "distreal needs a dropout table, and none comes with the package for this network and input size (there are those "
        "of densenet40, densenet40_digits_every_knob, digits_cnn, digits_cnn_every_knob, leaf_cnn, resnet20, "
        "resnet20_cifar16_every_knob, resnet20_digits_every_knob, small_cnn); search one with `distreal search` and give it "
        "with --table; methods that need none: distreal_uniform, federated_dropout",
    ),
    "table that is absent": ("train", "--table nowhere.json", "nowhere.json"),
    "table of another network": ("train", "--table {other}", "made for another network"),
    "truncated table": ("train", "--table {truncated}", "is damaged or truncated"),
    "table of a newer schema": ("compare", "--table {newer}", "made by a newer version"),
    "edited table": ("compare", "--table {edited}", "make the table again with `distreal search`"),
    "rates outside [0, 1)": ("search", "--search.max-rate 1.0", "max_rate"),
    "search of nothing": ("search", "--search.population 0", "population"),
    "measurement of nothing": ("quickstart", "--progress.steps 0", "progress steps is 0; give a whole number of at least 1"),
    "clients without data": ("train", "--method partial_work --devices 2000", "use fewer clients"),
    "unknown partition": ("train", "--method partial_work --partition pathological", "choose from: iid, dirichlet"),
    "partition of no number": ("quickstart", "--partition dirichlet:few", "choose from: iid, dirichlet:ALPHA, natural"),
    "owners that are not there": ("compare", "--partition natural", "names no natural clients"),
    "data folder that is absent": (
        "compare",
        "--methods partial_work --dataset mnist_writers --data-dir {out}/nowhere",
        "does not exist; name the folder that holds 'mnist_writers'",
    ),
    "availability above 1": ("train", "--method partial_work --availability redrawn:0.1,1.5,3", "(0, 1]"),
    "availability of 0": ("quickstart", "--availability constant:0", "(0, 1]"),
    "unknown availability": ("compare", "--availability sometimes", "unknown availability 'sometimes'; give one like"),
    "a load that is misspelt": ("train", "--availability redrwan:0.1,1,3", "did you mean redrawn? give one like"),
    "a folder without a name": ("train", "--out=", "--out has an empty value; give one, or leave the option out"),
    "no accuracy to reach": ("compare", "--targets 50", "are not all above 0 and at most 1; give some such as"),
    "a link of no speed": ("compare", "--device.megabits-per-second 0", "megabits-per-second is 0"),
    "the old name of a method": ("train", "--method partial_batch", "is called 'adaptive_batch' now"),
    "examples that make no mini-batches": (
        "train",
        "--method partial_work --examples 30",
        "size of 20 does not divide the 30",
    ),
    "no round": ("compare", "--rounds 0", "rounds is 0; give a whole number of at least 1"),
    "no evaluation": ("train", "--method partial_work --eval-every 0", "eval-every is 0; give a whole number of at least 1"),
    "more steps than can be counted": ("train", "--steps 100000000000000000000", "steps is a number of more than 20 digits"),
    "a mini-batch beyond the data": ("train", "--method partial_work --batch-size 1443", "of 1442 training examples"),
    "a mini-batch beyond all data": ("train", "--batch-size 1000000000", "batch-size is 1,000,000,000; give"),
    "a round beyond memory": ("train", "--method partial_work --steps 100000 --batch-size 1000", "give fewer steps"),
    "rounds without end": ("train", "--round-seconds inf", "round-seconds is inf; give a finite number"),
    "a step size that float32 doesn't hold": ("compare", "--learning-rate 1e308", "learning-rate is 1e+308; give"),
    "a step size of no number": ("compare", "--server-learning-rate nan", "server-learning-rate is nan; give"),
    "a seed that no key takes": ("train", "--seed 4294967296", "seed is 4,294,967,296; give a whole number"),
    "a number that is none": ("train", "--rounds many", "--rounds can't be read: 'many' is not a whole number"),
    "a choice that isn't there": ("compare", "--server-optimizer yogi", "invalid choice 'yogi'"),
    "an option that isn't there": ("train", "--roundz 3", "unrecognized options: --roundz, 3; --help lists"),
    "an option without its value": ("search", "--progress.steps", "missing value for argument '--progress.steps'"),
    "a reference that is not there": (
        "compare",
        "--table {table} --reference fjord",
        "the reference 'fjord' is not compared",
    ),
    "a load beside those of a map": ("availability_map", "--table {table} --availability constant:1", "--means and --rates"),
    "a split of a map without trials": ("availability_map", "--table {table} --validation 0.3", "give --trials"),
    "a seed beside the seed": ("quickstart", "--search.seed 3", "is given beside --seed"),
    "final seeds without trials": ("availability_map", "--table {table} --final-seeds 1001", "give --trials too"),
    "a final seed of the map": (
        "availability_map",
        "--table {table} --trials 2 --seeds 0-2 --final-seeds 1,1001",
        "final_seeds: seed 1 is in use already",
    ),
    "a final seed of the tuning": ("tune", "--table {table} --final-seeds 1000", "seed 1000 is in use already; give others"),
    "cells of one name": ("availability_map", "--table {table} --means 0.3,0.30000000001", "the same to six digits"),
    "a load that is below every device's": (
        "availability_map",
        "--table {table} --dataset digits --model digits_cnn --means 1e-12",
        "at least 1e-09",
    ),
    "a benchmark of no rounds": ("benchmark", "--rounds 0", "rounds is 0; give a whole number"),
    "a piece that the suite hasn't": ("benchmark", "--suite --pieces widths-C", "the suite has no piece 'widths-C'; choose"),
    "a topology that isn't there": ("benchmark", "--ahead-of-time moon:2x2", "can't compile for 'moon:2x2'"),
    "an account of no timings": ("account", "--repeats 0", "repeats is 0; give a whole number"),
    "a population that trains nothing": ("population", "--rounds 0", "rounds is 0; give a whole number"),
    "a home that nobody knows": ("train", "--method partial_work --data-dir ~nobody-of-this-name/x", "without ~"),
    "measurement of no seconds": ("profile_device", "--table {table} --repetitions 0", "repetitions is 0"),
    "seconds of rates that nobody measured": ("train", "--method heterofl --cost seconds:pi", "no seconds were measured"),
    "a load above 1": ("availability_map", "--table {table} --means 0.5,1.5", "at most 1, separated by commas"),
    "a map of one method": ("availability_map", "--table {table} --methods distreal", "give at least two methods"),
    "more devices than there are": ("compare", "--devices 5 --table {table}", "10 devices per round of a population of 5"),
}


@pytest.fixture(scope="module")
def bad_tables(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bad tables")
    content = table.read_text()
    larger = make_network("leaf_cnn", image_shape=(28, 28, 1), num_classes=10, seed=0)
    DropoutTable.full(trace_network(larger, jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32))).save(folder / "other.json")
    (folder / "truncated.json").write_text(content[: len(content) // 2])
    document = json.loads(content)
    (folder / "newer.json").write_text(json.dumps(document | {"schema": document["schema"] + 1}))
    document["entries"][0]["widths"][0] = -3
    (folder / "edited.json").write_text(json.dumps(document))
    return {"table": str(table), **{path.stem: str(path) for path in folder.iterdir()}}


@pytest.mark.parametrize(("script", "options", "said"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_ends_in_one_line_before_anything_is_written(
    script: str, options: str, said: str, command: Any, bad_tables: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    filled = [option.format(out=out, **bad_tables) for option in options.split()]
    elsewhere = [] if script in ("account", "benchmark", "population") else ["--out", str(out)]
    status, printed, error = command(script, *filled, *elsewhere)
    assert (status, printed) == (2, "")
    assert error.startswith("error: ") and error.count("\n") == 1 and error.endswith("\n"), error
    assert said in error
    assert not out.exists()


def test_bad_input_ends_a_process_in_one_line_and_status_2(tmp_path: Path) -> None:
    status, printed, error = as_users_run("train", "--method", "distreel", "--out", str(tmp_path / "out"))
    assert (status, printed) == (2, "") and re.fullmatch(r"error: unknown method 'distreel'; .*\n", error)


def test_a_folder_that_holds_something_else_is_left_alone(command: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    status, _, error = command("train", "--method", "partial_work", *TINY_FLEET, "--out", str(tmp_path))
    assert status == 2 and error.count("\n") == 1 and "choose a new or an empty folder" in error
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_of_other_settings_is_left_alone(command: Any, runs: Runs) -> None:
    folder, _ = runs.of("train")
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "run.lock"}
    options = [*TINY_FLEET, "--method", "partial_work", "--seed", "1"]
    status, _, error = command("train", *options, "--out", str(folder))
    assert status == 2 and error.count("\n") == 1 and "run of other settings (seed" in error
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("script", [*SCRIPTS, "tune"])
def test_help_says_what_every_option_is(script: str, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    status, printed, _ = command(script, "--help")
    assert status == 0
    options = re.split(r"\n\W*(?=--\w)", printed)[1:]
    names = [option.split()[0] for option in options]
    for common in ("--dataset", "--data-dir", "--model", "--partition", "--availability", "--out", "--rounds"):
        assert common in names, common
    for option in options:
        explained = re.sub(r"\(default:.*", "", option, flags=re.DOTALL)
        assert re.search(r"\s[A-Za-z]?[a-z]{2,}\b", explained), option


@pytest.mark.parametrize("script", ["train", "compare", "tune"])
def test_help_names_every_method(script: str, command: Any) -> None:
    _, printed, _ = command(script, "--help")
    words = set(re.findall(r"\w+", printed))
    assert words >= set(METHODS)


ON_CORES = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv.pop(1))])
from distreal_jax.__main__ import main
main()
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_run_has_the_same_bits_on_one_core_and_on_two(runs: Runs, tmp_path: Path) -> None:
    two, _ = runs.of("train")
    command = [sys.executable, "-c", ON_CORES, "1", "train", *runs.options["train"], "--quiet", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=as_users_have_it(), timeout=PATIENCE, check=True)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
