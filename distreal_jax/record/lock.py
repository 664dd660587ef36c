"""The lock of a run's folder: one process at a time writes it, and one that dies lets it go."""

import contextlib
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from distreal_jax.errors import InputError
from distreal_jax.files import writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"
_PAUSE = 0.2  # seconds between two looks at a lock that is held, chosen by us
_told = False

Opened = TypeVar("Opened")


class FolderLock:
    """Held until `release`, or until the process ends, however it ends.

    The file names who holds the folder, and stands for the settings of the run in it once `config.json` is lost.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, folder: Path, identity: str | None) -> Self:
        """Locks a folder. Where the system or its disk has no locks, stderr says once that nothing guards it.

        Args:
          folder: The folder.
          identity: Stands for the settings of the run that is there; None: there is none.

        Raises:
          InputError: Another process holds it (`HeldError`), which is named; or the folder can't be written.
        """
        with writing(folder):
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            lock = cls(descriptor)
            try:
                if fcntl is None:
                    _tell(folder, "this system has no locks")
                else:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                held = os.read(descriptor, 1000).decode(errors="replace").split()
                lock.release()
                holder = f"{held[0]} of {held[1]}" if len(held) > 1 and held[1] != platform.node() else "".join(held[:1])
                raise HeldError(
                    f"{folder} is in use by process {holder or 'of unknown number'}; wait until it ends, or choose another"
                    " folder"
                ) from error
            except OSError as error:  # Lustre and NFS have none unless they are mounted so
                _tell(folder, error.strerror or str(error))
            try:
                lock.leave(identity)
            except OSError:
                lock.release()
                raise
        return lock

    @staticmethod
    def identity(folder: Path) -> str | None:
        """What stands for the settings of the run in a folder; None where nothing does."""
        try:
            text = (folder / LOCK).read_text(encoding="ascii")
        except (OSError, ValueError):
            return None
        found = re.fullmatch(r"\d+ \S+ ([0-9a-f]{10})\n", text)
        return found[1] if found else None

    def leave(self, identity: str | None) -> None:
        """Writes who holds the folder, and what stands for its settings."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            host = re.sub(r"\s|[^\x21-\x7e]", "-", platform.node()) or "-"
            os.write(self._descriptor, f"{os.getpid()} {host} {identity or '-'}\n".encode("ascii"))

    def release(self) -> None:
        """Lets the next process have the folder."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


class HeldError(InputError):
    """The folder is held by another process."""


def once_free(attempt: Callable[[], Opened]) -> Opened:
    """What `attempt` returns once it no longer raises `HeldError`.

    The processes of a job attempt it together again and again, so that none waits in a collective for as long as that takes.
    """
    while True:
        try:
            return attempt()
        except HeldError:
            time.sleep(_PAUSE)


def _tell(folder: Path, reason: str) -> None:
    global _told
    if not _told:
        sys.stderr.write(f"{folder} can't be locked ({reason}): start no second process on the same folder\n")
    _told = True
