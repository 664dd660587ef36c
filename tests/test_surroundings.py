"""The machine that isn't yours: no home, no locks, closed streams, full disks and strange environments end no run."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from distreal_jax.errors import InputError
from distreal_jax.experiment.surroundings import prepare_jax, wait_for_others
from distreal_jax.files import user_path
from distreal_jax.record import lock
from distreal_jax.record.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
PATIENCE = 900.0
TRAIN = "experiments/train.py --method partial_work --devices 10 --devices-per-round 2 --steps 2 --rounds 1 --quiet".split()
COMPARE = [
    "experiments/compare.py",
    "--methods",
    "partial_work",
    *TRAIN[3:],
]
# What a bare container, a Mac or Windows doesn't have.
BARE = """
import os, pwd, runpy, sys
def nobody(*_):
    raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = nobody
for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "JAX_COMPILATION_CACHE_DIR"):
    os.environ.pop(name, None)
os.environ |= {home}
del os.sched_getaffinity
os.process_cpu_count = os.cpu_count  # which a Python from 3.13 on is built with where there is no affinity
sys.modules["fcntl"] = sys.modules["resource"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclasses.dataclass
class Machine:
    """A process on a machine with something missing."""

    process: "subprocess.Popen[bytes]"
    out: Path

    def end(self) -> tuple[int, str, str]:
        printed, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, (printed or b"").decode(), (said or b"").decode()


def start(command: Sequence[str], out: Path, redirected: str = "", before: str = ":", **environment: str) -> Machine:
    every = ["sh", "-c", f'{before}; exec "$@" {redirected}', "sh", sys.executable, *command, "--out", str(out)]
    pipe = subprocess.PIPE
    return Machine(subprocess.Popen(every, cwd=ROOT, env=os.environ | environment, stdout=pipe, stderr=pipe), out)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Machine]:
    """All at once, as most of their time is imports."""
    folder = tmp_path_factory.mktemp("machines")
    no_home, no_place = ["-c", BARE.format(home={})], ["-c", BARE.format(home={"HOME": "/dev/null"})]
    return {
        "bare": start([*no_home, *TRAIN], folder / "bare", "2>&- >/dev/full <&-", JAX_ENABLE_X64="1"),
        "no place": start([*no_place, *TRAIN], folder / "no place", ">&-"),
        "ascii": start(COMPARE, folder / "ascii", PYTHONIOENCODING="ascii"),
        "no cuda": start(TRAIN, folder / "no cuda", JAX_PLATFORMS="cuda"),
        "no platform": start(TRAIN, folder / "no platform", JAX_PLATFORMS="abacus"),
        "unknown flag": start(TRAIN, folder / "unknown flag", XLA_FLAGS="--xla_of_tomorrow=1"),
        "small": start(TRAIN, folder / "small", "", before="ulimit -v 2000000"),
    }


def accuracies(out: Path) -> list[float]:
    return json.loads((out / "result.json").read_bytes())["accuracies"]


def test_a_run_is_done_and_kept_without_home_user_locks_affinity_and_streams(machines: dict[str, Machine]) -> None:
    bare, no_place, comparison = (machines[name] for name in ("bare", "no place", "ascii"))
    assert bare.end() == (0, "", "")
    status, printed, said = no_place.end()
    assert (status, printed) == (0, "") and said.count("\n") == 1 and "start no second process" in said
    assert comparison.end()[0] == 0
    assert accuracies(bare.out) == accuracies(no_place.out) == accuracies(comparison.out / "partial_work-seed0")


def test_what_an_encoding_has_not_is_left_out(machines: dict[str, Machine]) -> None:
    out = machines["ascii"].out
    assert (out / "report.md").read_text(encoding="utf-8").count("–") > 0, "the report has all of it"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no cuda", "JAX can't use the platform 'cuda'"),
        ("no platform", "JAX can't use the platform 'abacus'"),
        ("unknown flag", "Unknown flag in XLA_FLAGS: --xla_of_tomorrow=1"),
        ("small", "ulimit -v leaves 1.9 GiB"),
    ],
)
def test_what_the_machine_has_not_is_said_in_one_line(machines: dict[str, Machine], name: str, words: str) -> None:
    status, printed, said = machines[name].end()
    assert (status, printed) == (2, "") and said.count("\n") == 1 and words in said, said
    assert not machines[name].out.exists()


def test_a_full_disk_under_the_compiled_programs_costs_time_alone(tmp_path: Path) -> None:
    script = """
import resource, warnings
warnings.simplefilter("error")
import jax, jax.numpy as jnp
from distreal_jax.experiment.surroundings import keep_compiled_programs
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
print(jax.jit(lambda x: x + 1)(jnp.ones(3)))
"""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2. 2. 2.]\n", "")


@pytest.mark.parametrize("asked", ["", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "flags.txt"])
def test_processes_wait_for_each_other_by_a_flag_that_xla_gets_to_read(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops at the first word that is no flag, and takes flags that begin with none for the name of a file."""
    monkeypatch.setenv("XLA_FLAGS", asked)
    for _ in range(2):
        wait_for_others()
    first, _, rest = os.environ["XLA_FLAGS"].partition(" ")
    assert (first, rest) == (asked, "") if asked == "flags.txt" else rest == asked and "collective_timeout" in first


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--xla_of_tomorrow=1", "Unknown flag in XLA_FLAGS: --xla_of_tomorrow=1"),
        ("--xla_backend_optimization_level=high", "Couldn't interpret value high for flag xla_backend_optimization_level"),
        ("no-such-file", 'Could not open file "no-such-file" to read flags for environment variable "XLA_FLAGS"'),
    ],
)
def test_flags_that_xla_would_die_of_are_refused_with_its_reason(
    flags: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", flags)
    with pytest.raises(InputError) as error:
        prepare_jax()
    assert str(error.value).startswith(f"XLA_FLAGS is {flags!r} ({said}") and "\n" not in str(error.value)


CONTAINED = """
import os, sys
os.getpid = lambda: 1
from distreal_jax.loading import end_at_ctrl_c
end_at_ctrl_c()
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_first_process_of_a_container_ends_while_it_loads_as_its_cluster_asks() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", CONTAINED], cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143  # not by the signal, which a first process does not get


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "a\0b", "a\udcff"])
def test_a_path_that_no_file_can_have_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(InputError) as error:
        user_path(path)
    assert str(error.value).isascii() and "\n" not in str(error.value)


def test_a_disk_without_locks_is_said_once_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", without)
    monkeypatch.setattr(lock, "_told", False)
    for name in ("a", "b"):
        RunFolder.at(tmp_path / name, {"rounds": 1}).close()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "can't be locked (Function not implemented)" in said
