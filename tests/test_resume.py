"""What is killed, stopped, damaged or out of room goes on and ends as if nothing had been: real processes, then files."""

import dataclasses
import json
import math
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_scripts import run_here

from distreal_jax.document import write_document
from distreal_jax.errors import InputError
from distreal_jax.fleet.evaluation import Scores
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import table_for
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS
from distreal_jax.record.checkpoint import Checkpoints, Restored
from distreal_jax.record.interruption import uninterrupted
from distreal_jax.record.recorded_run import RecordSettings, recorded_run
from distreal_jax.record.run_folder import RunFolder, read_part

ROOT = Path(__file__).parents[1]
FLEET = "--devices 8 --devices-per-round 3 --rounds 12 --steps 2 --eval-every 1 --server-optimizer momentum".split()
TRAIN = ["experiments/train.py", "--method", "partial_work", *FLEET]
COMPARE = ["experiments/compare.py", "--methods", "partial_work,full_resources", *FLEET]
SEARCH = (
    "experiments/search.py --devices 8 --search.population 8 --search.generations 5 --search.repeats 1 "
    "--search.final-repeats 2 --progress.rounds 1 --progress.devices 1 --progress.steps 2 --progress.held-out 100 "
    "--progress.sizes 1"
).split()
PATIENCE = 900.0  # seconds for one process; CI machines are slow
TOO_LARGE = 100_000  # bytes of a file; the metrics of these runs are smaller, their checkpoints larger


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of this module."""
    return tmp_path_factory.mktemp("resume")


def start(command: list[str], out: Path) -> subprocess.Popen[str]:
    """A command in a process of its own, to be killed or stopped."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command, "--out", str(out), "--quiet"], cwd=ROOT, **pipes)


def finished(command: list[str], out: Path) -> str:
    """What a command prints that goes on in this process, and to the end."""
    status, printed, error = run_here(Path(command[0]).stem, *command[1:], "--out", str(out), "--quiet")
    assert status == 0, error
    return printed


@pytest.fixture(scope="module")
def undisturbed(scratch: Path) -> Path:
    """The folder of a run of train.py that nobody disturbed."""
    finished(TRAIN, scratch / "undisturbed")
    return scratch / "undisturbed"


def until(process: subprocess.Popen[str], happened: Callable[[], object]) -> None:
    """Waits for something that the process does; returns also if it ends."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not happened():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.001)


def half_written(out: Path) -> list[str]:
    folder = out / "checkpoints"
    if not folder.exists():
        return []
    names = {path.name for path in folder.iterdir()}
    return [name for name in names if not name.endswith(".json") and f"{name}.json" not in names]


def grown(path: Path) -> Callable[[], bool]:
    """Says whether a file is written after now."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    return lambda: path.exists() and path.stat().st_mtime_ns > before


