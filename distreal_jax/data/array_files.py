"""Arrays of images and labels in NPZ files, and the cache of sets that were decoded before.

The cache is `~/.cache/distreal_jax`, or the folder that the environment variable DISTREAL_CACHE names (60,000 images take
10 s to decode and a fraction of a second to read).
"""

import contextlib
import hashlib
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def read_arrays(path: Path, names: Mapping[str, str]) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays of an NPZ file under the names asked for; None if it is absent, damaged, or lacks one."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[stored] for name, stored in names.items()}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def cache_file(name: str, prepared: Path) -> Path | None:
    """Where the decoded arrays of a prepared set belong; None where there is no such place.

    Args:
      name: Of the set, with its version; two preparations of one version may differ, so their files do.
      prepared: The folder of the prepared set.
    """
    try:
        chosen = os.environ.get("DISTREAL_CACHE")
        folder = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "distreal_jax"
        files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(prepared.iterdir())]
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    name = re.sub(r"[^\w.]", "-", name)
    return folder / f"{name}-{hashlib.sha256(repr(files).encode()).hexdigest()[:12]}.npz"


def write_cache(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes the arrays whole or not at all; without a cache, the next time is only slower."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as unfinished:
            np.savez(Path(unfinished) / path.name, allow_pickle=False, **arrays)
            os.replace(Path(unfinished) / path.name, path)
