"""The folder of one run: its settings, where its numbers come from, its metrics and results, in plain files.

`config.json` holds the settings and, for every time the run was started or resumed, the command, the commit, the versions
and the machine, so that a number in a report can be traced. Metrics are JSON lines, each on disk before the next round.
Everything else is replaced as a whole or not at all. A run that is killed at any moment leaves files that read well, and one
process at a time writes them.
"""

import contextlib
import dataclasses
import datetime
import enum
import fcntl
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax

from distreal_jax.errors import InputError

CONFIG = "config.json"
_LOCK = "run.lock"
_UNFINISHED = ".unfinished"
_VERSIONS = ("distreal_jax", "jax", "jaxlib", "flax", "optax", "numpy")


class RunFolder:
    """One run's files, held by this process until it ends or `close` is called. A context manager.

    Attributes:
      path: The folder.
      settings: The settings as they read back from JSON.
      resumed: The folder already held this run when it was opened.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], resumed: bool, lock: int) -> None:
        self.path, self.settings, self.resumed = path, settings, resumed
        self._lock: int | None = lock
        self._streams: dict[str, int] = {}

    @classmethod
    def open(cls, root: Path, name: str, settings: Mapping[str, Any], *, resume: bool = True) -> Self:
        """Opens `root/<name>-<hash of the settings>`, so that other settings never meet in one folder; see `at`."""
        return cls.at(Path(root) / f"{name}-{settings_hash(settings)}", settings, resume=resume)

    @classmethod
    def at(cls, path: Path, settings: Mapping[str, Any], *, resume: bool = True) -> Self:
        """Opens exactly this folder: a new run where it is new or empty, the same run again where it holds one.

        Args:
          path: The folder; made with its parents.
          settings: All that decides the run's results. Texts, numbers, lists, mappings, dataclasses, paths and arrays.
          resume: False: a folder that already holds a run is refused.

        Raises:
          InputError: The folder holds a run of other settings (the first that differs is named), is held by another process
            (which is named), holds files of something else, or can't be written. Nothing in it was changed.
        """
        path, settings = Path(path), json_value(settings)
        with _on_disk(path):
            path.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(path)
        lock = _take_lock(path)
        try:
            stored = _stored_config(path)
            if stored is not None and not resume:
                raise InputError(f"{path} already holds a run; choose another folder, or resume it with the same command")
            if stored is not None and (difference := _first_difference(stored["settings"], settings)):
                raise InputError(f"{path} holds a run of other settings ({difference}); use those, or choose another folder")
            with _on_disk(path):
                _mend(path)
            sessions = stored["sessions"] if stored is not None else []
            folder = cls(path, settings, stored is not None, lock)
            folder.write_json(CONFIG, {"settings": settings, "sessions": [*sessions, provenance()]})
        except BaseException:
            os.close(lock)
            raise
        return folder

    def append_metrics(self, stream: str, record: Mapping[str, Any]) -> None:
        """Adds one line to `<stream>.jsonl`; it has left this process when the call returns. NaN and infinity become null.

        Raises:
          InputError: The disk is full or can't be written; the lines before are intact.
        """
        line = _line(record)
        path = self._stream(stream)
        with _on_disk(path):
            if stream not in self._streams:
                self._streams[stream] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            descriptor = self._streams[stream]
            before = os.fstat(descriptor).st_size
            try:
                written = 0
                while written < len(line):
                    written += os.write(descriptor, line[written:])
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise

    def read_metrics(self, stream: str) -> list[dict[str, Any]]:
        """The lines of `<stream>.jsonl`, oldest first; empty where there is none yet. See `read_metrics`."""
        return read_metrics(self._stream(stream))

    def restore_metrics(self, stream: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Makes `<stream>.jsonl` hold just these records: those that a checkpoint knows of.

        Later ones are dropped, as the run writes them again. A file that was damaged or edited is kept beside it.

        Raises:
          InputError: The file can't be written; it is as it was.
        """
        path = self._stream(stream)
        kept = b"".join(map(_line, records))
        with _on_disk(path):
            found = path.read_bytes() if path.exists() else b""
            if found.startswith(kept):
                if len(found) > len(kept):
                    os.truncate(path, len(kept))
                return
            if stream in self._streams:
                os.close(self._streams.pop(stream))
            damaged = path.with_name(f"{path.name}.damaged")
            write_atomically(damaged, found)
            write_atomically(path, kept)
        sys.stderr.write(f"{path} was damaged: restored from the checkpoint; what it held is in {damaged}\n")

    def write_json(self, name: str, content: Any) -> None:
        """Replaces the file `name` as a whole. NaN and infinity become null.

        Raises:
          InputError: The disk is full or can't be written; the file is as it was.
        """
        write_atomically(self.path / name, (json.dumps(json_value(content), indent=2) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """The contents of the file `name`; None where there is none yet; raises `InputError` for a damaged one."""
        return _read_json(self.path / name)

    def close(self) -> None:
        """Lets the next process have the folder."""
        for descriptor in self._streams.values():
            os.close(descriptor)
        self._streams.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _stream(self, stream: str) -> Path:
        return self.path / f"{stream}.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines, also while another process writes it: a last line without an end is left out.

    Raises:
      InputError: A line is damaged; it is named.
    """
    if not path.exists():
        return []
    records: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if line.endswith(b"\n"):
            record = _record(line)
            if record is None:
                raise InputError(f"{path} line {number} is damaged; remove the lines from there on, and resume the run")
            records.append(record)
    return records


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that stand for the settings, whatever the order of their names."""
    canonical = json.dumps(json_value(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def json_value(value: Any) -> Any:
    """The value as it reads back from JSON: arrays and tuples as lists, dataclasses as mappings, NaN and infinity as None.

    Raises:
      InputError: It holds something else, such as a function.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return json_value(value.value)
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): json_value(item) for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return json_value(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [json_value(item) for item in value]
    if isinstance(value, Set):
        return sorted((json_value(item) for item in value), key=json.dumps)
    raise InputError(f"{value!r} can't be written as JSON; use texts, numbers, lists and mappings")


def provenance() -> dict[str, Any]:
    """Where the numbers of this process come from: command, commit, versions, machine, date (UTC)."""
    devices = jax.local_devices()
    return {
        "command": shlex.join(sys.orig_argv),
        "process": os.getpid(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": source_commit(Path(__file__)),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _VERSIONS}},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "accelerators": [device.device_kind for device in devices] if devices[0].platform != "cpu" else [],
    }


def source_commit(source: Path) -> dict[str, Any]:
    """The git commit that a source file is of, and whether anything tracked differs from it ("unknown" outside git)."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        # An installed copy may lie inside somebody else's repository, whose commit says nothing about it.
        git("ls-files", "--error-unmatch", source.name)
        return {"hash": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {"hash": "unknown", "dirty": None}


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file as a whole: a reader, a crash or a full disk leaves the old contents or the new, never a part.

    Raises:
      InputError: The disk is full or can't be written; the file is as it was.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{_UNFINISHED}")
    with _on_disk(path):
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"can't write {path} ({reason}); what was written before is intact: make room or choose another folder,"
            " and start the same command again"
        ) from error


def _take_lock(path: Path) -> int:
    """Locks the folder until the returned descriptor is closed, which the system does for a process that dies."""
    with _on_disk(path):
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
    ours = [entry.name for entry in path.iterdir() if entry.name in (CONFIG, _LOCK) or entry.name.endswith(_UNFINISHED)]
    if CONFIG not in ours and len(ours) < len(list(path.iterdir())):
        raise InputError(f"{path} holds files but no run ({CONFIG} is missing); choose a new or an empty folder")


def _mend(path: Path) -> None:
    """Removes what a killed process left half-written."""
    for unfinished in path.glob(f".*{_UNFINISHED}"):
        unfinished.unlink()
    for stream in path.glob("*.jsonl"):
        content = stream.read_bytes()
        lines = content.splitlines(keepends=True)
        # A crash of the machine can leave the length of a line without its contents.
        if lines and not (lines[-1].endswith(b"\n") and _record(lines[-1]) is not None):
            os.truncate(stream, len(content) - len(lines[-1]))


def _stored_config(path: Path) -> dict[str, Any] | None:
    if not (path / CONFIG).exists():
        return None
    config = _read_json(path / CONFIG)
    if not (
        isinstance(config, dict) and isinstance(config.get("settings"), dict) and isinstance(config.get("sessions"), list)
    ):
        raise InputError(f"{path / CONFIG} is damaged (no settings and sessions); choose another folder")
    return config


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"can't read {path} ({error.strerror or error}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]}); choose another folder, or remove it") from error


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(json_value(record)) + "\n").encode()


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _first_difference(stored: Any, given: Any, name: str = "") -> str | None:
    if isinstance(stored, dict) and isinstance(given, dict):
        for key in [*stored, *(key for key in given if key not in stored)]:
            where = f"{name}.{key}" if name else key
            if key not in stored or key not in given:
                return f"{where} is set only {'there' if key in stored else 'now'}"
            if difference := _first_difference(stored[key], given[key], where):
                return difference
        return None
    # 1 == True to Python, and 1 == 1.0, but not to a reader of the settings
    return (
        None if json.dumps(stored) == json.dumps(given) else f"{name} is {json.dumps(stored)} there, {json.dumps(given)} now"
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
