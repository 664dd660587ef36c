"""Metrics as JSON lines: each has left the process before the next round, and a damaged one is told from a whole one."""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distreal_jax.document import parsed_json
from distreal_jax.errors import InputError
from distreal_jax.files import set_aside, write_atomically, writing
from distreal_jax.record.json_values import json_value


class MetricsStream:
    """A file of metrics that one process writes, held open from its first line on.

    Attributes:
      path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one line; it has left this process when the call returns. NaN and infinity become null.

        Raises:
          InputError: The disk is full or can't be written; the lines before are intact.
        """
        line = _line(record)
        with writing(self.path):
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            before = os.fstat(self._descriptor).st_size
            try:
                written = 0
                while written < len(line):
                    written += os.write(self._descriptor, line[written:])
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, before)
                raise

    def restore(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Makes the file hold just these records: those that a checkpoint knows of.

        Later ones are dropped, as the run writes them again. A file that was damaged or edited is kept beside it.

        Raises:
          InputError: The file can't be written; it is as it was.
        """
        kept = b"".join(map(_line, records))
        with writing(self.path):
            found = self.path.read_bytes() if self.path.exists() else b""
            if found.startswith(kept):
                if len(found) > len(kept):
                    os.truncate(self.path, len(kept))
                return
            self.close()
            kept_as = f"; what it held is in {set_aside(self.path)}" if self.path.exists() else ""
            write_atomically(self.path, kept)
        sys.stderr.write(f"{self.path} was damaged: restored from the checkpoint{kept_as}\n")

    def close(self) -> None:
        """Lets go of the file; the next line opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


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


def drop_unfinished_line(path: Path) -> None:
    """Cuts off a last line that a process which was killed, or a machine that went down, left half-written."""
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    # A crash of the machine can leave the length of a line without its contents.
    if lines and not (lines[-1].endswith(b"\n") and _record(lines[-1]) is not None):
        os.truncate(path, len(content) - len(lines[-1]))


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(json_value(record)) + "\n").encode()


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = parsed_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