def killed(process: subprocess.Popen[str]) -> bool:
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def same_run(one: Path, other: Path) -> bool:
    results = [read_part(run / "result.json", "distreal_jax result")[1] for run in (one, other)]
    return results[0] == results[1] and (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()


def test_training_killed_at_random_moments_ends_bitwise_the_same(scratch: Path, undisturbed: Path) -> None:
    out, moments, kills = scratch / "killed", random.Random(0), 0
    for inside in (True, False):
        process = start(TRAIN, out)
        if inside:
            until(process, lambda: half_written(out))
            time.sleep(moments.uniform(0, 0.03))
        else:
            until(process, grown(out / "metrics.jsonl"))
            time.sleep(moments.uniform(0, 0.5))
        kills += killed(process)
    assert kills >= 1
    finished(TRAIN, out)
    assert same_run(out, undisturbed)
    assert not half_written(out)


def test_a_comparison_killed_in_two_of_its_runs_ends_bitwise_the_same(scratch: Path, undisturbed: Path) -> None:
    out = scratch / "comparison"
    for run in ("partial_work-seed0", "full_resources-seed0"):
        process = start(COMPARE, out)
        until(process, grown(out / run / "metrics.jsonl"))
        assert killed(process)
    assert "partial_work" in finished(COMPARE, out)
    # What train.py does is what compare.py does with the same method.
    assert same_run(out / "partial_work-seed0", undisturbed)
    # Of a run that was finished before the last start, results.json has what its own file says, to the letter.
    runs = json.loads((out / "results.json").read_text())["runs"]
    _, stored = read_part(undisturbed / "result.json", "distreal_jax result")
    assert json.dumps(runs[0]) == json.dumps(stored)


def test_a_search_killed_between_generations_finds_the_same_table(scratch: Path) -> None:
    finished(SEARCH, scratch / "search")
    out = scratch / "killed_search"
    process = start(SEARCH, out)
    until(process, (out / "search_checkpoint.json.previous").exists)
    assert killed(process)
    finished(SEARCH, out)
    tables = [json.loads((folder / "table.json").read_text()) for folder in (out, scratch / "search")]
    assert tables[0]["entries"] == tables[1]["entries"]
    assert tables[0]["provenance"]["search"] == tables[1]["provenance"]["search"]


def test_ctrl_c_says_how_to_go_on_and_a_second_process_is_told_of_the_first(scratch: Path, undisturbed: Path) -> None:
    out = scratch / "stopped"
    first = start(TRAIN, out)
    until(first, lambda: half_written(out))
    first.send_signal(signal.SIGSTOP)
    second = start(TRAIN, out)
    assert second.communicate(timeout=PATIENCE)[1].count("\n") == 1
    assert second.returncode == 2
    first.send_signal(signal.SIGINT)
    first.send_signal(signal.SIGCONT)
    output, errors = first.communicate(timeout=PATIENCE)
    assert (first.returncode, output) == (130, "")
    assert errors.strip().count("\n") == 0
    assert "to go on from the last checkpoint: " in errors and errors.strip().endswith(f"--out {out} --quiet")
    assert not half_written(out), "what was being written is written"
    finished(TRAIN, out)
    assert same_run(out, undisturbed)


def test_a_full_disk_ends_training_in_one_line_and_leaves_a_run_that_goes_on(scratch: Path, undisturbed: Path) -> None:
    out = scratch / "full"
    process = start(TRAIN, out)
    until(process, (out / "checkpoints/round-2.json").exists)
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    lines = (out / "metrics.jsonl").read_bytes()
    process = start(TRAIN, out)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (TOO_LARGE, TOO_LARGE))
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 2
    assert errors.startswith("error: the checkpoint of round") and errors.count("\n") == 1
    assert "File too large" in errors and "what was written before is intact" in errors
    assert (out / "metrics.jsonl").read_bytes().startswith(lines)
    finished(TRAIN, out)
    assert same_run(out, undisturbed)


@pytest.fixture(scope="module")
def federation() -> Federation:
    world = World.make(WorldSettings(devices=6), seed=0)
    training = TrainingSettings(rounds=4, devices_per_round=2, steps=2, server_optimizer="momentum")
    return Federation(world, METHODS["partial_work"], table_for(METHODS["partial_work"], world, None, training), training)


def recorded(federation: Federation, path: Path) -> None:
    with RunFolder.at(path, {"rounds": 4}) as folder:
        recorded_run(federation, folder, RecordSettings(eval_every=1))


@pytest.fixture(scope="module")
def finished_run(federation: Federation, scratch: Path) -> Path:
    recorded(federation, scratch / "recorded")
    return scratch / "recorded"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: None,
        lambda run: cut(run / "checkpoints/round-4.json"),
        lambda run: shutil.rmtree(run / "checkpoints/round-4"),
        lambda run: [cut(run / f"checkpoints/round-{rounds}.json") for rounds in (3, 4)],
        lambda run: shutil.rmtree(run / "checkpoints"),
        lambda run: (run / "metrics.jsonl").unlink(),
        lambda run: (run / "metrics.jsonl").write_text('{"round": 1}\n'),
        lambda run: cut(run / "config.json"),
        lambda run: (run / "config.json").unlink(),
        lambda run: [(run / name).unlink() for name in ("config.json", "run.lock")],
        lambda run: (run / "checkpoints/round-3.json").replace(run / "checkpoints/round-4.json"),
    ],
    ids=(
        "none,truncated,missing,both,all gone,no metrics,edited metrics,cut config,no config,neither config nor lock,"
        "another round's"
    ).split(","),
)
def test_a_run_goes_on_from_whatever_is_left_of_it(
    federation: Federation, finished_run: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "result.json").unlink()
    damage(run)
    recorded(federation, run)
    assert same_run(run, finished_run)


