"""How fast this machine runs a federation: estimated in a second, or measured from two table entries that are compiled."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from distreal_jax.experiment.estimate import (
    compile_seconds,
    compiling_seconds,
    forward_seconds,
    others_seconds,
    size_of_step,
    step_seconds,
)
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.lanes import Lanes
from distreal_jax.signs import duration, how_many
from distreal_jax.step import Examples, LocalStep
from distreal_jax.step.outputs import batch_shapes
from distreal_jax.table import DropoutTable, TableEntry

_TIMED_ROUNDS = 3  # chosen by us: the first ones compile, the last one is timed
_TIMED_STEPS = 3  # chosen by us: long enough for a round's own overhead to be a part of it as small as in training


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast this machine runs one world's network, with all of its devices at work.

    Attributes:
      compile_seconds: For the program of one table entry, on one core.
      evaluate_seconds: For one evaluation of the full network.
      macs: (fewer, more) of two entries, relative to the full network.
      seconds: Of a mini-batch of each.
      origin: Where the figures come from, in words.
    """

    compile_seconds: float
    evaluate_seconds: float
    macs: tuple[float, float]
    seconds: tuple[float, float]
    origin: str

    def of_mini_batches(self, macs: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Seconds of mini-batches of so many MACs, relative to the full network, [entries]; linear in them."""
        (low, high), (least, most) = self.macs, self.seconds
        slope = (most - least) / (high - low) if high > low else 0.0
        return np.maximum(least + slope * (np.asarray(macs) - low), 0.0)

    def compiling(self, compiled: int, from_disk: int) -> float:
        """Seconds until a training has its programs, which are compiled side by side or read from the disk."""
        return compiling_seconds(compiled, self.compile_seconds, from_disk)


@dataclasses.dataclass(frozen=True)
class Time:
    """How long something takes, in parts.

    Attributes:
      compiling: Seconds.
      training: Seconds.
      evaluating: Seconds.
      programs: That are compiled for training.
      evaluations: How many.
      origin: Where the figures come from, in words.
    """

    compiling: float = 0.0
    training: float = 0.0
    evaluating: float = 0.0
    programs: int = 0
    evaluations: int = 0
    origin: str = ""

    @property
    def total(self) -> float:
        """Seconds."""
        return self.compiling + self.training + self.evaluating

    def __add__(self, other: "Time") -> "Time":
        return Time(
            self.compiling + other.compiling,
            self.training + other.training,
            self.evaluating + other.evaluating,
            self.programs + other.programs,
            self.evaluations + other.evaluations,
            self.origin or other.origin,
        )

    def said(self) -> str:
        """In a line."""
        devices, lanes = jax.devices(), len(Lanes.of_this_process().places)
        places = f"{lanes} {devices[0].device_kind} {'core' if devices[0].platform == 'cpu' else 'device'}"
        return (
            f"About {duration(self.total)} on {places}{'s' if lanes > 1 else ''}: {duration(self.compiling)} to compile and "
            f"load programs ({self.programs:,} for training; less if an earlier run left them in the cache), "
            f"{duration(self.training)} of training, {duration(self.evaluating)} for "
            f"{how_many(self.evaluations, 'evaluation')}.\n"
            f"{self.origin}."
        )


SpeedOf = Callable[[Federation, TableEntry], Speed]
"""(a federation, the cheapest entry of its kind) -> how fast it runs."""


def estimated_speed(federation: Federation, cheapest: TableEntry) -> Speed:
    """The speed of an entry and of the full network, estimated from their traced steps; nothing is compiled.

    Args:
      federation: World, training and execution.
      cheapest: The entry.
    """
    world, training = federation.world, federation.training
    return speed_of_steps(
        federation.round.step,
        world.params,
        world.train,
        training.batch_size,
        cheapest,
        masked=federation.execution == "masked",
        clients=training.devices_per_round,
        evaluated=_evaluated(federation),
    )


def speed_of_steps(
    step: LocalStep,
    params: Any,
    train: Examples,
    batch_size: int,
    cheapest: TableEntry,
    *,
    masked: bool,
    clients: int,
    evaluated: int = 0,
) -> Speed:
    """The same for a step outside a federation.

    Args:
      step: Of a device.
      params: The full network's parameters.
      train: The training examples.
      batch_size: Examples of a mini-batch.
      cheapest: An entry.
      masked: In masked execution.
      clients: That train in a round.
      evaluated: Examples of an evaluation.
    """
    network, lanes = step.network, len(Lanes.of_this_process().places)
    full = size_of_step(step, params, network.full_widths, batch_shapes(train, batch_size), masked=masked)
    at_work = min(lanes, clients)
    low, most, equations = 1.0, step_seconds(full) / at_work, full.equations
    least = most
    if not masked and cheapest.work < network.training_macs():
        part = batch_shapes(train, cheapest.configuration.examples(batch_size))
        narrow = size_of_step(step, params, cheapest.widths, part, depth=cheapest.depth)
        low, least = cheapest.work / network.training_macs(), step_seconds(narrow) / at_work
        equations = narrow.equations
    evaluating = forward_seconds(full, batch_size, evaluated) / lanes
    origin = "Estimated from the traced training step and a matrix product that was timed just now"
    if jax.default_backend() != "cpu":
        origin += f"; the estimate was fitted to CPUs, so on a {jax.default_backend()} measure instead (--measure)"
    return Speed(compile_seconds(equations), evaluating, (low, 1.0), (least, most), origin)


def measured_speed(federation: Federation, cheapest: TableEntry) -> Speed:
    """Compiles and times an entry and the full network, trained as this federation trains but without a limit.

    Args:
      federation: World, training and execution.
      cheapest: The entry.
    """
    network = federation.world.network
    full = DropoutTable.full(network)
    compiling, most = _timed(federation, full)
    low, least = 1.0, most
    # Masked, every entry costs as much as the full network.
    if federation.execution == "compact" and cheapest.work < network.training_macs():
        alone = dataclasses.replace(full, entries=(cheapest,))
        low, (compiling_too, least) = cheapest.work / network.training_macs(), _timed(federation, alone)
        compiling = (compiling + compiling_too) / 2
    # Forward passes alone are a third of training, and need not be compiled to be counted.
    evaluating = most * _evaluated(federation) / (3 * federation.training.batch_size)
    alone_seconds = max(compiling - others_seconds() / len(Lanes.of_this_process().places), 0.0)
    origin = "Measured just now: the cheapest entry and the full network"
    return Speed(alone_seconds, evaluating, (low, 1.0), (least, most), origin)


def _evaluated(federation: Federation) -> int:
    """Examples of an evaluation, those for running statistics included."""
    evaluator = federation.world.evaluator
    return evaluator.test.num_examples + len(evaluator.statistics)


def _timed(federation: Federation, table: DropoutTable) -> tuple[float, float]:
    """Seconds to compile the round of a table of one entry, and of one of its mini-batches."""
    alone = dataclasses.replace(
        federation,
        table=table,
        method=dataclasses.replace(federation.method, limited=False),
        training=dataclasses.replace(federation.training, steps=min(federation.training.steps, _TIMED_STEPS)),
    )
    server, seconds, mini_batches = alone.start(), [], 0
    for index in range(_TIMED_ROUNDS):
        plan, work = alone.plan(index)
        begun = time.perf_counter()
        server, _ = jax.block_until_ready(alone.run_round(server, work, index))
        seconds.append(time.perf_counter() - begun)
        mini_batches = int((plan.entries >= 0).sum())
    return sum(seconds) - len(seconds) * seconds[-1], seconds[-1] / max(mini_batches, 1)
