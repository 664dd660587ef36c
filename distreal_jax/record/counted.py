"""What is summed up over the rounds of a run, on the host: work, bytes, deadlines."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from distreal_jax.availability.segments import Floats
from distreal_jax.fleet.federation import Federation
from distreal_jax.plan import RoundPlan


@dataclasses.dataclass
class Counted:
    """What is summed up over rounds, on the host; JSON values.

    Attributes:
      divergence: What shows that the run has diverged; None: nothing so far.
      records: The lines of metrics so far.
      spent: MACs in mini-batches that are done and uploaded.
      wasted: MACs in work that the deadline cut, or that was not uploaded.
      idle: What devices could have done in their rounds and did not, in the unit of the load: MACs that the full network
        would have computed with it.
      client_rounds: How often a device was asked to train.
      deadline_hits: How many of these the deadline cut short.
      left_out: How many uploads the server refused.
      bytes_up: From devices to the server.
      bytes_down: From the server to devices.
      widest: The largest table entry that was trained; -1: none yet.
      trained: The table entries that were trained, ascending.
      round_computing: When the last client of each round was done, in parts of the round.
      round_bytes: The most bytes that one client of each round received and sent.
    """

    divergence: str | None = None
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    spent: float = 0.0
    wasted: float = 0.0
    idle: float = 0.0
    client_rounds: int = 0
    deadline_hits: int = 0
    left_out: int = 0
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    widest: int = -1
    trained: list[int] = dataclasses.field(default_factory=list)
    round_computing: list[float] = dataclasses.field(default_factory=list)
    round_bytes: list[float] = dataclasses.field(default_factory=list)

    def add(self, federation: Federation, plan: RoundPlan) -> None:
        """Counts a planned round; MACs are those of the forward and backward passes of all its examples."""
        macs_of_mini_batch = float(federation.world.network.training_macs() * federation.training.batch_size)
        counts = plan.entries >= 0
        spent = plan.work_spent * _macs_of_work(federation, plan, counts)
        wasted = plan.work_wasted * _macs_of_work(federation, plan, ~counts)
        self.spent += macs_of_mini_batch * float(spent.sum())
        self.wasted += macs_of_mini_batch * float(wasted.sum())
        self.idle += macs_of_mini_batch * float(plan.work_idle.sum()) / federation.full_cost
        self.client_rounds += len(plan.clients)
        self.deadline_hits += int(plan.deadline_hits.sum())
        up, down = federation.bytes_moved(plan)
        self.bytes_up += float(up.sum())
        self.bytes_down += float(down.sum())
        self.round_computing.append(plan.last_finish)
        self.round_bytes.append(float((up + down).max(initial=0.0)))
        self.widest = max(self.widest, federation.widest(plan))
        self.trained = sorted({*self.trained, *np.unique(plan.entries[counts]).tolist()})

    def scaled(self, factor: float) -> "Counted":
        """As if so many times as many rounds of the same kind had been counted."""
        sums = ("spent", "wasted", "idle", "client_rounds", "deadline_hits", "left_out", "bytes_up", "bytes_down")
        return dataclasses.replace(self, **{name: factor * getattr(self, name) for name in sums})


def _macs_of_work(federation: Federation, plan: RoundPlan, among: npt.NDArray[np.bool_]) -> Floats:
    """Full mini-batches' MACs that a client computes in a unit of its work, [clients].

    Just 1 where work is counted in MACs; the seconds of a narrow network hold fewer MACs than those of the full one.

    Args:
      federation: Has the table.
      plan: Says what is done in each mini-batch, and with which entry.
      among: The mini-batches meant, bool [clients, steps].
    """
    macs_of_entries = federation.table.costs() / federation.costs
    work = np.where(among, plan.work, 0.0)
    macs = (work * macs_of_entries[plan.begun]).sum(axis=1)
    return np.divide(macs, work.sum(axis=1), out=np.ones(len(work)), where=work.any(axis=1))
