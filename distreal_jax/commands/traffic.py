"""What the processes of a job send each other in a round: counted by the system, and timed on its own."""

import contextlib
import os
import socket
import statistics
import struct
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distreal_jax import processes
from distreal_jax.fleet.exchange import added_in_order, bytes_of_round
from distreal_jax.fleet.work import group_size

_BYTES_SENT = struct.Struct("=200xQ")  # of Linux' struct tcp_info, since 4.19: tcpi_bytes_sent
_TIMES = 5  # chosen by us


def bytes_sent() -> int | None:
    """Bytes that this process has sent so far over its open TCP connections; None where the system does not count them.

    What accelerators send by other ways (NVLink, InfiniBand) is not in it.
    """
    total = 0
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:
        return None
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(descriptor))) as opened:
                if opened.family not in (socket.AF_INET, socket.AF_INET6) or opened.type != socket.SOCK_STREAM:
                    continue
                told = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            if len(told) < _BYTES_SENT.size:
                return None
            total += _BYTES_SENT.unpack_from(told)[0]
    return total


def exchange_seconds(sums: Sequence[jax.ShapeDtypeStruct], groups: int) -> float:
    """Seconds in which the processes add up the sums of so many groups of clients, all ready at the same time; the median.

    Args:
      sums: Shapes and types of the leaves of a sum.
      groups: Of clients, in all processes together.
    """
    of_process = [part.tolist() for part in np.array_split(np.arange(groups), processes.count())]
    own = {group: tuple(jnp.zeros(leaf.shape, leaf.dtype) for leaf in sums) for group in of_process[processes.index()]}
    seconds = []
    for _ in range(1 + _TIMES):
        processes.exchanged(b"")  # all are there
        begin = time.perf_counter()
        jax.block_until_ready(added_in_order(own, of_process, sums))
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])  # the first one compiles


def traffic(sums: Sequence[jax.ShapeDtypeStruct], clients: int, sent: int | None, rounds: int) -> dict[str, Any]:
    """What is sent in a round, for the JSON line; empty for a process that is alone.

    Args:
      sums: As for `exchange_seconds`.
      clients: Of a round.
      sent: Bytes that this process has sent in all rounds, if that is known.
      rounds: How many.
    """
    if processes.count() == 1:
        return {}
    groups = -(-clients // group_size(clients))
    return {
        "bytes_sent_in_a_round": None if sent is None else round(sent / rounds),
        "bytes_sent_by_the_formula": bytes_of_round(sum(leaf.size for leaf in sums), processes.count(), groups),
        "exchange_seconds": round(exchange_seconds(sums, groups), 5),
    }
