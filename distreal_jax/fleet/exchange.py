"""Where the processes of a job meet in a round: the sum over all groups of clients, in one order.

Each process sends a slice of each of its groups' sums to each other one, adds up, group after group, the slices that it
gets, and sends the total of its slice to all. So a process sends about as much as its own groups are large, and the
additions are those of one process, bit by bit.
"""

import functools
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from distreal_jax import processes
from distreal_jax.errors import InputError
from distreal_jax.fleet.work import GROUPS, Block, ClientWork

Leaves = tuple[jax.Array, ...]  # of a tree


def groups_of(unit: Sequence[Block]) -> list[int]:
    """The groups whose clients a unit trains."""
    return sorted({segment.group for block in unit for segment in block.segments})


def check_same_work(work: ClientWork, round_index: int) -> None:
    """Refuses a round that the processes have planned differently, as NumPy may on other processors.

    Raises:
      InputError: In all processes.
    """
    if processes.count() == 1:
        return
    checksum = round_index
    for part in work:
        checksum = checksum if part is None else zlib.crc32(part.tobytes(), checksum)
    if len(set(processes.exchanged(checksum.to_bytes(4)))) > 1:
        raise processes.in_all(
            InputError(f"the processes have planned round {round_index + 1} differently; run them on processors of one kind")
        )


def added_in_order(
    sums: Mapping[int, Leaves], of_process: Sequence[Sequence[int]], like: Sequence[jax.ShapeDtypeStruct]
) -> Leaves:
    """The sum over all groups, in the order of groups, of what the processes have added up for each.

    Args:
      sums: Of this process's groups, the leaves of `Sums`.
      of_process: Each process's groups.
      like: Their shapes and types.
    """
    rows = max(map(len, of_process))
    place = {group: (process, row) for process, groups in enumerate(of_process) for row, group in enumerate(groups)}
    order = processes.stacked(np.array([place[group] for group in range(len(place))], dtype=np.int32))
    home = processes.mesh().devices[processes.index()]
    totals: dict[int, jax.Array] = {}
    for dtype in sorted({leaf.dtype for leaf in like}, key=str):
        members = [number for number, leaf in enumerate(like) if leaf.dtype == dtype]
        shapes = tuple(like[number].shape for number in members)
        room = -(-sum(map(math.prod, shapes)) // processes.count()) * processes.count()
        own = [
            tuple(jax.device_put(sums[group][number], home) for number in members) for group in of_process[processes.index()]
        ]
        packed = [_flat(leaves, room) for leaves in own]
        packed += [jax.device_put(np.zeros(room, dtype), home)] * (rows - len(packed))
        program = _program(rows, room, dtype, len(place))
        total = processes.together(program, processes.stacked(jnp.stack(packed)), order)
        totals |= zip(members, _parted(total, shapes), strict=True)
    return tuple(totals[number] for number in range(len(like)))


def bytes_of_round(values: int, num_processes: int, groups: int = GROUPS, bytes_of_value: int = 4) -> int:
    """The most bytes that a process sends in a round, and gets: slices of its groups' sums, and the total of its own slice.

    Args:
      values: Numbers in a sum, `values_of_sum`.
      num_processes: Processes.
      groups: Of clients.
      bytes_of_value: Of a number.
    """
    rows, slice_of_all = -(-groups // num_processes), -(-values // num_processes)
    return bytes_of_value * (rows + 1) * slice_of_all * (num_processes - 1)


@functools.partial(jax.jit, static_argnums=1)
def _flat(leaves: Leaves, room: int) -> jax.Array:
    flat = jnp.concatenate([leaf.ravel() for leaf in leaves])
    return jnp.pad(flat, (0, room - flat.size))


@functools.partial(jax.jit, static_argnums=1)
def _parted(flat: jax.Array, shapes: tuple[tuple[int, ...], ...]) -> Leaves:
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    parts = jnp.split(flat[: ends[-1]], ends[:-1])
    return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))


@functools.cache
def _program(rows: int, room: int, dtype: np.dtype[Any], groups: int) -> jax.stages.Compiled:
    """Adds rows of all processes, [rows, room] of each, in the order [groups, (process, row)] that each of them gives."""
    number = processes.count()

    def add(own: jax.Array, order: jax.Array) -> jax.Array:
        slices = own[0].reshape(rows, number, room // number)
        every = jax.lax.all_to_all(slices, processes.AXIS, split_axis=1, concat_axis=0)  # [processes, rows, slice]
        total = every[order[0, 0, 0], order[0, 0, 1]]
        for group in range(1, groups):
            total = total + every[order[0, group, 0], order[0, group, 1]]
        return jax.lax.all_gather(total, processes.AXIS, tiled=True)

    split = PartitionSpec(processes.AXIS)
    mapped = jax.shard_map(add, mesh=processes.mesh(), in_specs=(split, split), out_specs=PartitionSpec(), check_vma=False)

    def of_all(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((number, *shape), dtype, sharding=NamedSharding(processes.mesh(), split))

    return jax.jit(mapped).lower(of_all((rows, room), dtype), of_all((groups, 2), np.int32)).compile()
