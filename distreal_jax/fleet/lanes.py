"""Lanes: places that work at the same time, each taking the next piece of work when it has done one.

On accelerators a lane is a device. On a CPU a lane is a core: every lane calls programs of JAX's first CPU device from a
thread of its own, so that a program is compiled once for all cores. What one thread calls runs in order; threads run side by
side.
"""

import contextlib
import functools
import os
import queue
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax

Piece = TypeVar("Piece")
Argument = TypeVar("Argument")
Result = TypeVar("Result")


class Lanes(NamedTuple):
    """Places that work at the same time."""

    places: tuple[jax.Device, ...]  # the device of each lane

    @classmethod
    def of_this_process(cls, count: int | None = None) -> "Lanes":
        """So many lanes on the devices of this process; None: one for each device, and on a CPU for each core in use."""
        devices = jax.local_devices()
        count = count or len(devices)
        return cls((devices[0],) * count if devices[0].platform == "cpu" else tuple(devices[:count]))

    def placed(self, tree: Any) -> dict[jax.Device, Any]:
        """The tree on every device of the lanes, `strongly_typed`."""
        return {place: jax.device_put(strongly_typed(tree), place) for place in dict.fromkeys(self.places)}

    def run(self, work: Callable[[Piece, jax.Device], None], pieces: Iterable[Piece]) -> None:
        """Does all pieces of work, each in the first lane that is free; after an error no further piece is begun.

        Args:
          work: Does a piece on a device.
          pieces: In the order in which they are begun.
        """
        waiting: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        for piece in pieces:
            waiting.put(piece)

        def lane(place: jax.Device) -> None:
            while True:
                try:
                    piece = waiting.get_nowait()
                except queue.Empty:
                    return
                work(piece, place)

        if len(self.places) == 1 or waiting.qsize() == 1:
            return lane(self.places[0])
        under_way = [_threads(len(self.places)).submit(as_here(lane), place) for place in self.places]
        try:
            for one in under_way:
                one.result()
        finally:
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
            for one in under_way:
                one.exception()  # waits


def strongly_typed(tree: Any) -> Any:
    """The tree with types that are those of arrays alone.

    JAX types an array that was made of a Python number, such as `jnp.full(3, 0.5)`, weakly: a program that was compiled for
    its shape and type would be compiled again when it is called with it, and once more with what was computed of it.
    """
    return jax.tree.map(
        lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype) if getattr(leaf, "weak_type", False) else leaf, tree
    )


def as_here(function: Callable[[Argument], Result]) -> Callable[[Argument], Result]:
    """The function for another thread, with the precision that is set in this one: JAX keeps such settings by thread."""
    wide, precision = (getattr(jax.config, name) for name in ("jax_enable_x64", "jax_default_matmul_precision"))

    def there(argument: Argument) -> Result:
        with jax.enable_x64(wide), jax.default_matmul_precision(precision):
            return function(argument)

    return there


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="lane")


@functools.cache
def compiling_threads() -> ThreadPoolExecutor:
    """As many threads as there are cores to use: XLA compiles outside Python's lock."""
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="compile")


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows keep no process from a core
