import dataclasses
import enum
import errno
import json
import math
import os
import resource
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distreal_jax.errors import InputError
from distreal_jax.files import write_atomically, writing
from distreal_jax.record.json_values import json_value, settings_hash
from distreal_jax.record.metrics import read_metrics
from distreal_jax.record.provenance import source_commit
from distreal_jax.record.report import Section, write_report
from distreal_jax.record.run_folder import RunFolder, read_config

SETTINGS = {"method": "distreal", "rounds": 50, "data": {"name": "digits", "alpha": 0.3}}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda items: st.lists(items, max_size=3) | st.dictionaries(st.text(max_size=3), items, max_size=3),
    max_leaves=8,
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.lock"}


@contextmanager
def nearly_full_disk(more: int, path: Path) -> Iterator[None]:
    """No file of this process grows beyond what `path` holds and `more` bytes: writes end halfway, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), st.randoms(use_true_random=False))
def test_the_hash_of_settings_does_not_depend_on_their_order(chosen: dict[str, Any], random) -> None:
    names = list(chosen)
    random.shuffle(names)
    assert settings_hash({name: chosen[name] for name in names}) == settings_hash(chosen)
    assert settings_hash(chosen | {"another": 1}) != settings_hash(chosen)


@given(VALUES)
def test_what_is_written_is_json_and_reads_back_the_same(value: Any) -> None:
    plain = json_value(value)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_arrays_dataclasses_paths_and_choices_become_plain_json() -> None:
    @dataclasses.dataclass
    class Load:
        rate: float
        folder: Path

    class Colour(enum.Enum):
        RED = "red"

    given = {"load": Load(0.5, Path("a/b")), "array": np.arange(3), "scalar": np.float32(0.5), "choice": Colour.RED}
    given |= {"tuple": (1, 2), "set": {2, 1}, "nan": [math.nan, np.inf]}
    assert json_value(given) == {
        "load": {"rate": 0.5, "folder": "a/b"},
        "array": [0, 1, 2],
        "scalar": 0.5,
        "choice": "red",
        "tuple": [1, 2],
        "set": [1, 2],
        "nan": [None, None],
    }
    with pytest.raises(InputError, match="can't be written as JSON"):
        json_value({"model": print})


def test_other_settings_get_another_folder(tmp_path: Path) -> None:
    with (
        RunFolder.open(tmp_path, "train", SETTINGS) as one,
        RunFolder.open(tmp_path, "train", SETTINGS | {"rounds": 9}) as two,
    ):
        assert one.path != two.path
        assert one.path.name == f"train-{settings_hash(SETTINGS)}" and len(settings_hash(SETTINGS)) == 10


def test_a_number_can_be_traced_to_command_commit_versions_and_machine(tmp_path: Path) -> None:
    for times in (1, 2):
        with RunFolder.at(tmp_path / "run", SETTINGS) as folder:
            assert folder.resumed == (times == 2)
        config = json.loads((tmp_path / "run/config.json").read_text())
        assert config["settings"] == SETTINGS
        assert len(config["sessions"]) == times
    session = config["sessions"][0]
    assert set(session) >= {"command", "commit", "versions", "platform", "machine", "cpu", "accelerators", "date"}
    assert set(session["versions"]) >= {"python", "distreal_jax", "jax", "flax", "optax", "numpy"}
    assert session["date"].endswith("+00:00") and session["command"].endswith(shlex.join(sys.orig_argv[1:]))


def test_the_commit_is_that_of_the_source_and_says_whether_it_was_changed(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("")
    assert source_commit(source) == {"hash": "unknown", "dirty": None}

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    assert source_commit(source)["hash"] == "unknown", "not a file of this repository"
    git("add", "module.py")
    git("commit", "-q", "-m", "first")
    assert source_commit(source) == {"hash": git("rev-parse", "HEAD"), "dirty": False}
    source.write_text("changed")
    assert source_commit(source)["dirty"] is True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rounds": 60}, "rounds is 50 there, 60 now"),
        ({"data": {"name": "digits", "alpha": 0.1}}, "data.alpha is 0.3 there, 0.1 now"),
        ({"seed": 1}, "seed is not set there, set now"),
        ({"rounds": 50.0}, "rounds is 50 there, 50.0 now"),
    ],
)
def test_a_folder_of_other_settings_is_refused_and_left_as_it_is(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        folder.append_metrics("metrics", {"round": 1})
    before = contents(tmp_path)
    with pytest.raises(InputError, match=words) as error:
        RunFolder.at(tmp_path, SETTINGS | change)
    assert "\n" not in str(error.value)
    assert contents(tmp_path) == before
    with RunFolder.at(tmp_path, SETTINGS):
        pass


def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files but no run"):
        RunFolder.at(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_is_not_continued_where_that_was_not_wanted(tmp_path: Path) -> None:
    RunFolder.at(tmp_path, SETTINGS, resume=False).close()
    with pytest.raises(InputError, match="already holds a run"):
        RunFolder.at(tmp_path, SETTINGS, resume=False)


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"settings": 3}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_config_is_kept_and_written_anew_for_the_same_run_alone(
    tmp_path: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    RunFolder.at(tmp_path, SETTINGS).close()
    (tmp_path / "config.json").write_bytes(damage)
    with pytest.raises(InputError, match=r"config\.json") as error:
        RunFolder.at(tmp_path, SETTINGS | {"rounds": 9})
    assert "\n" not in str(error.value) and (tmp_path / "config.json").read_bytes() == damage
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        assert folder.resumed
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "config.json.damaged").read_bytes() == damage
    assert read_config(tmp_path)["settings"] == SETTINGS


def test_a_run_that_goes_on_under_something_else_says_so_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with RunFolder.at(tmp_path, SETTINGS) as folder:
            folder.say_what_changed()
    assert capsys.readouterr().err == ""
    now = folder.sessions[-1]
    assert now["jax_platform"] == "cpu" and now["devices"] == 2
    other = {**now, "devices": 8, "versions": {**now["versions"], "jax": "0.11.0"}}
    monkeypatch.setattr("distreal_jax.record.run_folder.provenance", lambda: other)
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        folder.say_what_changed()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"devices 8 (before 2), jax 0.11.0 (before {now['versions']['jax']})" in said
    assert [session["devices"] for session in read_config(tmp_path)["sessions"]] == [2, 2, 8]


@pytest.mark.parametrize("lost", [["config.json"], ["config.json", "run.lock"]], ids=["config", "config and lock"])
def test_a_run_whose_config_is_lost_goes_on_and_no_other_takes_its_folder(tmp_path: Path, lost: list[str]) -> None:
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        folder.write_part("result.json", "a result", {"accuracy": 0.5})
    for name in lost:
        (tmp_path / name).unlink()
    for _ in range(2):
        with pytest.raises(InputError, match=r"other settings, whose config\.json is lost"):
            RunFolder.at(tmp_path, SETTINGS | {"rounds": 9})
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        assert folder.resumed and folder.read_part("result.json", "a result") == {"accuracy": 0.5}


def test_a_damaged_config_of_who_knows_what_is_left_as_it_is_and_the_advice_leads_on(tmp_path: Path) -> None:
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        folder.write_part("result.json", "a result", {"accuracy": 0.5})
    (tmp_path / "config.json").write_bytes((tmp_path / "config.json").read_bytes()[:300])
    (tmp_path / "run.lock").write_bytes(b"123")
    result = (tmp_path / "result.json").read_bytes()
    (tmp_path / "result.json").write_bytes(b"")
    with pytest.raises(InputError, match="move it away and start the same command again"):
        RunFolder.at(tmp_path, SETTINGS)
    (tmp_path / "config.json").unlink()
    (tmp_path / "result.json").write_bytes(result)
    RunFolder.at(tmp_path, SETTINGS).close()


def test_a_part_of_other_settings_or_of_another_kind_is_not_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunFolder.at(tmp_path / "other", SETTINGS | {"rounds": 9}) as other:
        other.write_part("result.json", "a result", {"accuracy": 0.5})
    with RunFolder.at(tmp_path / "run", SETTINGS) as folder:
        assert folder.read_part("result.json", "a result") is None
        for count in (1, 2):
            (folder.path / "result.json").write_bytes((other.path / "result.json").read_bytes())
            assert folder.read_part("result.json", "a result") is None
            assert len(list(folder.path.glob("result.json.damaged*"))) == count
        assert capsys.readouterr().err.count("is of a run of other settings") == 2
        folder.write_part("result.json", "a result", {"accuracy": math.nan})
        assert folder.read_part("result.json", "a result") == {"accuracy": None}
        assert folder.read_part("result.json", "a table") is None
        assert "expected a 'a table'" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["file/run", "file", "/proc/run"])
def test_a_place_that_cant_be_written_ends_in_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write") as error:
        RunFolder.at(tmp_path / place, SETTINGS)
    assert "\n" not in str(error.value) and "make room" not in str(error.value)
    if place != "/proc/run":
        assert f"{tmp_path / 'file'} is a file, where a folder is expected" in str(error.value)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EACCES, "choose a folder that you may write"),
        (errno.EROFS, "choose a folder that you may write"),
        (errno.EISDIR, "is a folder, where a file is expected"),
    ],
)
def test_what_the_disk_refuses_is_said_with_what_helps(number: int, advice: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=advice) as error, writing(tmp_path / "run"):
        raise OSError(number, os.strerror(number))
    assert ("make room" in str(error.value)) is (advice == "make room")


def test_a_second_process_is_told_who_has_the_folder_until_that_one_dies(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from distreal_jax.record.run_folder import RunFolder
        folder = RunFolder.at(Path(sys.argv[1]), {"rounds": 1})
        print("open", flush=True)
        time.sleep(600)
    """
    with start(script, tmp_path) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        with pytest.raises(InputError, match=f"in use by process {holder.pid};"):
            RunFolder.at(tmp_path, {"rounds": 1})
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    RunFolder.at(tmp_path, {"rounds": 1}).close()


