"""Weights & Biases beside the plain files, never instead of them, and never in the way of a run.

The service is asked once whether it is there, for a bounded time. A run that can't reach it, or has no account, says so once
and keeps in its folder what it would have sent (`wandb sync` uploads it later). Logging hands numbers that are already on
the host to a process of W&B's own, so that a round does not wait for it.
"""

import contextlib
import functools
import os
import re
import secrets
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from distreal_jax import processes
from distreal_jax.errors import InputError
from distreal_jax.files import write_atomically
from distreal_jax.record.json_values import json_value

if TYPE_CHECKING:
    import wandb

Mode = Literal["disabled", "offline", "online"]

# Chosen by us: a service that is there answers within a second or two, and the last uploads take a few.
INIT_SECONDS = 20.0
FINISH_SECONDS = 60.0

_RUN_ID = "wandb_run_id"
_TAG = 64  # characters that W&B takes
_RUN_ID_VARIABLE = "WANDB_RUN_ID"

# Set when the service could not be used: the next runs of this process (a comparison has many) neither wait nor say so.
_GAVE_UP = threading.Event()


def open_tracker(
    mode: Mode,
    *,
    project: str,
    name: str,
    config: Mapping[str, Any],
    folder: Path,
    job: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    alone: bool = True,
    init_seconds: float = INIT_SECONDS,
    finish_seconds: float = FINISH_SECONDS,
) -> "Tracker":
    """Opens the W&B run of a run folder, or continues it where the folder was resumed.

    Of the processes of a job, process 0 has the run. Under `wandb agent` the run is that of the sweep. W&B's environment
    variables (`WANDB_API_KEY`, `WANDB_BASE_URL`, `WANDB_ENTITY`, ...) mean what they always do, except `WANDB_MODE` and
    `WANDB_DIR`, which the arguments decide.

    Args:
      mode: `disabled` loads nothing of W&B; `offline` writes `folder/wandb`; `online` sends, or is `offline` if it can't
        (from then on in this process, so that a comparison of many runs waits once).
      project: W&B project.
      name: What the run is called in it.
      config: The run's settings.
      folder: The run folder.
      job: What kind of run it is: the method, or `search`.
      group: Runs that belong together, such as those of a comparison.
      tags: To find it by; W&B takes up to 64 characters of each.
      alone: False: this is one of several runs of a command, so that an id in the environment (`WANDB_RUN_ID`) can't be
        theirs; it names their group.
      init_seconds: How long to wait for the service at the start.
      finish_seconds: How long to wait for it at the end; what was not sent by then stays in the folder.

    Raises:
      InputError: An unknown mode.
    """
    if mode not in get_args(Mode):
        raise InputError(f"unknown mode {mode!r} of W&B; choose from: {', '.join(get_args(Mode))}")
    if mode == "disabled" or not processes.is_first():
        return Tracker(None)
    # W&B's reports about itself wait ten seconds for a dead service when the program ends, and write their own errors.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

    start = functools.partial(
        _start,
        project=project,
        name=name,
        config=config,
        folder=folder,
        job=job,
        group=group if alone else os.environ.get(_RUN_ID_VARIABLE, group),
        tags=[tag[:_TAG] for tag in dict.fromkeys(tags) if tag],
        alone=alone,
        init_seconds=init_seconds,
        finish_seconds=finish_seconds,
    )
    if mode == "online" and not _GAVE_UP.is_set():
        try:
            return Tracker(start("online"))
        except Exception as error:
            _GAVE_UP.set()
            # A failed start leaves the run's id taken in W&B's process.
            _stop_service()
            later = folder / "wandb" / "offline-run-*"
            _say(f"W&B can't be reached ({_line(error)}); going on without it; to send the run later: wandb sync {later}")
    try:
        return Tracker(start("offline"))
    except Exception as error:
        _say(f"W&B can't write to {folder} ({_line(error)}); going on with the run's own files alone")
        return Tracker(None)


