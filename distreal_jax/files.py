"""Files that are replaced as a whole or not at all, paths as people write them, and what is said where the disk refuses."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from distreal_jax.errors import InputError

UNFINISHED = ".unfinished"  # how the name of a file ends until it is written
DAMAGED = ".damaged"  # how the name of a file ends that was found to be damaged and set aside


def user_path(path: str | Path) -> Path:
    """A path as a person wrote it, with `~` as the home folder.

    Raises:
      InputError: The home folder is unknown, or no file can have this name.
    """
    try:
        os.fspath(path).encode("utf-8")
        expanded = Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path} begins with a home folder that nobody knows here; give the path without ~") from error
    except UnicodeEncodeError as error:
        raise InputError(f"the path {os.fspath(path)!a} can't be written as UTF-8; give one that can") from error
    if "\0" in os.fspath(path):
        raise InputError(f"the path {os.fspath(path)!a} holds a character that no file's name can have; give another")
    return expanded


def write_atomically(path: Path, content: bytes, *, previous: Path | None = None) -> None:
    """Replaces a file as a whole: a reader, a crash or a full disk leaves the old contents or the new, never a part.

    Args:
      path: The file; its folder exists.
      content: What it is to hold.
      previous: Where a file already at `path` is kept; None: it is replaced.

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
            if previous is not None and path.exists():
                os.replace(path, previous)
            os.replace(unfinished, path)
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink()
        with contextlib.suppress(OSError):  # some systems open no folders, or don't sync them
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def set_aside(path: Path) -> Path:
    """Moves a damaged file out of the way, to a name that is free, so that nothing is lost; returns where it is now.

    Raises:
      InputError: It can't be moved.
    """
    aside, number = path.with_name(path.name + DAMAGED), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}{DAMAGED}-{number}")
    with writing(path):
        os.replace(path, aside)
    return aside


def parts_around(path: Path, marks: tuple[str, str]) -> tuple[str, str, str]:
    """What a document has up to the first of two marks, each on a line of its own, between them, and from the second on.

    Raises:
      InputError: There is no such file, or it has not both marks in their order.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file with the lines {' and '.join(marks)}, between which tables are put; name one")
    before, begin, rest = path.read_text(encoding="utf-8").partition(f"{marks[0]}\n")
    between, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise InputError(f"{path} has no lines {' and '.join(marks)} to put the table between; add them")
    return before + begin, between, end + after


def made_folder(path: Path) -> Path:
    """The folder, made with its parents where it is not there; raises `InputError` if it can't be."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Ends in one line, an `InputError`, what the disk refuses inside the block; the line says what to do about it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"can't write {path} {refusal(error, path)}") from error


def refusal(error: OSError, path: Path) -> str:
    """Why the disk refused to write at a path, in brackets, and what to do.

    Args:
      error: What it said.
      path: Of the file or the folder.
    """
    reason, again = error.strerror or str(error), "start the same command again"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        file = next((place for place in (path, *path.parents) if place.is_file()), path)
        return f"({file} is a file, where a folder is expected); choose another folder, or move the file away"
    if error.errno == errno.EISDIR:
        return f"({path} is a folder, where a file is expected); choose another place, or move the folder away"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"({reason}); choose a folder that you may write, or get leave to write this one, and {again}"
    if error.errno in (errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP):
        return f"({reason}); choose another folder"
    return f"({reason}); what was written before is intact: make room or choose another folder, and {again}"
