"""The folder of one run: its settings, where its numbers come from, its metrics and results, in plain files.

`config.json` holds the settings and, for every time the run was started or resumed, the command, the commit, the versions
and the machine, so that a number in a report can be traced. Metrics are JSON lines, each on disk before the next round.
Everything else is replaced as a whole or not at all. A run that is killed at any moment leaves files that read well, and one
process at a time writes them. What is read again is a document with a checksum, and says which settings it is of.

The processes of a job (`distreal_jax.processes`) call the same methods in the same order: process 0 reads and writes, and
the others, who need not see its disk, hear what it found.
"""

import contextlib
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from distreal_jax import processes
from distreal_jax.document import DamagedDocumentError, parsed_json, read_document, write_document
from distreal_jax.errors import InputError
from distreal_jax.files import UNFINISHED, set_aside, user_path, write_atomically, writing
from distreal_jax.record.json_values import json_value, settings_hash
from distreal_jax.record.lock import LOCK, FolderLock, once_free
from distreal_jax.record.metrics import MetricsStream, drop_unfinished_line, read_metrics
from distreal_jax.record.provenance import differences, provenance
from distreal_jax.settings import first_difference

CONFIG = "config.json"
_KIND, _SCHEMA = "distreal_jax run", 1
RESULTS_KIND = "distreal_jax results"  # of an experiment, as `results.json`
_PARTS = 1  # schema of the documents of a run
_REMEDY = "move it away and start the same command again, which goes on from what is left, or choose another folder"


