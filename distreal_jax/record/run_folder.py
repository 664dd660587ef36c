"""The folder of one run: its settings, where its numbers come from, its metrics and results, in plain files.

`config.json` holds the settings and, for every time the run was started or resumed, the command, the commit, the versions
and the machine, so that a number in a report can be traced. Metrics are JSON lines, each on disk before the next round.
Everything else is replaced as a whole or not at all. A run that is killed at any moment leaves files that read well, and one
process at a time writes them.
"""

import fcntl
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from distreal_jax.errors import InputError
from distreal_jax.record.files import UNFINISHED, read_json, write_atomically, writing
from distreal_jax.record.json_values import json_value, settings_hash
from distreal_jax.record.metrics import MetricsStream, drop_unfinished_line, read_metrics
from distreal_jax.record.provenance import provenance

CONFIG = "config.json"
_LOCK = "run.lock"


class RunFolder:
    """One run's files, held by this process until it ends or `close` is called. A context manager.

    Attributes:
      path: The folder.
      settings: The settings as they read back from JSON.
      resumed: The folder already held this run when it was opened.
      may_change: Settings in which it may differ from what the folder held.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], resumed: bool, lock: int, may_change: Collection[str] = ()
    ) -> None:
        self.path, self.settings, self.resumed, self.may_change = path, settings, resumed, may_change
        self._lock: int | None = lock
        self._streams: dict[str, MetricsStream] = {}

    @classmethod
    def open(cls, root: Path, name: str, settings: Mapping[str, Any], *, resume: bool = True) -> Self:
        """Opens `root/<name>-<hash of the settings>`, so that other settings never meet in one folder; see `at`."""
        return cls.at(Path(root) / f"{name}-{settings_hash(settings)}", settings, resume=resume)

    @classmethod
    def at(cls, path: Path, settings: Mapping[str, Any], *, resume: bool = True, may_change: Collection[str] = ()) -> Self:
        """Opens exactly this folder: a new run where it is new or empty, the same run again where it holds one.

        Args:
          path: The folder; made with its parents.
          settings: All that decides the run's results. Texts, numbers, lists, mappings, dataclasses, paths and arrays.
          resume: False: a folder that already holds a run is refused.
          may_change: Settings in which a run may differ from the one that the folder holds, such as the seeds of a
            comparison that is to have more of them.

        Raises:
          InputError: The folder holds a run of other settings (the first that differs is named), is held by another process
            (which is named), holds files of something else, or can't be written. Nothing in it was changed.
        """
        path, settings = Path(path), json_value(settings)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(path)
        lock = _take_lock(path)
        try:
            stored = _stored_config(path)
            if stored is not None and not resume:
                raise InputError(f"{path} already holds a run; choose another folder, or resume it with the same command")
            if stored is not None and (difference := _first_difference(stored["settings"], settings, may_change)):
                raise InputError(f"{path} holds a run of other settings ({difference}); use those, or choose another folder")
            with writing(path):
                _mend(path)
            sessions = stored["sessions"] if stored is not None else []
            folder = cls(path, settings, stored is not None, lock, may_change)
            folder.write_json(CONFIG, {"settings": settings, "sessions": [*sessions, provenance()]})
        except BaseException:
            os.close(lock)
            raise
        return folder

    def append_metrics(self, stream: str, record: Mapping[str, Any]) -> None:
        """Adds one line to `<stream>.jsonl`, as `MetricsStream.append`."""
        self._stream(stream).append(record)

    def read_metrics(self, stream: str) -> list[dict[str, Any]]:
        """The lines of `<stream>.jsonl`, oldest first; empty where there is none yet. See `read_metrics`."""
        return read_metrics(self._stream(stream).path)

    def restore_metrics(self, stream: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Makes `<stream>.jsonl` hold just the records that a checkpoint knows of, as `MetricsStream.restore`."""
        self._stream(stream).restore(records)

    def write_json(self, name: str, content: Any) -> None:
        """Replaces the file `name` as a whole. NaN and infinity become null.

        Raises:
          InputError: The disk is full or can't be written; the file is as it was.
        """
        write_atomically(self.path / name, (json.dumps(json_value(content), indent=2) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """The contents of the file `name`; None where there is none yet; raises `InputError` for a damaged one."""
        return read_json(self.path / name)

    def close(self) -> None:
        """Lets the next process have the folder."""
        for stream in self._streams.values():
            stream.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _stream(self, name: str) -> MetricsStream:
        return self._streams.setdefault(name, MetricsStream(self.path / f"{name}.jsonl"))


def _take_lock(path: Path) -> int:
    """Locks the folder until the returned descriptor is closed, which the system does for a process that dies."""
    with writing(path):
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
        except BlockingIOError as error:
            holder = os.read(lock, 32).decode(errors="replace") or "of unknown number"
            os.close(lock)
            raise InputError(
                f"{path} is in use by process {holder}; wait until it ends, or choose another folder"
            ) from error
        except OSError:
            os.close(lock)
            raise
    return lock


def _refuse_foreign(path: Path) -> None:
    ours = [entry.name for entry in path.iterdir() if entry.name in (CONFIG, _LOCK) or entry.name.endswith(UNFINISHED)]
    if CONFIG not in ours and len(ours) < len(list(path.iterdir())):
        raise InputError(f"{path} holds files but no run ({CONFIG} is missing); choose a new or an empty folder")


def _mend(path: Path) -> None:
    """Removes what a killed process left half-written."""
    for unfinished in path.glob(f".*{UNFINISHED}"):
        unfinished.unlink()
    for stream in path.glob("*.jsonl"):
        drop_unfinished_line(stream)


def _stored_config(path: Path) -> dict[str, Any] | None:
    if not (path / CONFIG).exists():
        return None
    config = read_json(path / CONFIG)
    if not (
        isinstance(config, dict) and isinstance(config.get("settings"), dict) and isinstance(config.get("sessions"), list)
    ):
        raise InputError(f"{path / CONFIG} is damaged (no settings and sessions); choose another folder")
    return config


def _first_difference(stored: Any, given: Any, but_for: Collection[str] = (), name: str = "") -> str | None:
    if name in but_for:
        return None
    if isinstance(stored, dict) and isinstance(given, dict):
        for key in [*stored, *(key for key in given if key not in stored)]:
            where = f"{name}.{key}" if name else key
            if key not in stored or key not in given:
                return f"{where} is set only {'there' if key in stored else 'now'}"
            if difference := _first_difference(stored[key], given[key], but_for, where):
                return difference
        return None
    # 1 == True to Python, and 1 == 1.0, but not to a reader of the settings
    return (
        None if json.dumps(stored) == json.dumps(given) else f"{name} is {json.dumps(stored)} there, {json.dumps(given)} now"
    )
