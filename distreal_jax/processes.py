"""The processes of a job under `jax.distributed`: all run the same program, and what only one may do, process 0 does.

What they tell each other goes through collectives between the first device of each, which all call in the same order.
Bytes come back as they were sent. A process that is alone tells itself.
"""

import functools
import io
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from distreal_jax.errors import InputError
from distreal_jax.settings import first_difference

AXIS = "processes"  # of the mesh

Result = TypeVar("Result")
Piece = TypeVar("Piece")


class LostProcessError(Exception):
    """Another process of the job has ended, or can't be reached any more."""


def count() -> int:
    """Processes of the job."""
    return jax.process_count()


def index() -> int:
    """This process among them."""
    return jax.process_index()


def is_first() -> bool:
    """Whether this is the process that writes, logs and keeps checkpoints."""
    return jax.process_index() == 0


@functools.cache
def mesh() -> Mesh:
    """The first device of each process, in their order."""
    first: dict[int, jax.Device] = {}
    for device in jax.devices():
        first.setdefault(device.process_index, device)
    return Mesh(np.array([first[process] for process in range(count())]), (AXIS,))


def stacked(own: jax.Array | npt.NDArray[Any]) -> jax.Array:
    """An array of all processes, [processes, ...], of which this one has its own row."""
    row = jax.device_put(own[None], mesh().devices[index()])
    return jax.make_array_from_single_device_arrays((count(), *own.shape), NamedSharding(mesh(), PartitionSpec(AXIS)), [row])


