"""W&B itself, in processes of their own: offline, without an account, with a dead service, and with one that dies."""

import http.server
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distreal_jax.errors import InputError
from distreal_jax.record.tracking import open_tracker

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing answers
KEY = {"WANDB_API_KEY": "0" * 40}
THREE_ROUNDS = """
    for step in range(3):
        tracker.log({"accuracy": step / 3}, step=step)
    tracker.finish()
"""
Done = subprocess.CompletedProcess[str]


def run_tracked(
    body: str,
    home: Path,
    mode: str = "offline",
    environment: dict[str, str] | None = None,
    init_seconds: float = 20,
    finish_seconds: float = 2,
) -> Done:
    """Runs `body` with an open tracker; returns when W&B's own processes, which share the output, have ended too."""
    script = f"""
import os, sys
from pathlib import Path
from distreal_jax.record.tracking import open_tracker
folder = Path({str(home)!r}) / "run"
folder.mkdir(parents=True)
seconds = dict(init_seconds={init_seconds}, finish_seconds={finish_seconds})
options = dict(project="test", name="run", config={{"rounds": 3}}, folder=folder, **seconds)
tracker = open_tracker({mode!r}, **options)
{textwrap.dedent(body)}
print("the run is done")
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    clean |= {"HOME": str(home), "WANDB_BASE_URL": NOBODY, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=clean | (environment or {}),
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def offline_log(home: Path) -> bytes:
    """What W&B kept in the folder for later."""
    return b"".join(path.read_bytes() for path in sorted((home / "run/wandb").glob("offline-run-*/*.wandb")))


@contextmanager
def service() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A W&B service that accepts a run and stops answering when its `/die` is read.

    Yields its address, and what was streamed to it: lines of `wandb-history.jsonl`, `wandb-summary.json` and so on.
    """
    project = {"id": "cA==", "name": "test", "entity": {"id": "ZQ==", "name": "somebody"}}
    bucket = {"id": "YQ==", "name": "run", "displayName": "run", "config": "{}", "project": project}
    answers = {"viewer": {"id": "v", "entity": "somebody", "flags": "{}", "teams": {"edges": []}}, "model": None}
    answers |= {"upsertBucket": {"bucket": bucket, "inserted": True}, "serverInfo": {"features": []}}
    streamed: list[dict[str, Any]] = []
    alive = threading.Event()
    alive.set()

    class Service(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            if self.path.endswith("/file_stream"):
                streamed.append(asked)
            address = f"http://127.0.0.1:{self.server.server_port}/upload"  # type: ignore[attr-defined]
            files = [{"name": name, "uploadUrl": address} for name in asked.get("variables", {}).get("files", [])]
            uploads = {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}
            self.answer(200 if alive.is_set() else 503, answers | uploads)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(200, {})

        def do_GET(self) -> None:
            alive.clear()
            self.answer(200, answers)

        def answer(self, status: int, answers: dict[str, Any]) -> None:
            content = json.dumps({"data": answers}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", streamed
        server.shutdown()
        thread.join()


def dying_service(home: Path) -> Done:
    body = """
        import urllib.request, wandb
        assert tracker.url is not None
        tracker.log({"accuracy": 0.1}, step=0)
        urllib.request.urlopen(wandb.setup().settings.base_url + "/die").close()
        for step in range(1, 4):
            tracker.log({"accuracy": step / 3}, step=step)
        tracker.finish()
    """
    with service() as (address, _):
        return run_tracked(body, home, "online", KEY | {"WANDB_BASE_URL": address})


def living_service(home: Path) -> Done:
    body = """
        from distreal_jax.record.logged import OVER_ROUNDS, ROUND_AXIS
        assert tracker.url is not None
        with tracker:
            tracker.draw_over(ROUND_AXIS, OVER_ROUNDS)
            for done in (5, 10):
                tracker.log({"round": done, "test/accuracy": done / 20}, step=done)
            tracker.summarise({"final/accuracy": 0.375})
    """
    with service() as (address, streamed):
        done = run_tracked(body, home, "online", KEY | {"WANDB_BASE_URL": address}, finish_seconds=30)
    (home / "streamed.json").write_text(json.dumps(streamed))
    return done


OFFLINE = """
    from distreal_jax.record.pictures import hypervolume_picture
    hypervolume_picture(folder / "hypervolume.png", {"search": [0.1, 0.2]})
    (folder / "table.json").write_text("{}")
    with tracker:
        for step in range(3):
            tracker.log({"accuracy": step / 3, "loss": float("nan")}, step=step)
        tracker.log_picture(folder / "hypervolume.png", step=2)
        tracker.log_table("results", ["method", "final"], [["distreal", 0.7]], step=2)
        tracker.log_artifact(folder / "table.json", "digits-table", "dropout-table")
        first = tracker._run.id
    tracker.log({"accuracy": 1.0}, step=9)
    with open_tracker("offline", **options) as resumed:
        assert resumed._run.id == first
    os.environ["WANDB_RUN_ID"] = "named-by-the-sweep"
    with open_tracker("offline", **options) as swept:
        assert swept._run.id == "named-by-the-sweep"
    with open_tracker("offline", **options, alone=False) as one_of_many:
        assert one_of_many._run.id == first and one_of_many._run.group == "named-by-the-sweep"
    os.environ["WANDB_RUN_ID"] = "a/b"
    with open_tracker("offline", **options) as refused:
        refused.log({"accuracy": 1.0}, step=0)
"""
SEVERAL_RUNS = f"""
{THREE_ROUNDS}
    tracker = open_tracker("online", **options)
{THREE_ROUNDS}
"""
KILLED = """
    import signal, time
    children = [child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()]
    assert children
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    for step in range(4):
        time.sleep(0.1)
        tracker.log({"accuracy": step / 3}, step=step)
    tracker.finish()
"""
CASES: dict[str, Callable[[Path], Done]] = {
    "dying service": dying_service,
    "living service": living_service,
    "dead service": lambda home: run_tracked(SEVERAL_RUNS, home, "online", KEY, init_seconds=2),
    "killed": lambda home: run_tracked(KILLED, home),
    "offline": lambda home: run_tracked(OFFLINE, home),
    "no account": lambda home: run_tracked(THREE_ROUNDS, home, "online"),
    "bad key": lambda home: run_tracked(THREE_ROUNDS, home, "online", {"WANDB_API_KEY": "short"}),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, Future[Done]]]]:
    """All processes, several at a time: most of their time is spent waiting for services that are not there."""
    homes = tmp_path_factory.mktemp("wandb")
    with ThreadPoolExecutor(max_workers=4) as pool:
        yield {
            name: (homes / name.replace(" ", "-"), pool.submit(case, homes / name.replace(" ", "-")))
            for name, case in CASES.items()
        }


