"""Several processes at one comparison: a dead one's run goes on elsewhere, and results are those of one process."""

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from running_scripts import run_here

from distreal_jax.experiment.sharing import shared_out
from distreal_jax.record.lock import HeldError
from distreal_jax.record.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
COMPARE = (
    "experiments/compare.py --methods partial_work,full_resources --seeds 0,1 --devices 6 --devices-per-round 2 --steps 2 "
    "--batch-size 4 --rounds 6 --eval-every 1 --quiet"
).split()
PATIENCE = 900.0  # seconds for one process; CI machines are slow
RUNS = [f"{method}-seed{seed}" for seed in (0, 1) for method in ("partial_work", "full_resources")]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharing")


def start(out: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, *COMPARE, "--out", str(out), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def alone(scratch: Path) -> Path:
    """The comparison by one process, this one, which compiles for all."""
    options = [option for option in COMPARE[1:] if option != "--quiet"]
    status, _, said = run_here("compare", *options, "--out", str(scratch / "alone"))
    assert status == 0, said
    (scratch / "said.txt").write_text(said)
    return scratch / "alone"


def test_a_comparison_says_which_run_of_how_many_and_about_how_long_all_take(alone: Path) -> None:
    begins = [line for line in (alone.parent / "said.txt").read_text().splitlines() if line.startswith("run ")]
    assert [line.split(";")[0] for line in begins] == [
        f"run {number} of 4: {method} (seed {seed})"
        for number, (seed, method) in enumerate(itertools.product((0, 1), ("partial_work", "full_resources")), 1)
    ]
    left = [re.sub(r".*; about .* left", "left", line) for line in begins[1:]]
    assert left == ["left for 3 runs", "left for 2 runs", "left for 1 run"]


def numbers(out: Path) -> list[dict[str, object]]:
    runs = json.loads((out / "results.json").read_bytes())["runs"]
    return sorted(runs, key=lambda run: (run["method"], run["seed"]))


def test_two_of_three_processes_finish_what_the_third_was_killed_at_bitwise_as_one_alone(alone: Path, scratch: Path) -> None:
    out = scratch / "shared"
    processes = [start(out, "--share") for _ in range(3)]
    deadline = time.monotonic() + PATIENCE
    while not (held := [run for run in RUNS if (out / run / "metrics.jsonl").exists()]):
        assert time.monotonic() < deadline and any(process.poll() is None for process in processes)
        time.sleep(0.01)
    holder = int((out / held[0] / "run.lock").read_text().split()[0])
    killed = next(process for process in processes if process.pid == holder)
    killed.send_signal(signal.SIGKILL)
    for process in processes:
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == (-signal.SIGKILL if process is killed else 0), said
        assert all("left to other processes" in line for line in said.splitlines()), said
    assert numbers(out) == numbers(alone)
    for run in RUNS:
        assert (out / run / "metrics.jsonl").read_bytes() == (alone / run / "metrics.jsonl").read_bytes()
        assert len((out / run / "metrics.jsonl").read_bytes().splitlines()) == 6
    assert (out / "report.md").read_bytes() == (alone / "report.md").read_bytes()


def test_what_is_held_is_waited_for_and_nothing_is_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    with ExitStack() as others:
        for index in (1, 2):
            others.enter_context(RunFolder.at(tmp_path / str(index), {"run": index}))
        monkeypatch.setattr(time, "sleep", lambda _: others.close())

        def do(index: int) -> int:
            with RunFolder.at(tmp_path / str(index), {"run": index}):
                done.append(index)
            return 10 * index

        assert shared_out(range(4), do) == [0, 10, 20, 30]
    assert done == [0, 3, 1, 2]
    assert capsys.readouterr().err == "2 of 4 runs are left to other processes: waiting\n"


def test_a_folder_that_is_let_go_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    with RunFolder.at(tmp_path, {"run": 1}), pytest.raises(HeldError):
        RunFolder.at(tmp_path, {"run": 1})
    with RunFolder.at(tmp_path, {"run": 1}) as one:
        one.let_go()
        with RunFolder.at(tmp_path, {"run": 1}, wait=True) as other:
            other.let_go()
            with one.alone(), pytest.raises(HeldError):
                RunFolder.at(tmp_path, {"run": 1})
            with other.alone():
                other.write_part("results.json", "results", {"accuracy": 0.5})
        assert one.read_part("results.json", "results") == {"accuracy": 0.5}
