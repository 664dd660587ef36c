"""Checkpoints of a run: the server's state, written by Orbax, and a document beside it that makes it count.

The state is written first. Then comes the document, as a whole or not at all: whose run it is, what was counted so far, and
a checksum of each file of the state. What a killed process leaves half-written has no document, and no byte that was
changed since reaches Orbax.

Of the processes of a job, process 0 writes and reads, and sends what it read to the others, who need not see its disk.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from distreal_jax import processes
from distreal_jax.document import DamagedDocumentError, read_document, write_document
from distreal_jax.errors import InputError, in_one_line
from distreal_jax.files import refusal
from distreal_jax.record.interruption import uninterrupted

_KIND = "distreal_jax checkpoint of a run"
_SCHEMA = 2  # 1 did not say its round
_KEPT = 2  # the last one, and the one before in case the disk damages it
_DAMAGED = "damaged_checkpoints"


class Restored(NamedTuple):
    """What a checkpoint held."""

    rounds: int  # done
    state: Any  # a pytree of arrays
    counted: dict[str, Any]  # JSON values


class Checkpoints:
    """The checkpoints of one run, in `checkpoints/round-N` and `checkpoints/round-N.json`."""

    def __init__(self, folder: Path, identity: str) -> None:
        """Makes the folder for them, and removes what a killed process left half-written there.

        Args:
          folder: The run's.
          identity: Stands for the run's settings; a checkpoint of another is refused.

        Raises:
          InputError: The folder can't be written.
        """
        self._run, self._identity = Path(folder).absolute(), identity
        self._folder = self._run / "checkpoints"
        self._link: Path | None = None
        # Orbax would have all processes write their part.
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="process0")
        options = ocp.options.MultiprocessingOptions() if processes.count() == 1 else alone
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
        self._orbax = ocp.Checkpointer(handler, multiprocessing_options=options)
        processes.told(self._prepare)

    def _prepare(self) -> None:
        with self._on_disk("checkpoints can't be written"):
            self._folder.mkdir(exist_ok=True)
            self._keep(set(self._rounds()))

    def save(self, rounds: int, state: Any, counted: dict[str, Any]) -> None:
        """Commits the state after `rounds`; of the checkpoints before, the last one is kept.

        Args:
          rounds: Rounds done.
          state: A pytree of arrays.
          counted: JSON values.

        Raises:
          InputError: The disk is full or can't be written; earlier checkpoints are intact.
        """
        leaves = jax.device_get(jax.tree.leaves(state))
        processes.told(lambda: self._save(rounds, leaves, counted))

    def _save(self, rounds: int, leaves: list[Any], counted: dict[str, Any]) -> None:
        with self._on_disk(f"the checkpoint of round {rounds} can't be written"):
            self._orbax.save(self._for_orbax(rounds), args=ocp.args.StandardSave(_named(leaves)), force=True)
            content = {
                "identity": self._identity,
                "rounds": rounds,
                "counted": counted,
                "files": _checksums(self._state(rounds)),
            }
            write_document(self._document(rounds), _KIND, _SCHEMA, content)
            self._keep({rounds, *[before for before in self._rounds() if before < rounds][: _KEPT - 1]})

    def latest(self, like: Any) -> Restored | None:
        """The newest checkpoint that is undamaged; None where there is none.

        A damaged one is moved to `damaged_checkpoints`, so that nothing is lost, and stderr says so.

        Args:
          like: A state of the same structure, shapes and placement on devices.

        Raises:
          InputError: The newest one is of a run of other settings; nothing was changed.
        """
        read: list[Restored] = []

        def read_here() -> dict[str, Any] | None:
            if (latest := self._latest(like)) is None:
                return None
            read.append(latest)
            return {"rounds": latest.rounds, "counted": latest.counted}

        known = processes.told(read_here)
        if known is None or processes.count() == 1:
            return read[0] if read else None
        return Restored(known["rounds"], _told(read[0].state if read else like), known["counted"])

    def _latest(self, like: Any) -> Restored | None:
        damaged = 0
        for rounds in self._rounds():
            try:
                identity, counted, files = self._read(rounds)
                if files != _checksums(self._state(rounds)):
                    raise DamagedDocumentError("its files are not those that were written")
            except (InputError, OSError) as error:
                self._set_aside(rounds, error)
                damaged += 1
                continue
            if identity != self._identity:
                raise InputError(
                    f"the checkpoint of round {rounds} in {self._folder} is of a run of other settings; choose another"
                    " folder, or move the checkpoints away"
                )
            if damaged:
                sys.stderr.write(f"going on from the checkpoint of round {rounds}\n")
            return Restored(rounds, self._restored(rounds, like), counted)
        if damaged:
            sys.stderr.write("no other checkpoint is there: starting from the first round\n")
        return None

    def counted(self) -> dict[str, Any] | None:
        """What the newest checkpoint of this run has counted whose document is undamaged; None where there is none."""
        return processes.told(self._counted)

    def _counted(self) -> dict[str, Any] | None:
        for rounds in self._rounds():
            with contextlib.suppress(InputError, OSError):
                identity, counted, _ = self._read(rounds)
                if identity == self._identity:
                    return counted
        return None

    def _read(self, rounds: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Identity, what was counted, and checksums of the files, of a checkpoint's document."""
        content = read_document(self._document(rounds), _KIND, _SCHEMA, "it is not used")
        identity, counted, files = content.text("identity"), content.mapping("counted"), content.mapping("files")
        said = content.whole("rounds", least=1)
        content.finish()
        if said != rounds:
            raise DamagedDocumentError(f"it is of round {said}, not of the round in its name")
        return identity, counted, files

    def _restored(self, rounds: int, like: Any) -> Any:
        leaves, structure = jax.tree.flatten(like)
        wanted = _named([ocp.utils.to_shape_dtype_struct(leaf) for leaf in leaves])
        try:
            with uninterrupted(), _quiet():
                named = self._orbax.restore(self._for_orbax(rounds), args=ocp.args.StandardRestore(wanted))
        except Exception as error:  # of whatever kind Orbax and its storage find fit
            raise InputError(
                f"{self._state(rounds)} can't be read though it is undamaged ({_reason(error)}); go on with the versions"
                " that wrote it (config.json has them), or choose another folder"
            ) from error
        return jax.tree.unflatten(structure, [named[name] for name in wanted])

    def _state(self, rounds: int) -> Path:
        return self._folder / f"round-{rounds}"

    def _for_orbax(self, rounds: int) -> Path:
        """The state by a path without brackets: Orbax takes those of a folder like `distreal[idle=train]` for a pattern."""
        if "[" not in str(self._folder):
            return self._state(rounds)
        if self._link is None:
            self._link = Path(tempfile.mkdtemp(prefix="checkpoints-")) / "run"
            self._link.symlink_to(self._folder, target_is_directory=True)
            weakref.finalize(self, shutil.rmtree, self._link.parent, ignore_errors=True)
        return self._link / self._state(rounds).name

    def _document(self, rounds: int) -> Path:
        return self._folder / f"round-{rounds}.json"

    def _rounds(self) -> list[int]:
        """Of all documents, newest first."""
        names = (re.fullmatch(r"round-(\d+)\.json", path.name) for path in self._folder.iterdir())
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def _keep(self, kept: set[int]) -> None:
        """Removes other checkpoints, documents first, and what has no document."""
        ours = {self._state(rounds).name for rounds in kept} | {self._document(rounds).name for rounds in kept}
        paths = [path for path in self._folder.iterdir() if path.name not in ours]
        for path in paths:
            if re.fullmatch(r"round-\d+\.json|\..*\.unfinished", path.name):
                path.unlink()
        for path in paths:
            if re.fullmatch(r"round-\d+(\.orbax-checkpoint-tmp.*)?", path.name):
                shutil.rmtree(path)

    def _set_aside(self, rounds: int, error: Exception) -> None:
        aside = self._run / _DAMAGED / f"round-{rounds}"
        with self._on_disk("a damaged checkpoint can't be moved"):
            for number in range(2, 1000):
                if not aside.exists():
                    break
                aside = aside.with_name(f"round-{rounds}-{number}")
            aside.mkdir(parents=True)
            # The document last: until it is gone, the checkpoint is found to be damaged again.
            for path in (self._state(rounds), self._document(rounds)):
                if path.exists():
                    os.rename(path, aside / path.name)
        sys.stderr.write(f"the checkpoint of round {rounds} is damaged and was moved to {aside} ({_reason(error)})\n")

    @contextlib.contextmanager
    def _on_disk(self, what: str) -> Iterator[None]:
        try:
            with _quiet():
                yield
        except InputError:
            raise
        # Orbax' storage reports a full disk as a ValueError.
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{what} to {self._folder} {refusal(_of_the_system(error), self._folder)}") from error