def together(program: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Runs a program of all processes whose result all of them have; returns this one's copy.

    Args:
      program: Compiled.
      *arrays: As `stacked` makes them, [processes, ...].

    Raises:
      LostProcessError: It can't be run to its end.
    """
    ran: list[jax.Array] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            ran.append(jax.block_until_ready(program(*arrays)).addressable_data(0))
        except BaseException as error:
            failed.append(error)

    # A thread, so that Ctrl-C ends the waiting; no pool, for whose threads the interpreter would wait when it ends.
    thread = threading.Thread(target=run, name="together", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise LostProcessError(" ".join(str(failed[0]).split())) from failed[0]
    return ran[0]


def exchanged(content: bytes) -> list[bytes]:
    """What each process has sent, in their order."""
    if count() == 1:
        return [content]
    sizes, padded = _padded(content)
    every = np.asarray(together(_collective("gather", padded.shape, padded.dtype), stacked(padded)))
    return [row.tobytes()[:size] for row, size in zip(every, sizes, strict=True)]


def told(make: Callable[[], Result]) -> Result:
    """What process 0 makes, a JSON value, in all processes; the `InputError` that it raises is raised in all.

    Args:
      make: Called in process 0 alone.
    """
    if count() == 1:
        return make()
    answer: dict[str, Any] = {}
    if is_first():
        try:
            answer["made"] = make()
        except InputError as error:
            answer["refused"], answer["kind"] = str(error), type(error).__name__
    heard = json.loads(told_bytes(json.dumps(answer).encode()))
    if "refused" in heard:
        kinds: list[type[InputError]] = [kind for kind in InputError.__subclasses__() if kind.__name__ == heard["kind"]]
        raise in_all([*kinds, InputError][0](heard["refused"]))
    made: Result = heard["made"]
    return made


def told_bytes(content: bytes) -> bytes:
    """The bytes that process 0 gives, in all processes."""
    if count() == 1:
        return content
    sizes, padded = _padded(content if is_first() else b"")
    words = padded.view(np.uint32)  # whose sum with zeros loses no bit
    heard = together(_collective("sum", words.shape, words.dtype), stacked(words))
    return np.asarray(heard).tobytes()[: sizes[0]]


def agreed(what: str, own: Mapping[str, Any], remedy: str = "start the same command in all of them") -> None:
    """Refuses, in all processes, to go on where they differ.

    Args:
      what: In which this is, in the plural.
      own: JSON values.
      remedy: What to do.

    Raises:
      InputError: They differ; the first difference is named.
    """
    each = [json.loads(text) for text in exchanged(json.dumps(own).encode())]
    for process, other in enumerate(each):
        if difference := first_difference(each[0], other):
            name, first, here = difference
            raise in_all(InputError(f"{what} differ: {name} is {first} in process 0, {here} in process {process}; {remedy}"))


def pieces(own: Mapping[int, tuple[npt.NDArray[Any], ...]]) -> dict[int, tuple[npt.NDArray[Any], ...]]:
    """What all processes have done, by the number of the piece.

    Args:
      own: What this process has done. Every piece is the same number of arrays, of the same shapes [...] and types.
    """
    if count() == 1:
        return dict(own)
    file = io.BytesIO()
    arrays = (np.stack(part) for part in zip(*own.values(), strict=True))
    np.savez(file, np.array(list(own), dtype=np.int64), *arrays)
    every: dict[int, tuple[npt.NDArray[Any], ...]] = {}
    for content in exchanged(file.getvalue()):
        with np.load(io.BytesIO(content), allow_pickle=False) as arrived:
            numbers, *parts = (arrived[name] for name in arrived.files)
        every |= {int(number): tuple(part[place] for part in parts) for place, number in enumerate(numbers)}
    return every


def in_all(error: InputError) -> InputError:
    """An error that all processes raise, so that each can end by itself."""
    error.in_all = True
    return error


def shares(work: Sequence[float], lanes: Sequence[int]) -> list[list[int]]:
    """Which pieces of work each process does: in order of size, each to whom has least to do, at most its share of them.

    Args:
      work: How long each piece takes, in any unit.
      lanes: Of each process, how many pieces it does at a time.

    Returns:
      Of each process the numbers of its pieces, ascending.
    """
    room = [-(-len(work) * own // sum(lanes)) for own in lanes]
    load, of_process = [0.0] * len(lanes), [list[int]() for _ in lanes]
    for piece in sorted(range(len(work)), key=lambda piece: (-work[piece], piece)):
        free = [process for process in range(len(lanes)) if len(of_process[process]) < room[process]]
        chosen = min(free, key=lambda process: ((load[process] + work[piece]) / lanes[process], process))
        load[chosen] += work[piece]
        of_process[chosen].append(piece)
    return [sorted(pieces) for pieces in of_process]


@functools.cache
def lanes() -> list[int]:
    """Devices of each process; on a CPU these are the cores that it uses."""
    devices = [device.process_index for device in jax.devices()]
    return [devices.count(process) for process in range(count())]


def _padded(content: bytes) -> tuple[list[int], npt.NDArray[np.uint8]]:
    """The size of what each process has, and the own content with room for the largest.

    The room is a power of two, so that few programs do.
    """
    size = np.array([len(content)], dtype=np.uint32)
    every = together(_collective("gather", size.shape, size.dtype), stacked(size))
    sizes = [int(one) for one in np.asarray(every)[:, 0]]
    padded = np.zeros(max(4, 1 << (max(sizes) - 1).bit_length()), dtype=np.uint8)
    padded[: len(content)] = np.frombuffer(content, dtype=np.uint8)
    return sizes, padded


@functools.cache
def _collective(kind: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[..., jax.Array]:
    """The compiled program that gathers, or sums, an array of each process."""

    def gather(own: jax.Array) -> jax.Array:
        return jax.lax.all_gather(own[0], AXIS)

    def add(own: jax.Array) -> jax.Array:
        return jax.lax.psum(own[0], AXIS)

    mapped = jax.shard_map(
        gather if kind == "gather" else add,
        mesh=mesh(),
        in_specs=PartitionSpec(AXIS),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    like = jax.ShapeDtypeStruct((count(), *shape), dtype, sharding=NamedSharding(mesh(), PartitionSpec(AXIS)))
    return jax.jit(mapped).lower(like).compile()
