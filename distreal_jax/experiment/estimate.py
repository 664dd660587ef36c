"""Estimates of how long training, evaluation and compilation take, without compiling any of it.

A training step is traced, which takes a second or two. Its time is a weighted sum of its floating-point operations, the
bytes that its equations write, and the number of its equations. The weights were fitted to 17 measured steps of four
networks on one machine. A large matrix product, timed for a moment, says how fast this machine is in comparison.
docs/commands.md says how far estimates and real runs were apart. The weights are for CPUs; no accelerator was at hand.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distreal_jax.fleet.lanes import Lanes, usable_cores
from distreal_jax.step import Batch, Knobs, LocalStep

# Seconds on one lane of the machine of reference: two threads of one core of an AMD EPYC, 2026-11-26, jax 0.10.2.
_PEAK = 103e9  # floating-point operations a second of a large product, on each lane while the others do the same
_OF_FLOPS = 1.4  # times what they take at the peak
_OF_BYTE = 3.4e-11
_OF_EQUATION = 1.9e-6
_OF_CALL = 3e-4
_COMPILING, _COMPILING_EQUATION = 2.6, 1e-3  # of a program that trains
_COMPILING_OTHERS = 5.0  # start, add, finish and evaluation, together
FROM_DISK = 0.3  # share of a compilation that is left where the compiled program is on the disk
_FORWARD = 1 / 3  # of a training step
_EVALUATED_AT_ONCE = 50  # examples in a batch of the evaluation on a CPU


@dataclasses.dataclass(frozen=True)
class StepSize:
    """What a training step consists of.

    Attributes:
      macs: Multiply-accumulates of its forward and backward passes.
      bytes: That its equations write.
      equations: Of its jaxpr, those of inner calls included.
    """

    macs: float
    bytes: float
    equations: int


@functools.cache
def peak_flops() -> float:
    """Floating-point operations a second of a float32 product of 1024 x 1024, on each lane while all do the same."""
    size, lanes, times = 1024, Lanes.of_this_process(), []
    places = dict.fromkeys(lanes.places)
    matrices = {place: jax.device_put(jnp.ones((size, size), jnp.float32), place) for place in places}
    product = jax.jit(lambda matrix: matrix @ matrix)
    jax.block_until_ready([product(matrix) for matrix in matrices.values()])
    for _ in range(9):  # chosen by us: 0.2 s on the machine of reference; the median leaves out what else it does meanwhile
        begin = time.perf_counter()
        lanes.run(lambda _, place: jax.block_until_ready(product(matrices[place])), range(len(lanes.places)))
        times.append(time.perf_counter() - begin)
    return 2.0 * size**3 / float(np.median(times))


def size_of_step(
    step: LocalStep, params: Any, widths: Sequence[int], batch: Batch, *, masked: bool = False, depth: int = 0
) -> StepSize:
    """Traces a training step.

    Args:
      step: Network, optimiser and task.
      params: The global parameters, or their shapes.
      widths: Filters that are kept, [groups].
      batch: Shapes of a mini-batch.
      masked: At full shapes, in masked execution.
      depth: Layers before the first that is trained.
    """
    network = step.network
    filters = network.full_widths if masked else widths
    kept = [jax.ShapeDtypeStruct((count,), jnp.bool_ if masked else jnp.int32) for count in filters]

    def one(params: Any, batch: Batch, kept: Any) -> Any:
        run = step.masked if masked else step.compact
        return run(step.start(params), params, batch, jax.random.key(0), kept, Knobs(depth))

    jaxpr = jax.make_jaxpr(one)(params, batch, kept)
    examples = len(jax.tree.leaves(batch.targets)[0])
    return StepSize(float(network.training_macs(filters, depth)) * examples, *_counted(jaxpr.jaxpr))


def step_seconds(size: StepSize, *, called: bool = True) -> float:
    """Of a training step on one lane; `called`: by the host, and not inside a longer program."""
    slower = _PEAK / peak_flops()
    operations = 2 * size.macs  # a multiplication and an addition
    return slower * (
        _OF_FLOPS * operations / _PEAK + _OF_BYTE * size.bytes + _OF_EQUATION * size.equations + _OF_CALL * called
    )


def forward_seconds(size: StepSize, batch_size: int, examples: int) -> float:
    """Of an evaluation on so many examples, on one lane.

    Args:
      size: Of a training step of the full network.
      batch_size: Examples in that step.
      examples: That are evaluated.
    """
    batches, each = examples / _EVALUATED_AT_ONCE, _EVALUATED_AT_ONCE / batch_size
    of_batch = StepSize(_FORWARD * each * size.macs, _FORWARD * each * size.bytes, round(_FORWARD * size.equations))
    return batches * step_seconds(of_batch)


def compile_seconds(equations: int) -> float:
    """To compile a program that trains a step of so many equations, on one core."""
    return _PEAK / peak_flops() * (_COMPILING + _COMPILING_EQUATION * equations)


def others_seconds() -> float:
    """To compile the other programs of a training, those of the server and the evaluation, on one core."""
    return _PEAK / peak_flops() * _COMPILING_OTHERS


def compiling_seconds(compiled: int, each: float, from_disk: int = 0) -> float:
    """Until a training has all its programs, which are compiled side by side on all cores.

    Args:
      compiled: Programs that train and have to be compiled; without any, the others are on the disk as well.
      each: Seconds for one of them on one core.
      from_disk: More programs that train, which were compiled before.
    """
    cores = usable_cores()
    others = others_seconds() * (1.0 if compiled else FROM_DISK)
    side_by_side = (compiled * each + FROM_DISK * from_disk * each + others) / cores
    return max(side_by_side, each if compiled else 0.0)  # no faster than the slowest program


def _counted(jaxpr: Any) -> tuple[float, int]:
    """Bytes that its equations write, and their number; the body of a loop counts once."""
    written, equations = 0.0, 0
    for equation in jaxpr.eqns:
        inner = [getattr(value, "jaxpr", value) for value in equation.params.values()]
        inner = [value for value in inner if hasattr(value, "eqns")]
        if not inner:
            equations += 1
            written += sum(_bytes(out.aval) for out in equation.outvars)
        for value in inner:
            of_inner = _counted(value)
            written, equations = written + of_inner[0], equations + of_inner[1]
    return written, equations


def _bytes(aval: Any) -> float:
    itemsize = getattr(getattr(aval, "dtype", None), "itemsize", 0)
    return float(math.prod(getattr(aval, "shape", ())) * itemsize)