class RunFolder:
    """One run's files, held by this process until it ends or `close` is called. A context manager.

    Attributes:
      path: The folder.
      settings: The settings as they read back from JSON.
      resumed: The folder already held this run when it was opened.
      may_change: Settings in which it may differ from what the folder held.
      identity: Stands for all other settings.
      sessions: What `config.json` says of every start, the present one last.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        resumed: bool,
        lock: FolderLock | None,
        may_change: Collection[str] = (),
        sessions: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.path, self.settings, self.resumed, self.may_change = path, settings, resumed, may_change
        self.identity, self.sessions = _identity(settings, may_change), sessions
        self._lock = lock
        self._streams: dict[str, MetricsStream] = {}

    @classmethod
    def open(cls, root: Path, name: str, settings: Mapping[str, Any], *, resume: bool = True) -> Self:
        """Opens the folder `root/<name>-<hash of the settings>`: runs of different settings never share a folder.

        Args:
          root: Folder of all runs.
          name: How the folder's name begins.
          settings: All settings that decide the results, as JSON values.
          resume: As for `at`.

        Raises:
          InputError: As `at`.
        """
        return cls.at(Path(root) / f"{name}-{settings_hash(settings)}", settings, resume=resume)

    @classmethod
    def at(
        cls,
        path: Path,
        settings: Mapping[str, Any],
        *,
        resume: bool = True,
        may_change: Collection[str] = (),
        wait: bool = False,
    ) -> Self:
        """Opens exactly this folder: a new run where it is new or empty, the same run again where it holds one.

        A `config.json` that is damaged or lost is written anew where the folder is known to be of these settings otherwise.

        Args:
          path: The folder; made with its parents.
          settings: All that decides the run's results. Texts, numbers, lists, mappings, dataclasses, paths and arrays.
          resume: False: a folder that already holds a run is refused.
          may_change: Settings in which a run may differ from the one that the folder holds, such as the seeds of a
            comparison that is to have more of them.
          wait: Until no other process holds the folder.

        Raises:
          InputError: The folder holds a run of other settings (the first that differs is named), is held by another process
            (which is named), holds files of something else, or can't be written. Nothing in it was changed.
        """
        path, settings = user_path(path), json_value(settings)
        processes.agreed("settings", settings)
        opened: list[Self] = []

        def open_here() -> dict[str, Any]:
            opened.append(cls._opened(path, settings, resume=resume, may_change=may_change))
            return {"resumed": opened[0].resumed, "sessions": json_value(opened[0].sessions)}

        known = once_free(lambda: processes.told(open_here)) if wait else processes.told(open_here)
        return opened[0] if opened else cls(path, settings, known["resumed"], None, may_change, known["sessions"])

    @classmethod
    def _opened(cls, path: Path, settings: Mapping[str, Any], *, resume: bool, may_change: Collection[str]) -> Self:
        """The folder, locked, with this start in its `config.json`."""
        identity = _identity(settings, may_change)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            known = _identity_of(path)
        lock = FolderLock.take(path, known)
        try:
            stored = _stored_config(path, known == identity)
            if stored is None and known not in (None, identity):
                raise InputError(
                    f"{path} holds a run of other settings, whose {CONFIG} is lost; use those, or choose another folder"
                )
            if (stored is not None or known is not None) and not resume:
                raise InputError(f"{path} already holds a run; choose another folder, or resume it with the same command")
            if stored is not None and (difference := first_difference(stored["settings"], settings, may_change)):
                name, there, now = difference
                raise InputError(
                    f"{path} holds a run of other settings ({name} is {there} there, {now} now); use those, or choose"
                    " another folder"
                )
            with writing(path):
                _mend(path)
            sessions = [*(stored["sessions"] if stored is not None else []), provenance()]
            folder = cls(path, settings, stored is not None or known is not None, lock, may_change, sessions)
            write_document(path / CONFIG, _KIND, _SCHEMA, {"settings": settings, "sessions": json_value(sessions)})
            with writing(path):
                lock.leave(identity)
        except BaseException:
            lock.release()
            raise
        return folder

    def append_metrics(self, stream: str, record: Mapping[str, Any]) -> None:
        """Adds one line to `<stream>.jsonl`, as `MetricsStream.append`."""
        processes.told(lambda: self._stream(stream).append(record))

    def read_metrics(self, stream: str) -> list[dict[str, Any]]:
        """The lines of `<stream>.jsonl`, oldest first; empty where there is none yet. See `read_metrics`."""
        return processes.told(lambda: read_metrics(self._stream(stream).path))

    def restore_metrics(self, stream: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Makes `<stream>.jsonl` hold just the records that a checkpoint knows of, as `MetricsStream.restore`."""
        processes.told(lambda: self._stream(stream).restore(records))

    def write_json(self, name: str, content: Any) -> None:
        """Replaces the file `name`, for people and other programs, as a whole. NaN and infinity become null.

        Raises:
          InputError: The disk is full or can't be written; the file is as it was.
        """
        text = json.dumps(json_value(content), indent=2) + "\n"
        processes.told(lambda: write_atomically(self.path / name, text.encode()))

    def write_part(self, name: str, kind: str, content: Mapping[str, Any]) -> None:
        """Replaces the document `name`, which `read_part` believes in a run of these settings. NaN becomes null.

        Args:
          name: Of the file.
          kind: What it is, in words.
          content: Its fields, JSON values once they went through `json_value`.

        Raises:
          InputError: The disk is full or can't be written; the file is as it was.
        """
        fields = {"identity": self.identity, **json_value(content)}
        processes.told(lambda: write_document(self.path / name, kind, _PARTS, fields))

    def read_part(self, name: str, kind: str) -> dict[str, Any] | None:
        """The fields of the document `name`; None where there is none, or none of this run that can be believed.

        One that is damaged, or of other settings, is kept beside itself under another name, which stderr says.

        Raises:
          InputError: It was made by a newer version, or can't be read or moved.
        """
        return processes.told(lambda: self._read_part(name, kind))

    def _read_part(self, name: str, kind: str) -> dict[str, Any] | None:
        if not (self.path / name).exists():
            return None
        try:
            identity, content = read_part(self.path / name, kind)
            if identity != self.identity:
                raise DamagedDocumentError(f"{self.path / name} is of a run of other settings; it is not used")
        except DamagedDocumentError as error:
            self._refuse_part(name, str(error))
            return None
        return content

    def refuse_part(self, name: str, reason: str) -> None:
        """Moves a document that can't be believed out of the way and says so; what it held is made again."""
        processes.told(lambda: self._refuse_part(name, reason))

    def _refuse_part(self, name: str, reason: str) -> None:
        sys.stderr.write(f"{reason}: kept as {set_aside(self.path / name)}, and made again\n")

    def let_go(self) -> None:
        """Lets other processes have the folder, from now on together: each writes in it inside `alone`."""
        if self._lock is not None:
            self._lock.release()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process writes in the folder; waits for that. Of a folder that was let go."""
        taken: list[FolderLock] = []
        once_free(lambda: processes.told(lambda: taken.append(FolderLock.take(self.path, self.identity))))
        try:
            yield
        finally:
            for lock in taken:
                lock.release()

    def say_what_changed(self) -> None:
        """Says in a line on stderr under what else than the last time the run goes on: platform, devices, versions."""
        *_, before, now = [{}, *self.sessions]
        if processes.is_first() and before and (changed := differences(before, now)):
            sys.stderr.write(f"{self.path} goes on under {changed}: numbers may differ from there on in their last digits\n")

    def close(self) -> None:
        """Lets the next process have the folder."""
        for stream in self._streams.values():
            stream.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _stream(self, name: str) -> MetricsStream:
        return self._streams.setdefault(name, MetricsStream(self.path / f"{name}.jsonl"))


def read_config(path: Path) -> dict[str, Any]:
    """The settings and sessions of a run's folder, checked; raises `InputError` where there are none that can be read."""
    fields = read_document(path / CONFIG, _KIND, _SCHEMA, _REMEDY)
    content = {"settings": fields.mapping("settings"), "sessions": [row.remaining() for row in fields.rows("sessions")]}
    fields.finish()
    return content