_LATE, _LATE_SECONDS = "Event loop is closed", 0.5


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps from the person the tracebacks of Orbax' threads, who gets one line instead."""
    log = logging.getLogger("absl")
    before, log.disabled = log.disabled, True
    unraisable, uncaught = sys.unraisablehook, sys.excepthook

    def unraisable_told(given: "sys.UnraisableHookArgs") -> None:
        if _LATE not in str(given.exc_value):
            unraisable(given)

    def uncaught_told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if _LATE not in str(error):
            uncaught(kind, error, trace)

    # Python's threads report to the one, those of Orbax' storage to the other.
    sys.unraisablehook, sys.excepthook = unraisable_told, uncaught_told
    try:
        yield
    except BaseException:
        # When one array can't be written, the others' writes end after their event loop has. They come late, but not after
        # Python has begun to end, when nobody keeps their tracebacks from the person.
        time.sleep(_LATE_SECONDS)
        log.disabled = before
        raise
    log.disabled, sys.unraisablehook, sys.excepthook = before, unraisable, uncaught


def _told(state: Any) -> Any:
    """The state of process 0, in all processes."""
    leaves, structure = jax.tree.flatten(state)
    arrays = [np.asarray(leaf) for leaf in leaves]
    sent = processes.told_bytes(b"".join(array.tobytes() for array in arrays))
    ends = np.cumsum([array.nbytes for array in arrays]).tolist()
    parts = [sent[end - array.nbytes : end] for end, array in zip(ends, arrays, strict=True)]
    received = [np.frombuffer(part, array.dtype).reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
    return jax.tree.unflatten(
        structure, [jax.device_put(new, leaf.sharding) for new, leaf in zip(received, leaves, strict=True)]
    )


def _named(leaves: list[Any]) -> dict[str, Any]:
    return {str(index): leaf for index, leaf in enumerate(leaves)}


def _checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below a folder, by its path from there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _reason(error: BaseException) -> str:
    """In a few words: the system's where an error is its."""
    found = _of_the_system(error)
    return found.strerror or str(found)


def _of_the_system(error: BaseException) -> OSError:
    """The system's error, however deep it lies in the storage's own words; another one in a few words."""
    text = " ".join(str(error).split())
    number = re.search(r"os_error_code='(\d+)'", text)
    if number:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    if isinstance(error, OSError) and error.strerror:
        return error
    return OSError(in_one_line(error))
