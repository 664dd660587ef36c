"""Several processes of one run under `jax.distributed`: real ones on the loopback, and what a launcher's variables say."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running_scripts import run_here

import distreal_jax as dj
from distreal_jax import processes
from distreal_jax.experiment import JobSettings, job, last_word
from distreal_jax.fleet.exchange import bytes_of_round

ROOT = Path(__file__).parents[1]
COMPARE = (
    "experiments/compare.py --methods partial_work,heterofl --devices 6 --devices-per-round 4 --steps 2 --batch-size 4 "
    "--rounds 8 --eval-every 1 --server-optimizer momentum"
).split()
RUNS = ("partial_work-seed0", "heterofl-seed0")
SEARCH = (
    "experiments/search.py --devices 8 --search.population 4 --search.generations 3 --search.repeats 1 "
    "--search.final-repeats 2 --progress.rounds 1 --progress.devices 1 --progress.steps 2 --progress.held-out 100 "
    "--progress.sizes 1"
).split()
LOST = "another process of the job has ended"
PATIENCE = 900.0  # seconds for one process; CI machines are slow
MINUTE = 60.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(count: int, command: list[str], *options: str, own: tuple[list[str], ...] = ()) -> list["subprocess.Popen[str]"]:
    """So many processes of a command; `own` has more options of each."""
    where = ["--coordinator-address", f"127.0.0.1:{free_port()}", "--num-processes", str(count), "--process-id"]
    return [
        subprocess.Popen(
            [sys.executable, *command, *where, str(index), *options, *(own[index] if own else [])],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


def ended(running: list["subprocess.Popen[str]"], patience: float = PATIENCE) -> list[tuple[int, str, str]]:
    """Status, stdout and stderr of each."""
    said = [process.communicate(timeout=patience) for process in running]
    return [(process.returncode, out, err) for process, (out, err) in zip(running, said, strict=True)]


def until_lines(path: Path, count: int, running: list["subprocess.Popen[str]"]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert all(process.poll() is None for process in running) and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def alone(scratch: Path) -> Path:
    """The comparison by one process, this one, which compiles for all."""
    status, _, said = run_here("compare", *COMPARE[1:], "--quiet", "--out", str(scratch / "alone"))
    assert status == 0, said
    return scratch / "alone"


def test_a_comparison_by_three_processes_then_two_each_losing_one_is_bitwise_that_of_one(alone: Path, scratch: Path) -> None:
    """Process 1 of three is killed, then process 0 of two is stopped; the others end by themselves, and two finish."""
    out = scratch / "together"
    for number, count, gone, run in ((signal.SIGKILL, 3, 1, RUNS[0]), (signal.SIGTERM, 2, 0, RUNS[1])):
        running = start(count, COMPARE, "--out", str(out))
        until_lines(out / run / "metrics.jsonl", 2, running)
        running[gone].send_signal(number)
        for index, (status, printed, said) in enumerate(ended(running, MINUTE)):
            assert not printed
            if index != gone:
                assert status not in (0, 143)
                errors = [line for line in said.splitlines() if LOST in line]
                assert len(errors) == 1 and "compare.py" in errors[0]
                assert index == 0 or said.splitlines() == errors  # process 0 alone has said what it was at
            elif number == signal.SIGTERM:
                assert status == 143 and LOST not in said
                assert said.splitlines()[-1].startswith("stopped; to go on from the last checkpoint: ")
    first, second = ended(start(2, COMPARE, "--out", str(out)))
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "report:" in first[1] and "2 processes with 4 devices" in first[2]
    assert second[1:] == ("", "")
    for run in RUNS:
        assert (out / run / "metrics.jsonl").read_bytes() == (alone / run / "metrics.jsonl").read_bytes()

        assert json.loads((out / run / "result.json").read_bytes()) == json.loads((alone / run / "result.json").read_bytes())
    assert (out / "report.md").read_bytes() == (alone / "report.md").read_bytes()


def test_a_search_whose_process_0_is_killed_finds_the_table_of_one_process(scratch: Path) -> None:
    """One process goes on with what two began."""
    for out in (scratch / "searched", scratch / "searched together"):
        if out.name != "searched":
            running = start(2, SEARCH, "--out", str(out))
            until_lines(out / "search_checkpoint.json", 1, running)
            running[0].send_signal(signal.SIGKILL)
            _, (status, printed, said) = ended(running, MINUTE)
            assert status != 0 and not printed and said.count("\n") == 1 and LOST in said
            assert not (out / "table.json").exists()
        status, _, said = run_here("search", *SEARCH[1:], "--quiet", "--out", str(out))
        assert status == 0, said
    one, other = (json.loads((scratch / name / "table.json").read_text()) for name in ("searched", "searched together"))
    assert one["entries"] == other["entries"] and one["provenance"]["search"] == other["provenance"]["search"]


SCRIPT = """
import sys
import jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
sys.path.insert(0, "tests")
from test_processes import by_the_library
by_the_library(sys.argv[3] + sys.argv[2])
from distreal_jax.commands import benchmark
benchmark.main(benchmark.Options(workload="B", keep=0.02, clients=2, rounds=1))
jax.distributed.shutdown()
"""


def by_the_library(file: str) -> None:
    """A method that is trained by Python alone."""
    world = dj.World.make(dj.WorldSettings(devices=6), seed=0)
    training = dj.TrainingSettings(devices_per_round=3, steps=2, batch_size=4)
    history = dj.Federation(world, "partial_work", training=training).fit(2, eval_every=1)
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(history.params)]
    np.savez(file, *arrays, history["test_loss"])


def test_a_script_that_joins_jax_s_processes_trains_bitwise_as_alone_and_sends_what_is_foretold(scratch: Path) -> None:
    by_the_library(str(scratch / "library"))
    address = f"127.0.0.1:{free_port()}"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, address, str(index), str(scratch / "library")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in running:
        printed, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        said = json.loads(printed.splitlines()[-1])  # of benchmark; before it, Gloo says that it is connected
        sent, foretold = said["bytes_sent_in_a_round"], said["bytes_sent_by_the_formula"]
        assert said["processes"] == 2 and (sent is None or foretold <= sent <= 1.02 * foretold)
    expected, *others = (np.load(scratch / f"library{name}.npz") for name in ("", "0", "1"))
    for other in others:
        assert expected.files == other.files
        for name in expected.files:
            np.testing.assert_array_equal(expected[name], other[name])


def test_processes_with_other_settings_say_so_all_of_them_and_write_nothing(tmp_path: Path) -> None:
    both = ended(start(2, COMPARE, "--out", str(tmp_path / "run"), own=(["--rounds", "8"], ["--rounds", "9"])))
    for status, printed, said in both:
        assert status == 2 and not printed
        assert "differ: training.rounds is 8 in process 0, 9 in process 1; start the same command" in said.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--coordinator-address node1:8476", "--coordinator-address alone does not say where"),
        ("--num-processes 2 --process-id 0", "give --coordinator-address as well"),
        ("--coordinator-address node1:8476 --num-processes 2 --process-id 2", "numbered from 0 to 1"),
        ("--coordinator-address node1 --num-processes 2 --process-id 0", "give HOST:PORT"),
        ("--process-id -1", "give a whole number of at least 0"),
        ("--num-processes 0", "give a whole number of at least 1"),
    ],
)
def test_options_that_don_t_say_where_a_process_belongs_are_refused_in_a_line(options: str, said: str) -> None:
    status, printed, error = run_here("train", *options.split())
    assert status == 2 and not printed and error.startswith("error: ") and error.count("\n") == 1
    assert said in error


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"}
GIVEN = JobSettings("node1:8476", 2, 1)


@pytest.mark.parametrize(
    ("settings", "environment", "place"),
    [
        (JobSettings(), {}, None),
        (JobSettings(), SLURM, {}),
        (JobSettings(), SLURM | {"SLURM_GPUS_PER_TASK": "a100:2"}, {"local_device_ids": [0, 1]}),
        (JobSettings(), SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),  # a shell of salloc
        (JobSettings(), {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, None),  # the script of sbatch
        (JobSettings(), OPEN_MPI, {}),
        (JobSettings(), {"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "0"}, {}),
        (JobSettings(), {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, None),
        (JobSettings(num_processes=1), SLURM, None),
        (JobSettings("auto"), {}, {}),
        (JobSettings("node1:8476"), SLURM, {"coordinator_address": "node1:8476", "num_processes": 4, "process_id": 3}),
        (GIVEN, {}, {"coordinator_address": "node1:8476", "num_processes": 2, "process_id": 1}),
    ],
)
def test_a_process_finds_its_place(settings: JobSettings, environment: dict[str, str], place: dict[str, Any] | None) -> None:
    found = job.place_of(settings, environment, alone=False)
    assert (found if found is None else {n: v for n, v in found.items() if n != "cluster_detection_method"}) == place


def test_runs_that_are_shared_out_by_their_folders_join_only_when_asked() -> None:
    assert job.place_of(JobSettings(), SLURM, alone=True) is None
    assert job.place_of(GIVEN, SLURM, alone=True) is not None


def test_a_launcher_that_does_not_say_where_processes_meet_is_named() -> None:
    with pytest.raises(dj.InputError, match="OMPI_MCA_orte_hnp_uri is not set"):
        job.place_of(JobSettings(), {name: value for name, value in OPEN_MPI.items() if "uri" not in name}, alone=False)


@given(st.lists(st.floats(0, 1e9), max_size=40), st.lists(st.integers(1, 8), min_size=1, max_size=8))
def test_every_piece_of_work_is_done_by_one_process_and_none_does_more_than_its_share(
    work: list[float], lanes: list[int]
) -> None:
    of_process = processes.shares(work, lanes)
    assert sorted(piece for pieces in of_process for piece in pieces) == list(range(len(work)))
    for pieces, own in zip(of_process, lanes, strict=True):
        assert len(pieces) <= -(-len(work) * own // sum(lanes))


def test_long_pieces_of_work_are_spread() -> None:
    assert processes.shares([1, 8, 1, 7, 1, 1], [1, 1]) == [[1, 2, 5], [0, 3, 4]]


def test_what_a_process_sends_in_a_round_shrinks_to_that_of_a_ring() -> None:
    """Of 16 groups, two processes have eight each: half of every sum, and half of the total. Sixteen have one."""
    assert bytes_of_round(1000, 1) == 0
    assert bytes_of_round(1000, 2) == 4 * (8 + 1) * 500
    assert bytes_of_round(1600, 16) == 4 * 2 * 100 * 15  # a ring's all-reduce sends 2 (N - 1) / N of the values


LOG = b"""I0000 00:00:01.000000  1 cuda.cc:1] one GPU
E1126 02:48:47.780980  2 coordination_service_agent.cc:289] Polled an error from coordination service.
more of it
F1126 02:48:47.781123  2 client.h:80] Terminating process because the JAX distributed service detected fatal errors. This
*** Check failure stack trace: ***
    @     0x7f2571f18634  absl
"""


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (LOG, b"I0000 00:00:01.000000  1 cuda.cc:1] one GPU\nTHE LINE\n"),
        (last_word.LOST + LOG, b"THE LINE\n"),
        (last_word.SPOKEN + LOG, b""),
        (LOG.partition(b"F1126")[0], LOG.partition(b"F1126")[0]),
        (b"", b""),
    ],
)
def test_of_jax_s_log_of_a_lost_process_one_line_is_left(log: bytes, said: bytes) -> None:
    command = [sys.executable, "-I", "-S", last_word.__file__, "THE LINE"]
    assert subprocess.run(command, input=log, capture_output=True, check=True).stderr == said


def test_a_process_alone_tells_itself() -> None:
    assert processes.count() == 1 and processes.is_first() and processes.lanes() == [2]
    assert processes.exchanged(b"a") == [b"a"] and processes.told_bytes(b"b") == b"b"
    assert processes.told(lambda: {"rounds": 3}) == {"rounds": 3}
    processes.agreed("settings", {"rounds": 3})
