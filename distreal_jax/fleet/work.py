"""A planned round as arrays: what every client trains, and in which calls of compiled programs the fast round runs it.

What the server adds up has one order, which depends on the round's clients alone: at most `GROUPS` groups of clients that
follow on each other are each added up client by client, and then the groups. A unit of work is one or several whole groups,
so units may be trained anywhere and in any order. A unit's clients are put into blocks that are trained one after the
other, so memory grows with the block, not with the round. In a block, a call runs some steps of up to `chunk` clients that
take the same program: with a block of one the client's next steps, with masks steps of the whole block, and compact on an
accelerator those clients of the block whose steps have the same program.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.plan import RoundPlan

GROUPS = (
    16  # chosen by us: as many sums are held at most, and as many processes or accelerators can share a round out evenly
)


class ClientWork(NamedTuple):
    """What the clients of a round train. Axes: [clients] of the round, or of a block."""

    clients: npt.NDArray[np.uint32]  # [...]
    batches: npt.NDArray[np.int32]  # [..., steps, batch], training examples
    entries: npt.NDArray[np.int32]  # [..., steps], table entries, -1: no step
    weights: npt.NDArray[np.float32]  # [...], in the average; 0: uploads nothing
    lengths: npt.NDArray[np.float32]  # [...], `path_lengths`, for the normalised mean
    classes: npt.NDArray[np.bool_] | None = None  # [..., classes] that a client has examples of


class Call(NamedTuple):
    """Some steps of some clients of a block, by one program."""

    program: int
    slots: npt.NDArray[np.int32]  # [chunk], clients in the block; >= block: no client
    first: npt.NDArray[np.int32]  # [chunk], the step that each of them begins with
    steps: int


class Segment(NamedTuple):
    """Clients of a block that belong to one group of the sum."""

    group: int
    begin: int
    end: int


class Block(NamedTuple):
    """Clients whose weights are held at the same time."""

    work: ClientWork  # axes [block]
    calls: list[Call]
    segments: list[Segment]


@dataclasses.dataclass(frozen=True)
class Grouping:
    """How a round's clients are shared out.

    Attributes:
      block: Clients whose weights are held at once.
      chunk: Clients that are vmapped in one item of work.
      by_entry: Whether an item holds clients of one table entry (compact), or any (masked).
      lanes: Places where clients train side by side: accelerators, or cores of a CPU.
    """

    block: int
    chunk: int
    by_entry: bool
    lanes: int = 1

    def __post_init__(self) -> None:
        if self.block < 1 or self.chunk < 1 or self.lanes < 1:
            raise InputError(f"block {self.block}, chunk {self.chunk} and lanes {self.lanes} have to be at least 1")
        if not self.by_entry and self.chunk != self.block:
            raise InputError("without grouping by entry an item is a step of the whole block; let chunk equal block")

    def within(self, group: int) -> "Grouping":
        """The grouping whose blocks hold whole groups of so many clients, or lie within one."""
        if self.block < group:
            return self
        block = self.block // group * group
        return dataclasses.replace(self, block=block, chunk=block if self.chunk == self.block else min(self.chunk, block))


def group_size(num_clients: int) -> int:
    """Clients in a group of the server's sum."""
    return max(1, -(-num_clients // GROUPS))


def client_work(
    plan: RoundPlan,
    batches: npt.NDArray[np.int32],
    client_weights: npt.ArrayLike,
    *,
    by_steps: bool,
    steps: int | None = None,
    momentum: float = 0.0,
    step_factors: npt.ArrayLike | None = None,
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
      step_factors: [entries], by which each makes a step longer; None: as long as the optimiser says.
      client_classes: bool [clients, classes] for a masked loss, and for rows of the classifier.
    """
    weights = np.where(plan.uploads, np.asarray(client_weights, dtype=np.float64), 0.0)
    if by_steps:
        weights = weights * plan.steps_done / (steps or plan.entries.shape[1])
    done = plan.entries >= 0
    lengths = path_lengths(
        done if step_factors is None else np.where(done, np.asarray(step_factors)[plan.entries], 0.0), momentum
    )
    return ClientWork(
        plan.clients.astype(np.uint32), batches, plan.entries, weights.astype(np.float32), lengths, client_classes
    )


def path_lengths(step_factors: npt.ArrayLike, momentum: float = 0.0) -> npt.NDArray[np.float32]:
    """How many gradients each client's change amounts to: without momentum and factors, as many as its steps.

    With momentum rho, the step after t others moves by 1 + rho + ... + rho^t = (1 - rho^(t + 1)) / (1 - rho) gradients,
    times its factor. (Wang et al., NeurIPS 2020, their |a_i|.)

    Args:
      step_factors: [clients, steps], by how much each step is longer than the optimiser says; 0: not done.
      momentum: Of the devices' SGD.
    """
    factors = np.asarray(step_factors, dtype=np.float64)
    gradients = (1 - momentum ** np.arange(1, factors.shape[1] + 1)) / (1 - momentum)
    return (factors @ gradients).astype(np.float32)


def units_of(work: ClientWork, grouping: Grouping, programs: npt.NDArray[np.int64]) -> list[list[Block]]:
    """The units of a round, each the blocks that are trained one after the other in one place.

    Args:
      work: Of the round, axes [clients].
      grouping: How clients are shared out, as `Grouping.within` gives it.
      programs: int [entries], which program runs a step of each entry.
    """
    clients = len(work.clients)
    size = max(grouping.block, group_size(clients))
    units = _parts(range(clients), size)
    return [
        [_block(work, part.start, part.stop, grouping, programs) for part in _parts(unit, grouping.block)] for unit in units
    ]


def _parts(whole: range, size: int) -> list[range]:
    return [whole[first : first + size] for first in range(0, len(whole), size)]


def _block(work: ClientWork, begin: int, end: int, grouping: Grouping, programs: npt.NDArray[np.int64]) -> Block:
    """The block of these clients; empty places do no step and have no weight."""
    empty, group = grouping.block - (end - begin), group_size(len(work.clients))

    def part(array: npt.NDArray[np.generic] | None, fill: int) -> npt.NDArray[np.generic] | None:
        if array is None:
            return None
        return np.concatenate([array[begin:end], np.full((empty, *array.shape[1:]), fill, dtype=array.dtype)])

    clients = ClientWork(
        *(part(array, -1 if field == "entries" else 0) for field, array in zip(work._fields, work, strict=True))  # type: ignore[arg-type]
    )
    segments = [
        Segment(number, max(number * group, begin) - begin, min((number + 1) * group, end) - begin)
        for number in range(begin // group, -(-end // group))
    ]
    return Block(clients, calls_of(clients.entries, grouping, programs), segments)


def calls_of(entries: npt.NDArray[np.int32], grouping: Grouping, programs: npt.NDArray[np.int64]) -> list[Call]:
    """The calls of a block, in order: every step of every client is in one of them, after the client's steps before.

    Args:
      entries: int32 [block, steps], -1 where a client does no step.
      grouping: How clients are shared out.
      programs: int [entries], which program runs a step of each entry.
    """
    block, steps = entries.shape
    of_step = np.where(entries >= 0, programs[entries], -1)
    calls: list[Call] = []
    last_of: dict[int, int] = {}  # the call that a client was last in
    for step in range(steps):
        for program in np.unique(of_step[:, step]):
            if program < 0:
                continue
            members = np.flatnonzero(of_step[:, step] == program)
            for first in range(0, len(members), grouping.chunk):
                chosen = members[first : first + grouping.chunk]
                slots = np.full(grouping.chunk, block, dtype=np.int32)
                # A call as large as its block trains clients where they lie.
                slots[chosen if grouping.chunk == block else slice(len(chosen))] = chosen
                before = {last_of.get(client, -1) for client in chosen.tolist()}
                number = before.pop() if len(before) == 1 else -1
                if number >= 0 and _goes_on(calls[number], program, slots, step):
                    calls[number] = calls[number]._replace(steps=calls[number].steps + 1)
                else:
                    number = len(calls)
                    calls.append(Call(int(program), slots, np.full(grouping.chunk, step, dtype=np.int32), 1))
                last_of |= dict.fromkeys(chosen.tolist(), number)
    return calls


def _goes_on(call: Call, program: int, slots: npt.NDArray[np.int32], step: int) -> bool:
    """Whether a step is the next one of a call."""
    return call.program == program and np.array_equal(call.slots, slots) and bool(call.first[0] + call.steps == step)
