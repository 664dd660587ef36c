"""A search in several processes: process 0 selects, and all of them measure the vectors that it asks for."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from distreal_jax import processes
from distreal_jax.errors import InputError
from distreal_jax.search.evaluation import Evaluate
from distreal_jax.search.progress import Progress
from distreal_jax.search.training_sizes import by_size
from distreal_jax.table.configuration import Configurations

Result = TypeVar("Result")


def measured_together(progress: Progress, lead: Callable[[Evaluate], Result]) -> Result | None:
    """Runs a search in process 0; the others measure what it asks for until it ends.

    Only process 0 selects, so that the search is one even where processors round differently. A vector's progress is the
    same whoever measures it, and beside whichever others.

    Args:
      progress: In each process, of the same data and settings.
      lead: The search; called in process 0 with an evaluation that all processes share out.

    Returns:
      What `lead` returns, in process 0; None in the others.

    Raises:
      InputError: As `lead`, in all processes.
    """
    if processes.count() == 1:
        return lead(progress)
    if processes.is_first():

        def evaluate(candidates: Configurations, repeat: int) -> npt.NDArray[np.float64]:
            processes.told(lambda: {"candidates": [part.tolist() for part in candidates], "repeat": repeat})
            return _measured(progress, candidates, repeat)

        try:
            found = lead(evaluate)
        except InputError as error:
            raise _told_to_all(error) from error
        processes.told(lambda: None)
        return found
    while asked := processes.told(_of_process_0):
        try:
            _measured(progress, Configurations(*map(np.array, asked["candidates"])), asked["repeat"])
        except InputError:
            continue  # process 0 has it too, and tells what becomes of it
    return None


def _measured(progress: Progress, candidates: Configurations, repeat: int) -> npt.NDArray[np.float64]:
    """Progress of all vectors, of which each process measures its share; an error of one of them is raised in all."""
    of_process = _shares(progress, candidates)
    own = of_process[processes.index()]
    answer: dict[str, Any]
    try:
        chosen = Configurations._make(part[own] for part in candidates)
        answer = {"progress": progress(chosen, repeat).tolist() if len(own) else []}
    except InputError as error:
        answer = {"refused": str(error)}
    measured = np.empty(len(candidates.widths))
    for members, text in zip(of_process, processes.exchanged(json.dumps(answer).encode()), strict=True):
        heard = json.loads(text)
        if "refused" in heard:
            raise InputError(heard["refused"])
        measured[members] = heard["progress"]
    return measured


def _shares(progress: Progress, candidates: Configurations) -> list[npt.NDArray[np.intp]]:
    """The vectors of each process: about as much work for each of its devices, and few sizes of network to compile."""
    network, ordered, costs = progress.network, list[int](), list[float]()
    for sizes, members in by_size(network, candidates.widths, progress.sizes).items():
        ordered += members.tolist()
        # Masked within its size, a candidate takes as long whatever it drops, leaves out or freezes.
        costs += [float(network.training_macs(sizes))] * len(members)
    lanes = np.array(processes.lanes())
    ends = np.cumsum(lanes)[:-1] / lanes.sum() * sum(costs)
    middles = np.cumsum(costs) - np.array(costs) / 2
    return np.split(np.array(ordered, dtype=np.intp), np.searchsorted(middles, ends).tolist())


def _told_to_all(error: InputError) -> InputError:
    def refuse() -> None:
        raise error

    try:
        processes.told(refuse)
    except InputError as told:
        return told
    return error


def _of_process_0() -> Any:
    raise AssertionError("only process 0 is asked")