def test_an_unknown_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown mode 'on' of W&B; choose from: disabled, offline, online"):
        open_tracker("on", project="p", name="n", config={}, folder=tmp_path)  # type: ignore[arg-type]


def test_disabled_loads_nothing_of_wandb_and_takes_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it raises
    with open_tracker("disabled", project="p", name="n", config={}, folder=tmp_path) as tracker:
        tracker.log({"accuracy": 0.5}, step=1)
        tracker.draw_over("round", ["test/*"])
        tracker.summarise({"final/accuracy": 0.5})
        tracker.log_picture(tmp_path / "front.png")
        tracker.log_table("results", ["method"], [["distreal"]])
        tracker.log_artifact(tmp_path / "table.json", "table", "dropout-table")
    assert tracker.url is None
    assert list(tmp_path.iterdir()) == []


def test_without_wandb_installed_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    open_tracker("offline", project="p", name="n", config={}, folder=tmp_path).log({"accuracy": 0.5}, step=1)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_offline_keeps_metrics_pictures_tables_and_artifacts_in_the_folder(cases) -> None:
    home, done = cases["offline"][0], cases["offline"][1].result()
    # The last of its trackers was given an id that W&B refuses.
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (0, "the run is done\n", 1), done.stderr
    assert "going on with the run's own files alone" in done.stderr
    assert all(word in offline_log(home) for word in (b"accuracy", b"digits-table", b"dropout-table", b"rounds"))
    media = {path.suffix for path in home.glob("run/wandb/offline-run-*/files/media/**/*") if path.is_file()}
    assert media == {".png", ".json"}


def test_a_service_gets_every_row_under_the_keys_that_sweeps_and_curves_go_by(cases) -> None:
    home, done = cases["living service"][0], cases["living service"][1].result()
    assert (done.returncode, done.stdout, done.stderr) == (0, "the run is done\n", ""), done.stderr
    files = [
        (name, part)
        for sent in json.loads((home / "streamed.json").read_text())
        for name, part in sent.get("files", {}).items()
    ]
    rows = [json.loads(line) for name, part in files if name == "wandb-history.jsonl" for line in part["content"]]
    assert [(row["_step"], row["round"], row["test/accuracy"]) for row in rows] == [(5, 5, 0.25), (10, 10, 0.5)]
    summary = json.loads([part["content"][-1] for name, part in files if name == "wandb-summary.json"][-1])
    assert (summary["test/accuracy"], summary["final/accuracy"]) == (0.5, 0.375)


@pytest.mark.parametrize(
    ("case", "reason"), [("dead service", ""), ("no account", "no account on this machine"), ("bad key", "API key")]
)
def test_a_service_that_cant_be_used_is_said_once_and_the_run_goes_on(cases, case: str, reason: str) -> None:
    home, done = cases[case][0], cases[case][1].result()
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (0, "the run is done\n", 1), done.stderr
    assert "can't be reached" in done.stderr and reason in done.stderr and "wandb sync" in done.stderr
    assert b"accuracy" in offline_log(home)


def test_a_service_that_dies_during_the_run_is_said_once_and_does_not_hold_its_end(cases) -> None:
    done = cases["dying service"][1].result()
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (0, "the run is done\n", 1), done.stderr
    assert "W&B failed" in done.stderr


def test_wandbs_own_process_dying_is_said_once_and_the_run_goes_on(cases) -> None:
    done = cases["killed"][1].result()
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (0, "the run is done\n", 1), done.stderr
    assert "W&B failed" in done.stderr