def test_one_process_does_not_open_a_folder_twice(tmp_path: Path) -> None:
    with RunFolder.at(tmp_path, SETTINGS), pytest.raises(InputError, match=f"process {os.getpid()}"):
        RunFolder.at(tmp_path, SETTINGS)
    RunFolder.at(tmp_path, SETTINGS).close()


def test_a_process_killed_at_any_moment_leaves_files_that_read_well(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from distreal_jax.record.run_folder import RunFolder
        with RunFolder.at(Path(sys.argv[1]), {"rounds": 1}) as folder:
            number = len(folder.read_metrics("metrics"))
            print("open", flush=True)
            while True:
                folder.append_metrics("metrics", {"number": number, "filling": "x" * (number % 5000)})
                folder.write_part("results.json", "results", {"number": number, "filling": ["x"] * (number % 5000)})
                number += 1
    """
    generator = np.random.default_rng(0)
    for _ in range(2):
        with start(script, tmp_path) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == "open\n"
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(generator.uniform(0.01, 0.4))
            writer.kill()
        with RunFolder.at(tmp_path, {"rounds": 1}) as folder:
            numbers = [record["number"] for record in folder.read_metrics("metrics")]
            results = folder.read_part("results.json", "results")
        assert numbers == list(range(len(numbers)))
        assert results is None or len(numbers) - 2 <= results["number"] < len(numbers)
        assert not list(tmp_path.glob(".*"))


@given(cut=st.integers(0, 10_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_a_torn_last_line_is_cut_off_and_the_lines_before_stay(tmp_path: Path, cut: int) -> None:
    records = [{"round": index, "accuracy": index / 7} for index in range(5)]
    stream = tmp_path / "metrics.jsonl"
    lines = [json.dumps(record).encode() + b"\n" for record in records]
    RunFolder.at(tmp_path, SETTINGS).close()
    torn = b"".join(lines)[: cut % (sum(map(len, lines)) + 1)]
    stream.write_bytes(torn)
    whole = torn.count(b"\n")
    assert read_metrics(stream) == records[:whole], "a reader beside the running process sees whole lines"
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        assert folder.read_metrics("metrics") == records[:whole]
        folder.append_metrics("metrics", {"round": "next"})
        assert folder.read_metrics("metrics") == [*records[:whole], {"round": "next"}]


def test_a_last_line_without_contents_is_cut_off_and_a_damaged_one_in_the_middle_is_named(tmp_path: Path) -> None:
    RunFolder.at(tmp_path, SETTINGS).close()
    (tmp_path / "metrics.jsonl").write_bytes(b'{"round": 1}\n' + b"\0" * 30 + b"\n")
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        assert folder.read_metrics("metrics") == [{"round": 1}]
        (tmp_path / "metrics.jsonl").write_bytes(b'{"round": 1}\n{"rou\n{"round": 3}\n')
        with pytest.raises(InputError, match="line 2 is damaged"):
            folder.read_metrics("metrics")


def test_metrics_go_back_to_what_a_checkpoint_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        assert folder.read_metrics("metrics") == []
        folder.restore_metrics("metrics", [])
        for number in range(5):
            folder.append_metrics("metrics", {"round": number, "loss": math.nan})
        known = folder.read_metrics("metrics")[:2]
        folder.restore_metrics("metrics", known)
        folder.append_metrics("metrics", {"round": "again"})
        assert folder.read_metrics("metrics") == [*known, {"round": "again"}]
        assert known[0] == {"round": 0, "loss": None}
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", [b"", b'{"round": 0}\n{"rou', b'{"round": 0}\n{"round": 7}\n{"round": 2}\n', b"\xff\n\n"])
def test_damaged_metrics_are_restored_from_a_checkpoint_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes
) -> None:
    records = [{"round": number} for number in range(3)]
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        for record in records:
            folder.append_metrics("metrics", record)
        (tmp_path / "metrics.jsonl").write_bytes(damage)
        folder.restore_metrics("metrics", records)
        folder.append_metrics("metrics", {"round": 3})
        assert folder.read_metrics("metrics") == [*records, {"round": 3}]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == damage
    assert capsys.readouterr().err.count("\n") == 1


def test_a_full_disk_leaves_the_earlier_results_intact(tmp_path: Path) -> None:
    with RunFolder.at(tmp_path, SETTINGS) as folder:
        folder.append_metrics("metrics", {"filling": "x" * 10_000})
        folder.write_json("results.json", {"filling": "x" * 10_000})
        before = contents(tmp_path)
        with nearly_full_disk(100, tmp_path / "metrics.jsonl"):
            with pytest.raises(InputError, match=r"can't write .*metrics\.jsonl") as error:
                folder.append_metrics("metrics", {"filling": "y" * 5_000})
            with pytest.raises(InputError, match=r"can't write .*results\.json .*was written before is intact"):
                folder.write_json("results.json", {"filling": "y" * 50_000})
        assert "\n" not in str(error.value)
        assert contents(tmp_path) == before
        folder.append_metrics("metrics", {"round": 2})
        assert len(folder.read_metrics("metrics")) == 2


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    write_atomically(path, b"old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", interrupted)
        write_atomically(path, b"new")
    assert contents(tmp_path) == {"results.json": b"old"}


def test_a_report_shows_its_pictures_and_tables_in_order(tmp_path: Path) -> None:
    first = Section("Accuracy", "A table.", {"accuracy.png": "accuracy over time"})
    write_report(tmp_path / "report.md", "Comparison", first, Section("Machine"))
    assert (tmp_path / "report.md").read_text() == (
        "# Comparison\n\n## Accuracy\n\nA table.\n\n![accuracy over time](accuracy.png)\n\n## Machine\n"
    )


def test_a_comparison_may_get_more_seeds_in_the_same_folder(tmp_path: Path) -> None:
    with RunFolder.at(tmp_path, {"seeds": "0", "rounds": 3}):
        pass
    with pytest.raises(InputError, match="other settings"):
        RunFolder.at(tmp_path, {"seeds": "0-4", "rounds": 3})
    with pytest.raises(InputError, match="rounds is 3 there, 4 now"):
        RunFolder.at(tmp_path, {"seeds": "0-4", "rounds": 4}, may_change=("seeds",))
    with RunFolder.at(tmp_path, {"seeds": "0-4", "rounds": 3}, may_change=("seeds",)) as folder:
        assert folder.resumed and read_config(tmp_path)["settings"]["seeds"] == "0-4"
    with RunFolder.at(tmp_path, {"seeds": "0-4", "rounds": 3, "targets": "0.5"}, may_change=("seeds", "targets")):
        pass  # a setting that may change and was not there when the run was begun
