"""The cache of image sets that were decoded before.

It is in `~/.cache/distreal_jax`, or in the folder that the environment variable DISTREAL_CACHE names (60,000 images take
10 s to decode and a fraction of a second to read).
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.number_files import read_npz


def read_cache(path: Path, names: Collection[str]) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays that `write_cache` wrote, by name, of any shape; None if absent, damaged or of other names."""
    try:
        arrays = read_npz(path, "", most=path.stat().st_size)  # not compressed: no number is smaller than a byte
    except (OSError, InputError):
        return None
    return arrays if set(arrays) == set(names) else None


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
    """Writes arrays of any shape, whole or not at all. A failure is ignored: the next time is only slower."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as unfinished:
            np.savez(Path(unfinished) / path.name, allow_pickle=False, **arrays)
            os.replace(Path(unfinished) / path.name, path)
