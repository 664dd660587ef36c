"""The files that recorded load comes in.

**CSV**: columns `device` (any label), `time` (seconds, ascending within a device) and `availability` (0 to 1). A value holds
until the device's next row, the last for as long as the one before it.

**NPZ**: one or more arrays [machines, samples], a row for each machine, and a sample every `period_seconds` (a number in the
file, or an option). Arrays of floats are availabilities, 0 to 1; arrays of integers are what others use of the machine in
percent, 0 to 100, which leaves an availability of 1 - utilisation / 100.

Either way what is below `floor` counts as `floor`: at availability 0 no mini-batch would ever end.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distreal_jax.availability.recorded import Machine, Trace
from distreal_jax.availability.segments import Floats
from distreal_jax.errors import InputError
from distreal_jax.number_files import read_npz

MOST_SAMPLES = 2**27  # of a trace, chosen by us: 1 GiB of float64, and forty times what PlanetLab's machines have
COLUMNS = ("device", "time", "availability")
LONGEST_SECONDS = 1e12  # chosen by us: 30,000 years, which float64 still tells to a thousandth of a second
SINGLE_ROW_SECONDS = 86_400.0  # chosen by us; how long a value that never changes is replayed at a time is all the same


def read_trace(path: Path, floor: float, period_seconds: float | None) -> Trace:
    """The trace in a CSV or NPZ file of the format described above.

    Args:
      path: The file; the ending of its name, .csv or .npz, says which.
      floor: The lowest availability, in (0, 1]; what is recorded below it is raised to it.
      period_seconds: Seconds between two samples of an NPZ file; None to take what the file says.

    Raises:
      InputError: The file is missing, damaged, empty or of another format, or holds values out of range.
    """
    if path.suffix == ".npz":
        return _read_arrays(path, floor, period_seconds)
    if path.suffix != ".csv":
        raise InputError(f"{path} is no trace that can be read; expected a file whose name ends in .csv or .npz")
    if period_seconds is not None:
        raise InputError(f"period_seconds is given for {path}, whose rows have times of their own; leave it out")
    return _read_rows(path, floor)


def read_columns(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The named columns of a CSV file with a header, row by row.

    Raises:
      InputError: The file is missing, is no CSV, lacks one of the columns, or has no rows, or one that is cut short.
    """
    expected = f"expected a CSV file with the columns {', '.join(columns)}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
                raise InputError(f"{path} has no column {missing[0]!r}; {expected}")
            rows = [tuple(row[column] for column in columns) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"can't read {path} ({error}); {expected}") from error
    if not rows:
        raise InputError(f"{path} has no rows; {expected}")
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise InputError(f"row {number} of {path} is cut short; {expected}")
    return rows


def number_of(text: str, what: str) -> float:
    """The finite number that `text` writes; an `InputError` naming `what` if it writes none."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{what} is {text!r}, expected a number; correct it")
    return number


def _read_rows(path: Path, floor: float) -> Trace:
    samples: dict[str, list[tuple[float, float]]] = {}
    for number, (device, time, availability) in enumerate(read_columns(path, COLUMNS), start=1):
        of_device = samples.setdefault(device, [])
        seconds = number_of(time, f"time in row {number} of {path}")
        if of_device and seconds <= of_device[-1][0]:
            raise InputError(
                f"time in row {number} of {path} is not after the row before of device {device!r}; sort the rows"
            )
        of_device.append((seconds, number_of(availability, f"availability in row {number} of {path}")))
    machines = []
    for of_device in samples.values():
        times, values = np.array(of_device).T
        if max(-times[0], times[-1]) > LONGEST_SECONDS:
            raise InputError(f"{path} has times beyond {LONGEST_SECONDS:g} seconds; give seconds since the first sample")
        starts = times - times[0]
        held = starts[-1] - starts[-2] if len(starts) > 1 else SINGLE_ROW_SECONDS
        machines.append(Machine(starts, _at_least(values, floor, path), float(starts[-1] + held)))
    return Trace.of(machines)


def _read_arrays(path: Path, floor: float, period_seconds: float | None) -> Trace:
    arrays = read_npz(path, "expected an NPZ file with arrays [machines, samples]", MOST_SAMPLES)
    recorded = arrays.pop("period_seconds", None)
    period = recorded if period_seconds is None else np.array(period_seconds)
    if period is None:
        raise InputError(f"{path} does not say how far apart its samples are; add period_seconds, as in ,period_seconds=300")
    if period.shape != () or period.dtype.kind not in "iuf" or not 0 < period < np.inf:
        raise InputError(
            f"period_seconds in {path} is {period}, expected one positive number; add ,period_seconds=300 or the like"
        )
    if float(period) * max((array.size for array in arrays.values()), default=0) > LONGEST_SECONDS:
        raise InputError(f"{path} with period_seconds={period:g} lasts longer than {LONGEST_SECONDS:g} seconds; lower it")
    if not arrays:
        raise InputError(f"{path} holds no samples; expected arrays [machines, samples]")
    machines: list[Machine] = []
    for name, array in arrays.items():
        if array.ndim != 2 or not array.size or array.dtype.kind not in "iuf":
            raise InputError(
                f"array {name!r} in {path} is {array.dtype} {array.shape}; expected numbers [machines, samples]"
            )
        availability = array if array.dtype.kind == "f" else (100 - array.astype(np.float64)) / 100
        starts, seconds = np.arange(array.shape[1], dtype=np.float64) * float(period), array.shape[1] * float(period)
        machines.extend(Machine(starts, values, seconds) for values in _at_least(availability, floor, path))
    return Trace.of(machines)


def _at_least(availability: npt.NDArray[Any], floor: float, path: Path) -> Floats:
    """The values as float64, those below the floor raised to it; an `InputError` for one outside [0, 1]."""
    outside = ~((availability >= 0) & (availability <= 1))
    if outside.any():
        raise InputError(
            f"{path} holds an availability of {availability[outside][0]:g}, expected 0 to 1"
            " (or utilisation in whole percent, 0 to 100); convert the file"
        )
    raised: Floats = np.maximum(availability.astype(np.float64), floor)
    return raised