def read_part(path: Path, kind: str) -> tuple[str, dict[str, Any]]:
    """What `RunFolder.write_part` wrote: what stands for the run's settings, and the fields.

    Raises:
      InputError: The document is missing, damaged, of another kind or of a newer version.
    """
    fields = read_document(path, kind, _PARTS, "it is not used")
    identity, content = fields.text("identity"), fields.remaining()
    fields.finish()
    return identity, content


def _identity(settings: Mapping[str, Any], may_change: Collection[str]) -> str:
    return settings_hash({name: value for name, value in settings.items() if name not in may_change})


def _identity_of(path: Path) -> str | None:
    """What the lock, or where that is lost another document, says that the folder's settings are; None: nothing does.

    Raises:
      InputError: The folder holds files of something else.
    """
    entries = [entry.name for entry in path.iterdir() if not entry.name.endswith(UNFINISHED)]
    known = FolderLock.identity(path)
    if known is None:
        documents = [file for places in ("checkpoints/round-*.json", "*.json") for file in sorted(path.glob(places))]
        known = next(filter(None, map(_identity_in, documents)), None)
    if known is None and CONFIG not in entries and set(entries) - {LOCK}:
        raise InputError(f"{path} holds files but no run ({CONFIG} is missing); choose a new or an empty folder")
    # An empty folder that was locked, and no more, is new to whoever comes next.
    return known if set(entries) - {LOCK} else None


def _identity_in(document: Path) -> str | None:
    try:
        identity = parsed_json(document.read_bytes())["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return identity if isinstance(identity, str) else None


def _mend(path: Path) -> None:
    """Removes what a killed process left half-written."""
    for unfinished in path.glob(f".*{UNFINISHED}"):
        unfinished.unlink()
    for stream in path.glob("*.jsonl"):
        drop_unfinished_line(stream)


def _stored_config(path: Path, is_this_run: bool) -> dict[str, Any] | None:
    """What `config.json` says; None where there is none, or a damaged one of this run, which is set aside."""
    if not (path / CONFIG).exists():
        return None
    try:
        return read_config(path)
    except DamagedDocumentError as error:
        if not is_this_run:
            raise
        reason = str(error).removesuffix(f"; {_REMEDY}")
        aside = set_aside(path / CONFIG)
        sys.stderr.write(f"{reason}: kept as {aside.name}, and written anew, as the folder is of these settings\n")
        return None
