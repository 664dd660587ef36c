"""NPZ files of whatever a disk or a stranger makes of them: arrays, or one line, and no memory for what is refused."""

import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distreal_jax.availability import make_availability
from distreal_jax.data.datasets import load_dataset
from distreal_jax.errors import InputError
from distreal_jax.number_files import read_npz
from tests.test_damage import damaged, fine_or_one_line

ARRAYS = {
    "load": np.linspace(0.1, 1, 12).reshape(3, 4),
    "other": np.asfortranarray(np.arange(6, dtype=np.int8).reshape(2, 3)),
    "period_seconds": np.array(60),
    "names": np.array(["a", "bc"]),
}


def member(header: bytes, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """A `.npy` file's beginning."""
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + header


def archived(path: Path, content: bytes, name: str = "load.npy", method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)
    return path


FULL = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 1), }\n"
GOOD = member(FULL) + bytes(16)
TERABYTES = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000, 1), }\n"
BAD = {
    "a member that is no array": lambda path: archived(path, b"hello", "notes.txt"),
    "a header that declares 728 TiB": lambda path: archived(path, member(TERABYTES) + bytes(16)),
    "a header that is cut": lambda path: archived(path, member(FULL)[:40]),
    "a header without end": lambda path: archived(path, member(b"{'descr': '<f8', 'fortran_order'")),
    "a header that is no header": lambda path: archived(path, member(b"(" * 500)),
    "a header of objects": lambda path: archived(path, member(FULL.replace(b"<f8", b"|O")) + bytes(16)),
    "a header of records": lambda path: archived(path, member(FULL.replace(b"'<f8'", b"[('a', '<f8')]")) + bytes(16)),
    "a header of less than nothing": lambda path: archived(path, member(FULL.replace(b"(2, 1)", b"(-2, -1)")) + bytes(16)),
    "a header of texts without letters": lambda path: archived(path, member(FULL.replace(b"<f8", b"<U0"))),
    "a boast of a long header": lambda path: archived(path, member(FULL, (2, 0), 2**32 - 1) + bytes(16)),
    "a version nobody knows": lambda path: archived(path, member(FULL, (9, 9))),
    "fewer numbers than declared": lambda path: archived(path, GOOD[:-1]),
    "more numbers than declared": lambda path: archived(path, GOOD + b"0"),
    "LZMA": lambda path: archived(path, GOOD, method=zipfile.ZIP_LZMA),
    "bzip2": lambda path: archived(path, GOOD, method=zipfile.ZIP_BZIP2),
    "nothing": lambda path: path.write_bytes(b""),
    "no archive": lambda path: path.write_bytes(b"PK" + bytes(100)),
}


def encrypted(content: bytes) -> bytes:
    """The bit that says so, in the archive's directory."""
    place = content.rindex(b"PK\x01\x02") + 8
    return content[:place] + bytes([content[place] | 1]) + content[place + 1 :]


@pytest.mark.parametrize("kind", [*BAD, "encrypted", "missing", "a folder"])
def test_what_is_no_npz_of_numbers_ends_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "load.npz"
    if kind == "encrypted":
        path.write_bytes(encrypted(archived(path, GOOD).read_bytes()))
    elif kind == "a folder":
        path.mkdir()
    elif kind != "missing":
        BAD[kind](path)
    with pytest.raises(InputError, match="give another") as error:
        read_npz(path, "give another", most=100)
    assert len(str(error.value).splitlines()) == 1 and str(path) in str(error.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_read_back_as_they_were(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "load.npz", **ARRAYS)
    read = read_npz(tmp_path / "load.npz", "", most=1000)
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_a_bomb_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    header = member(b"{'descr': '|i1', 'fortran_order': False, 'shape': (50000000, 1), }\n")
    path = archived(tmp_path / "bomb.npz", header + bytes(50_000_000), method=zipfile.ZIP_DEFLATED)
    long = member(b"x" * 50_000_000, (2, 0))
    for bomb in (path, archived(tmp_path / "header.npz", long, method=zipfile.ZIP_DEFLATED)):
        assert bomb.stat().st_size < 200_000
        tracemalloc.start()
        with pytest.raises(InputError):
            read_npz(bomb, "", most=10_000_000)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (4, 2, 2), dtype=np.uint8) for name in ("x_train", "x_test")}
    labels = {name: np.arange(4, dtype=np.uint8) for name in ("y_train", "y_test", "writer_train")}
    content = {}
    for save in (np.savez, np.savez_compressed):
        save(folder / "load.npz", load=ARRAYS["load"], period_seconds=60)
        content[f"load {save.__name__}"] = (folder / "load.npz").read_bytes()
        save(folder / "writers.npz", **images, **labels)
        content[f"writers {save.__name__}"] = (folder / "writers.npz").read_bytes()
    return content


@given(kind=st.sampled_from(["load", "writers"]), data=st.data())
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_npz_is_what_it_was_or_one_line(whole: dict[str, bytes], tmp_path: Path, kind: str, data: Any) -> None:
    content = whole[f"{kind} {data.draw(st.sampled_from(['savez', 'savez_compressed']))}"]
    for _ in range(data.draw(st.integers(1, 2))):
        content = damaged(content, data)
    if kind == "load":
        (tmp_path / "load.npz").write_bytes(content)
        with fine_or_one_line():
            load = make_availability(f"trace:{tmp_path / 'load.npz'},round_seconds=60", seed=0, num_devices=3)
            assert 0 < load.minimum <= load.during(3, np.arange(3)).values.min()
    else:
        (tmp_path / "mnist_writers.npz").write_bytes(content)
        with fine_or_one_line():
            assert len(load_dataset("mnist_writers", tmp_path).train.targets) == 4
