"""NPZ files of numbers: sizes are checked before anything is inflated, and nothing but plain arrays is ever read.

An NPZ file is a ZIP archive of `.npy` members (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html). Each
member's header says how large its array is; that has to be what the archive says, and no more than a reader asked for.
"""

import io
import math
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError

_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what `numpy.savez` and `numpy.savez_compressed` write
_ENCRYPTED = 0x1
_AT_ONCE = 1 << 20  # bytes that are inflated at once, chosen by us
_LONGEST_HEADER = 10_000  # bytes, numpy's own limit
_KINDS = "biufSU"  # numbers and short texts; objects would be pickles


def read_npz(path: Path, expected: str, most: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an NPZ file, of any shapes, by name.

    Args:
      path: The file.
      expected: What the file is to be and what to do, for errors.
      most: Elements that all arrays may have together; more are refused before anything is inflated.

    Raises:
      InputError: The file is missing, damaged or no NPZ file, or holds something else than arrays of numbers and texts, or
        too many of them.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that come twice, and of headers that Python 2 wrote: both are checked
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                headers = {_name(member): _header(archive, member) for member in members}
                if len(headers) < len(members):
                    raise ValueError("two of its arrays have the same name")
                elements = sum(math.prod(header.shape) for header in headers.values())
                if elements > most:
                    raise ValueError(f"it holds {elements:,} numbers, more than {most:,}")
                named = zip(members, headers.items(), strict=True)
                return {name: _array(archive, member, header) for member, (name, header) in named}
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is cut short, damaged or no NPZ file ({_reason(error)}); {expected}") from error
    except Exception as error:  # archives and headers fail in every way that zipfile, zlib and numpy's parser know
        raise InputError(f"can't read {path} ({_reason(error)}); {expected}") from error


def _name(member: zipfile.ZipInfo) -> str:
    if not member.filename.endswith(".npy"):
        raise ValueError(f"{member.filename[:40]!a} in it is no array")
    return member.filename.removesuffix(".npy")


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Header:
    """What a member says that its array is."""
    name = f"{member.filename[:40]!a} in it"
    if member.flag_bits & _ENCRYPTED or member.compress_type not in _PLAIN:
        raise ValueError(f"{name} is encrypted, or compressed in a way that NPZ files are not")
    with archive.open(member) as stream:
        begin = io.BytesIO(stream.read(_LONGEST_HEADER))
    version = np.lib.format.read_magic(begin)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name} is of version {version}, expected 1.0 or 2.0")
    header = _Header(*readers[version](begin, max_header_size=_LONGEST_HEADER))
    if header.dtype.kind not in _KINDS or not header.dtype.itemsize or any(length < 0 for length in header.shape):
        raise ValueError(f"{name} is {str(header.dtype)[:40]} {str(header.shape)[:40]}, no array of numbers")
    if begin.tell() + math.prod(header.shape) * header.dtype.itemsize != member.file_size:
        raise ValueError(f"{name} has another size than its header says")
    return header


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: _Header) -> npt.NDArray[Any]:
    """The array with the member's numbers; the archive checks their checksum at the end."""
    array = np.empty(header.shape, header.dtype, order="F" if header.fortran else "C")
    content = array.reshape(-1, order="A").view(np.uint8)
    with archive.open(member) as stream:
        stream.seek(member.file_size - len(content))
        for begin in range(0, len(content), _AT_ONCE):
            part = stream.read(min(_AT_ONCE, len(content) - begin))
            content[begin : begin + _AT_ONCE] = np.frombuffer(part, np.uint8)
        if stream.read(1):
            raise ValueError(f"{member.filename[:40]!a} in it is longer than it says")
    return array


def _reason(error: Exception) -> str:
    first = error.args[0] if error.args and isinstance(error.args[0], str) else error
    return (str(first).strip() or type(error).__name__).splitlines()[0][:200]