class Tracker:
    """What a run tells Weights & Biases; tells nobody where there is no W&B run. A context manager.

    No method raises for a reason of W&B's: its first failure is said on stderr, and the run's own files have it all.

    Attributes:
      url: Where the run can be followed; None unless it is online.
    """

    def __init__(self, run: "wandb.Run | None") -> None:
        self._run = run
        self._told = False
        self.url: str | None = None if run is None or run.offline else run.url

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Logs the numbers of one round.

        Args:
          metrics: Name -> number on the host. An array still on a device would make the round wait for it.
          step: The round, not decreasing. Of the rounds that a resumed run repeats, W&B keeps the first.
        """
        self._attempt(lambda run: run.log(dict(metrics), step=step))

    def draw_over(self, axis: str, keys: Iterable[str]) -> None:
        """Says that curves of these keys, which may end in `*`, are drawn over another key, such as `round`."""

        def define(run: "wandb.Run") -> None:
            run.define_metric(axis)
            for key in keys:
                run.define_metric(key, step_metric=axis)

        self._attempt(define)

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Keeps numbers and texts in the summary of the run."""
        self._attempt(lambda run: run.summary.update(dict(values)))

    def log_picture(self, path: Path, step: int | None = None) -> None:
        """Logs a picture file under `pictures/` and its name, where it can't take the place of a number."""

        def log(run: "wandb.Run") -> None:
            import wandb

            run.log({f"pictures/{path.stem}": wandb.Image(str(path))}, step=step)

        self._attempt(log)

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int | None = None) -> None:
        """Logs a table.

        Args:
          key: Its name.
          columns: Their names, [columns].
          rows: Texts and numbers, [rows, columns].
          step: The value of W&B's own step; None: the next.
        """

        def log(run: "wandb.Run") -> None:
            import wandb

            run.log({key: wandb.Table(columns=list(columns), data=json_value(rows))}, step=step)

        self._attempt(log)

    def log_artifact(self, path: Path, name: str, kind: str) -> None:
        """Keeps a file as an artifact.

        Args:
          path: The file.
          name: Of the artifact; what W&B doesn't take in it is replaced by a dash.
          kind: `dropout-table` or `tuned-settings`.
        """
        allowed = re.sub(r"[^\w.-]+", "-", name)
        self._attempt(lambda run: run.log_artifact(str(path), name=allowed, type=kind))

    def finish(self, exit_code: int = 0) -> None:
        """Sends what is left, for a bounded time. Later calls do nothing."""
        self._attempt(lambda run: run.finish(exit_code=exit_code))
        if self._run is not None and self._told:
            # Where W&B's own process has died, it would say so at length when the program ends.
            _stop_service()
        self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish(exit_code=0 if error is None else 1)

    def _attempt(self, action: Callable[["wandb.Run"], object]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            if not self._told:
                self._told = True
                _say(f"W&B failed ({_line(error)}); the run goes on, and its own files have everything")


def _start(
    mode: Literal["offline", "online"],
    *,
    project: str,
    name: str,
    config: Mapping[str, Any],
    folder: Path,
    job: str | None,
    group: str | None,
    tags: Sequence[str],
    alone: bool,
    init_seconds: float,
    finish_seconds: float,
) -> "wandb.Run":
    """The folder's run, or whatever W&B raises where it can't have one."""
    import wandb

    quiet = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=init_seconds if mode == "online" else INIT_SECONDS,
        finish_timeout=finish_seconds,
        finish_timeout_raises=True,
    )
    wandb.setup(settings=quiet)
    # wandb.init would ask a person at a terminal for an account, and wait for the answer
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        raise ConnectionError("no account on this machine; `wandb login` sets one up")
    return wandb.init(
        mode=mode,
        project=project,
        name=name,
        config=json_value(config),
        dir=folder,
        job_type=job,
        group=group,
        tags=tags,
        id=_run_id(folder, alone),
        resume="allow" if mode == "online" else None,
        reinit="create_new",
        settings=quiet,
    )


def _run_id(folder: Path, alone: bool) -> str:
    """The id of the folder's W&B run: the agent's in a sweep, otherwise drawn once and kept in the folder."""
    if alone and _RUN_ID_VARIABLE in os.environ:
        return os.environ[_RUN_ID_VARIABLE]
    path = folder / _RUN_ID
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    run_id = secrets.token_hex(4)
    write_atomically(path, run_id.encode())
    return run_id


def _stop_service() -> None:
    with contextlib.suppress(Exception, SystemExit):
        import wandb

        wandb.teardown()


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
