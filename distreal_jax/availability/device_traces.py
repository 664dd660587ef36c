"""Measurements of real devices, an optional folder `device_traces`: where it is, and how fast phones are according to it."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from distreal_jax.availability.segments import Floats
from distreal_jax.availability.trace_files import number_of, read_columns
from distreal_jax.errors import InputError

PLACES = ("device_traces", "data/device_traces", "../data/device_traces")


def trace_file(name: str, data_dir: Path | None) -> Path:
    """Path of a file of the folder `device_traces`, which is in the data folder, in its `data`, or in a `data` beside it.

    Raises:
      InputError: No data folder is given, or the file is in none of the places.
    """
    if data_dir is None:
        raise InputError(f"{name} is needed and no data folder is given; add --data-dir, a folder with device_traces/{name}")
    candidates = [data_dir / place / name for place in PLACES]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if not found:
        looked = ", ".join(f"{data_dir}/{place}" for place in PLACES)
        raise InputError(f"no file {name} in {looked}; put it there or give another --data-dir")
    return found[0]


def benchmark_speeds(path: Path) -> tuple[float, ...]:
    """Speed relative to the fastest, in (0, 1] and descending, of the phones of a list of AI-Benchmark results.

    By the score of float inference on the CPU, `CPU_F_AI_Score`: of all columns the nearest to training on a phone, which
    runs on the CPU in float. Accelerators, which the total score is about, do not train. The 333 phones of 2009 to 2019 in
    FLASH's copy (Yang et al., WWW 2021) span a factor of 41; half of them are slower than 0.36.

    Raises:
      InputError: The file is missing or damaged, or a score is not positive.
    """
    scores = [
        number_of(score, f"score in row {row} of {path}")
        for row, (score,) in enumerate(read_columns(path, ["CPU_F_AI_Score"]), 1)
    ]
    return _relative(np.array(scores), path)


def training_speeds(path: Path) -> tuple[float, ...]:
    """Speed relative to the fastest, in (0, 1] and descending, of phones whose time for a training batch was measured.

    A phone in one setting of its processor is a tier. Its speed is the geometric mean of batches per second, over the
    networks and batch sizes that were measured on all of them. In the UbiquitousLearning benchmark (MNN, two phones of one
    generation, three settings in all) the slowest tier is at 0.89: phones of a decade differ more, see `benchmark_speeds`.

    Raises:
      InputError: The file is missing or damaged, a time is not positive, or no batch was measured on all phones.
    """
    columns = ("phone", "cpu_config", "model", "batch", "train_ms_per_batch")
    times: defaultdict[tuple[str, str], dict[tuple[str, str], float]] = defaultdict(dict)
    for row, (phone, setting, model, batch, milliseconds) in enumerate(read_columns(path, columns), 1):
        times[phone, setting][model, batch] = number_of(milliseconds, f"train_ms_per_batch in row {row} of {path}")
    shared = sorted(set.intersection(*(set(measured) for measured in times.values())))
    if not shared:
        raise InputError(f"{path} has no model and batch size that was measured on every phone; expected at least one")
    milliseconds_of = np.array([[measured[batch] for batch in shared] for measured in times.values()])
    if not np.all(milliseconds_of > 0):
        raise InputError(f"{path} has a training time of {milliseconds_of.min():g} ms, expected times above 0; correct it")
    return _relative(np.exp(-np.mean(np.log(milliseconds_of), axis=1)), path)


def _relative(speeds: Floats, path: Path) -> tuple[float, ...]:
    if not np.all(speeds > 0):
        raise InputError(f"{path} has a speed of {speeds.min():g}, expected speeds above 0; correct it")
    return tuple(float(speed) for speed in np.sort(speeds / speeds.max())[::-1])
