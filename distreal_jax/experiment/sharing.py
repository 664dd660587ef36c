"""Runs that several processes share out: each takes one that nobody works on, and goes on with what a dead one left.

A claim is the lock of the run's folder, which the system lets go with the process that holds it. So nothing has to be
started in an order, counted or told of the others: the same command, any number of times, on machines with a common disk.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from distreal_jax.record.lock import HeldError

_PAUSE = 1.0  # seconds between two looks at what others hold, chosen by us

Run = TypeVar("Run")
Result = TypeVar("Result")


def shared_out(runs: Sequence[Run], do: Callable[[Run], Result]) -> list[Result]:
    """The results of all runs, each done here or, while it was held there, by another process.

    Args:
      runs: The same in all processes.
      do: Does a run, or reads the result of one that is done; raises `HeldError` where another process is at it.

    Raises:
      InputError: As `do`, but for those that are held.
    """
    results: dict[int, Result] = {}
    told = False
    while True:
        held, before = None, len(results)
        for index, run in enumerate(runs):
            if index not in results:
                try:
                    results[index] = do(run)
                except HeldError as error:
                    held = error
        if held is None:
            return [results[index] for index in range(len(runs))]
        if len(results) == before:
            if not told:
                sys.stderr.write(f"{len(runs) - len(results)} of {len(runs)} runs are left to other processes: waiting\n")
                told = True
            time.sleep(_PAUSE)
