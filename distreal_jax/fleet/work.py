"""A planned round as arrays: what every client trains, and in which items of work the fast round runs it.

Clients are put into blocks that are trained one after the other, so memory grows with the block, not with the round. In a
block, an item of work is one step of up to `chunk` clients that run the same program: with a block of one it is the client's
next step, with masks it is one step of the whole block, and compact on an accelerator it is those clients of the block
whose step has the same table entry.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.plan import RoundPlan


class ClientWork(NamedTuple):
    """What the clients of a round train. Axes: [clients] here, [blocks, block] in a compiled round."""

    clients: npt.NDArray[np.uint32]  # [...]
    batches: npt.NDArray[np.int32]  # [..., steps, batch], training examples
    entries: npt.NDArray[np.int32]  # [..., steps], table entries, -1: no step
    weights: npt.NDArray[np.float32]  # [...], in the average; 0: uploads nothing
    lengths: npt.NDArray[np.float32]  # [...], `path_lengths`, for the normalised mean
    classes: npt.NDArray[np.bool_] | None = None  # [..., classes] that a client has examples of


class Items(NamedTuple):
    """The items of work of each block, in order."""

    programs: npt.NDArray[np.int32]  # [blocks, items], which compiled step; -1: none
    slots: npt.NDArray[np.int32]  # [blocks, items, chunk], client in the block; >= block: no client
    steps: npt.NDArray[np.int32]  # [blocks, items, chunk], which of its steps


@dataclasses.dataclass(frozen=True)
class Grouping:
    """How a round's clients are shared out.

    Attributes:
      block: Clients whose weights are held at once.
      chunk: Clients that are vmapped in one item of work.
      by_entry: Whether an item holds clients of one table entry (compact), or any (masked).
      shards: Accelerators (or CPU devices) among which blocks are shared out.
    """

    block: int
    chunk: int
    by_entry: bool
    shards: int = 1

    def __post_init__(self) -> None:
        if self.block < 1 or self.chunk < 1 or self.shards < 1:
            raise InputError(f"block {self.block}, chunk {self.chunk} and shards {self.shards} have to be at least 1")
        if not self.by_entry and self.chunk != self.block:
            raise InputError("without grouping by entry an item is a step of the whole block; let chunk equal block")

    def blocks(self, num_clients: int) -> int:
        """Blocks for so many clients, a multiple of `shards`."""
        blocks = -(-num_clients // self.block)
        return -(-blocks // self.shards) * self.shards

    def items(self, steps: int, num_entries: int) -> int:
        """The most items that a block can need, so that every round has the same shapes."""
        if not self.by_entry or self.block == 1:
            return steps
        # Of `block` clients in a step, full chunks plus at most one part-filled chunk for each entry.
        return steps * min(self.block, self.block // self.chunk + num_entries)


def client_work(
    plan: RoundPlan,
    batches: npt.NDArray[np.int32],
    client_weights: npt.ArrayLike,
    *,
    by_steps: bool,
    steps: int | None = None,
    momentum: float = 0.0,
    client_classes: npt.NDArray[np.bool_] | None = None,
) -> ClientWork:
    """From a plan to what the clients train.

    Args:
      plan: The round's plan.
      batches: int32 [clients, steps, batch].
      client_weights: [clients], weights of the average, such as numbers of examples.
      by_steps: Multiply weights by the fraction of mini-batches done.
      steps: Mini-batches of a round, of which this is the fraction; None: the plan's columns.
      momentum: Of the devices' SGD.
      client_classes: bool [clients, classes] for a masked loss, and for rows of the classifier.
    """
    weights = np.where(plan.uploads, np.asarray(client_weights, dtype=np.float64), 0.0)
    if by_steps:
        weights = weights * plan.steps_done / (steps or plan.entries.shape[1])
    lengths = path_lengths(plan.steps_done, momentum)
    return ClientWork(
        plan.clients.astype(np.uint32), batches, plan.entries, weights.astype(np.float32), lengths, client_classes
    )


def path_lengths(steps_done: npt.ArrayLike, momentum: float = 0.0) -> npt.NDArray[np.float32]:
    """How many gradients a client's change amounts to, after so many steps of SGD: as many, without momentum.

    With momentum rho, a gradient that n steps follow counts 1 + rho + ... + rho^n times; their sum is
    (steps - rho (1 - rho^steps) / (1 - rho)) / (1 - rho). (Wang et al., NeurIPS 2020, their |a_i|.)
    """
    steps = np.asarray(steps_done, dtype=np.float64)
    lengths = (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)
    return lengths.astype(np.float32)


def in_blocks(work: ClientWork, grouping: Grouping) -> ClientWork:
    """[clients] to [blocks, block]; empty places do no step and have no weight."""
    num_clients = len(work.clients)
    blocks = grouping.blocks(num_clients)
    empty = blocks * grouping.block - num_clients

    def folded(array: npt.NDArray[np.generic] | None, fill: int) -> npt.NDArray[np.generic] | None:
        if array is None:
            return None
        padding = np.full((empty, *array.shape[1:]), fill, dtype=array.dtype)
        return np.concatenate([array, padding]).reshape(blocks, grouping.block, *array.shape[1:])

    return ClientWork(
        *(folded(array, -1 if field == "entries" else 0) for field, array in zip(work._fields, work, strict=True))  # type: ignore[arg-type]
    )


def items_of(entries: npt.NDArray[np.int32], grouping: Grouping, num_entries: int) -> Items:
    """The items of work of every block.

    Args:
      entries: int32 [blocks, block, steps], -1 where a client does no step.
      grouping: How clients are shared out.
      num_entries: Entries in the table.
    """
    blocks, block, steps = entries.shape
    count = grouping.items(steps, num_entries)
    programs = np.full((blocks, count), -1, dtype=np.int32)
    slots = np.full((blocks, count, grouping.chunk), block, dtype=np.int32)
    at_step = np.zeros((blocks, count, grouping.chunk), dtype=np.int32)
    if not grouping.by_entry or block == 1:
        programs[:] = np.max(entries, axis=1) if grouping.by_entry else np.where(np.max(entries, axis=1) >= 0, 0, -1)
        slots[:] = np.where(entries.swapaxes(1, 2) >= 0, np.arange(block), block)
        at_step[:] = np.arange(steps)[None, :, None]
        return Items(programs, slots, at_step)
    for b in range(blocks):
        item = 0
        for step in range(steps):
            for entry in range(num_entries):
                members = np.flatnonzero(entries[b, :, step] == entry)
                for first in range(0, len(members), grouping.chunk):
                    chosen = members[first : first + grouping.chunk]
                    programs[b, item] = entry
                    # An item as large as its block runs clients where they lie.
                    slots[b, item, chosen if grouping.chunk == block else slice(len(chosen))] = chosen
                    at_step[b, item] = step
                    item += 1
    return Items(programs, slots, at_step)
