"""The loop over rounds: plan one, run it, hand over what came out."""

import dataclasses
from collections.abc import Iterator

from distreal_jax.fleet.aggregation import Server
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.programs import RoundResult
from distreal_jax.plan import RoundPlan


@dataclasses.dataclass(frozen=True)
class TrainedRound:
    """A round that is over.

    Attributes:
      done: Rounds that are done, this one included.
      plan: What was planned for it.
      server: After it; given away to the next round.
      result: What the round reports, still on the device.
    """

    done: int
    plan: RoundPlan
    server: Server
    result: RoundResult

    def __str__(self) -> str:
        return f"round {self.done:,}: {float(self.result.clients):g} updates averaged\n{self.plan}"

    __repr__ = __str__  # a dataclass would write out all weights


def trained_rounds(
    federation: Federation, begin: int = 0, server: Server | None = None, until: int | None = None
) -> Iterator[TrainedRound]:
    """Trains the rounds that are left, and stops after each.

    Args:
      federation: One method in one world.
      begin: Rounds that are done.
      server: As it was then, and given away; None: the first one.
      until: Rounds after which to stop, as a part of the whole; None: all of them.
    """
    server = federation.start() if server is None else server
    for index in range(begin, federation.training.rounds if until is None else until):
        plan, work = federation.plan(index)
        server, result = federation.run_round(server, work, index)
        yield TrainedRound(index + 1, plan, server, result)
