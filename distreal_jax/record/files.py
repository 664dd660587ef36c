"""Files that are replaced as a whole or not at all, and what a person is told where the disk refuses."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distreal_jax.errors import InputError

UNFINISHED = ".unfinished"  # how the name of a file ends until it is written


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file as a whole: a reader, a crash or a full disk leaves the old contents or the new, never a part.

    Raises:
      InputError: The disk is full or can't be written; the file is as it was.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    with writing(path):
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
def writing(path: Path) -> Iterator[None]:
    """Ends in one line, an `InputError`, what the disk refuses inside the block."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"can't write {path} ({reason}); what was written before is intact: make room or choose another folder,"
            " and start the same command again"
        ) from error


def read_json(path: Path) -> Any:
    """The contents of a JSON file; None where there is none.

    Raises:
      InputError: It is damaged, or can't be read.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"can't read {path} ({error.strerror or error}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]}); choose another folder, or remove it") from error