def edit(path: Path, field: str, value: Any) -> None:
    """A document that says something else, with a checksum that is right."""
    content = json.loads(path.read_bytes())
    kind, schema = content.pop("kind"), content.pop("schema")
    content.pop("sha256")
    write_document(path, kind, schema, content | {field: value})


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run / "metrics.jsonl").unlink(),
        lambda run: (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:-1]),
        lambda run: (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes().replace(b"2", b"3")),
        lambda run: cut(run / "result.json"),
        lambda run: (run / "result.json").write_bytes((run / "result.json").read_bytes().replace(b"0.1", b"0.9", 1)),
        lambda run: edit(run / "result.json", "seed", 1),
        lambda run: edit(run / "result.json", "method", "distreal"),
        lambda run: edit(run / "result.json", "accuracies", [0.1, 0.2, 0.3, 9.0]),
        lambda run: edit(run / "result.json", "rounds", [1.0, 2.0, 3.0, 5.0]),
        lambda run: edit(run / "result.json", "identity", "0" * 10),
    ],
    ids="no metrics,cut metrics,edited metrics,cut result,edited result,seed,method,range,rounds,settings".split(","),
)
def test_a_finished_run_gets_back_what_it_lost_and_a_result_that_is_not_its_own_is_made_again(
    federation: Federation, finished_run: Path, tmp_path: Path, damage: Callable[[Path], object], capsys: Any
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    damage(run)
    recorded(federation, run)
    assert same_run(run, finished_run)
    assert capsys.readouterr().err.count("\n") == 1


def test_metrics_of_a_finished_run_that_nothing_is_left_of_are_said_to_be_lost(
    federation: Federation, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    shutil.rmtree(run / "checkpoints")
    recorded(federation, run)
    assert capsys.readouterr().err == ""
    (run / "metrics.jsonl").unlink()
    recorded(federation, run)
    assert "no checkpoint is left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "rounds", "said"),
    [
        ({"learning_rate": 1e30}, 4, "uploads were not finite|loss is not finite"),
        ({"learning_rate": 100.0}, 4, "that of guessing 2.3"),
        ({"learning_rate": 100.0}, 1, "that of guessing 2.3"),
        ({}, 4, None),
    ],
)
def test_divergence_is_said_once_and_can_end_a_run(
    federation: Federation, tmp_path: Path, settings: dict[str, float], rounds: int, said: str | None, capsys: Any
) -> None:
    training = dataclasses.replace(federation.training, clip_norm=0.0 if settings else 5.0, **settings)
    federation = dataclasses.replace(federation, training=training)
    watched = RecordSettings(eval_every=1, stop_on_divergence=rounds == 1)
    for again in (False, True):
        with RunFolder.at(tmp_path, {"rounds": 4}) as folder:
            result = recorded_run(federation, folder, watched)
        error = capsys.readouterr().err
        assert len(result.rounds) == rounds and (result.divergence is None) == (said is None)
        if said is None or again:
            assert error == ""
        else:
            assert error.count("\n") == 1 and re.search(said, error) and error.strip() == result.divergence


def test_a_score_that_is_not_finite_is_divergence_and_counts_as_the_network_before_training(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as R squared of a regression; the other methods of a comparison, and other trials of a tuning, go on."""
    monkeypatch.setattr(Federation, "evaluate", lambda *_: Scores(-math.inf, 1.0, np.array([])))
    with RunFolder.at(tmp_path, {}) as folder:
        result = recorded_run(federation, folder, RecordSettings(eval_every=2))
    untrained = federation.world.evaluator(federation.world.params).score
    assert result.accuracies == (untrained,) * len(result.rounds) and "accuracy is not finite" in (result.divergence or "")


GENERATOR = np.random.default_rng(0)
STATE = {"weights": jnp.asarray(GENERATOR.normal(size=(20, 30))), "count": jnp.asarray(3), "bias": jnp.zeros(8)}


def saved(folder: Path, rounds: int) -> None:
    """A state that is another one after each round."""
    Checkpoints(folder, "these settings").save(
        rounds, jax.tree.map(lambda leaf: leaf + rounds, STATE), {"accuracy": rounds / 7}
    )


def assert_right(restored: Restored | None) -> int:
    """A restored checkpoint is what was saved after its rounds; returns these."""
    if restored is None:
        return 0
    for name, leaf in STATE.items():
        np.testing.assert_array_equal(restored.state[name], leaf + restored.rounds)
    assert restored.counted == {"accuracy": restored.rounds / 7}
    return restored.rounds


@pytest.fixture(scope="module")
def two_checkpoints(scratch: Path) -> Path:
    folder = scratch / "two"
    folder.mkdir()
    for rounds in (1, 2, 3):
        saved(folder, rounds)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_a_damaged_checkpoint_is_set_aside_and_never_believed(two_checkpoints: Path, tmp_path: Path, data: Any) -> None:
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(two_checkpoints, folder)
    newest = sorted(name for name in files(folder) if name.startswith("checkpoints/round-3"))
    harmed = folder / data.draw(st.sampled_from(newest))
    content = harmed.read_bytes()
    place = data.draw(st.integers(0, max(len(content) - 1, 0)))
    kind = data.draw(st.sampled_from(["missing", "truncated", "flipped", "zeroed"]))
    if kind == "missing":
        harmed.unlink()
    elif kind == "truncated":
        harmed.write_bytes(content[:place])
    elif kind == "flipped":
        harmed.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1 :]
        )
    else:
        harmed.write_bytes(bytes(len(content)))
    damaged = {name: content for name, content in files(folder / "checkpoints").items() if name.startswith("round-3")}
    rounds = assert_right(Checkpoints(folder, "these settings").latest(STATE))
    aside = folder / "damaged_checkpoints/round-3"
    if content == (harmed.read_bytes() if harmed.exists() else None):
        assert rounds == 3
    else:
        assert rounds == 2
        assert "round-3.json" not in damaged or files(aside) == damaged, "nothing is lost"
        saved(folder, 3)
        assert assert_right(Checkpoints(folder, "these settings").latest(STATE)) == 3


def test_checkpoints_that_are_all_damaged_are_said_and_kept(
    two_checkpoints: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(two_checkpoints, tmp_path / "run")
    for rounds in (2, 3):
        (tmp_path / f"run/checkpoints/round-{rounds}.json").write_text("{")
    assert Checkpoints(tmp_path / "run", "these settings").latest(STATE) is None
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(" (")[0].split(" and ")[0] for line in lines] == [
        "the checkpoint of round 3 is damaged",
        "the checkpoint of round 2 is damaged",
        "no other checkpoint is there: starting from the first round",
    ]
    assert {path.name for path in (tmp_path / "run/damaged_checkpoints").iterdir()} == {"round-2", "round-3"}


@pytest.mark.parametrize("name", ["distreal[idle=train]-seed0", "a[b", "*?[!x]"])
def test_a_folder_may_have_the_name_of_a_method_with_choices(tmp_path: Path, name: str) -> None:
    """Orbax takes brackets for a pattern and finds nothing it has written."""
    folder = tmp_path / name
    folder.mkdir()
    checkpoints = Checkpoints(folder, "these settings")
    for rounds in (1, 2):
        checkpoints.save(rounds, STATE, {})
    restored = Checkpoints(folder, "these settings").latest(STATE)
    assert restored is not None and restored.rounds == 2
    jax.tree.map(np.testing.assert_array_equal, restored.state, STATE)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir())[-2:] == ["round-2", "round-2.json"]


def test_a_checkpoint_of_other_settings_is_refused_and_left_as_it_is(two_checkpoints: Path) -> None:
    before = files(two_checkpoints)
    with pytest.raises(InputError, match="other settings") as error:
        Checkpoints(two_checkpoints, "other settings").latest(STATE)
    assert "\n" not in str(error.value)
    assert files(two_checkpoints) == before


@contextmanager
def full_disk() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_finds_no_room_leaves_those_before(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path, 1)
    with full_disk(), pytest.raises(InputError, match=r"round 2 can't be written .*File too large") as error:
        saved(tmp_path, 2)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", ""), "the storage's own tracebacks are nobody's business"
    assert assert_right(Checkpoints(tmp_path, "these settings").latest(STATE)) == 1
    assert not half_written(tmp_path)
    saved(tmp_path, 2)


def test_a_place_that_cant_hold_checkpoints_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        Checkpoints(tmp_path, "these settings")


def test_what_else_lies_beside_checkpoints_is_no_checkpoint(two_checkpoints: Path, tmp_path: Path) -> None:
    shutil.copytree(two_checkpoints, tmp_path / "run")
    for name in ("round-9.orbax-checkpoint-tmp", "round-8", "old"):
        (tmp_path / "run/checkpoints" / name).mkdir()
    (tmp_path / "run/checkpoints/notes.txt").write_text("keep")
    assert assert_right(Checkpoints(tmp_path / "run", "these settings").latest(STATE)) == 3
    names = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert names == {"round-2", "round-2.json", "round-3", "round-3.json", "old", "notes.txt"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_what_is_being_written_is_written(number: signal.Signals) -> None:
    done = []

    def stop(*_: object) -> None:
        done.append("stopped")

    before = signal.signal(number, stop)
    try:
        with uninterrupted():
            signal.raise_signal(number)
            done.append("written")
        assert done == ["written", "stopped"]
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)
