"""Memory mappings, of which Linux lets a process have so many, and of which compiled programs take most.

On a CPU, XLA maps the code of each kernel into memory by itself: a training step of ResNet-20 takes about 900 mappings, one
of DenseNet-40-BC 2,000. Usually a process may have 65,530 (`vm.max_map_count`). With one more LLVM can't allocate memory and
the process dies. So compiled programs are dropped in time; those that are needed again come from the cache on disk.
"""

import functools
import sys
from pathlib import Path

import jax

from distreal_jax.errors import InputError

KEPT = 0.5  # of the mappings that a process may have: beyond it compiled programs are dropped; chosen by us
MOST = 0.95  # of them: with more nothing is compiled; chosen by us

_dropped = 0


def mappings() -> int:
    """Of this process; 0 where the system does not say."""
    try:
        with Path("/proc/self/maps").open("rb") as lines:
            return sum(1 for _ in lines)
    except OSError:
        return 0


@functools.cache
def most_mappings() -> int:
    """That a process may have; without a limit, or where the system does not say, the largest number there is."""
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        return sys.maxsize


def dropped() -> int:
    """How many times compiled programs were dropped: what was compiled before is no longer there."""
    return _dropped


def drop_programs() -> None:
    """Drops compiled programs if they take many mappings; those that run, or are held, stay until they are done."""
    global _dropped
    if mappings() > KEPT * most_mappings():
        jax.clear_caches()
        _dropped += 1


def check_mappings() -> None:
    """To be called before a program is compiled.

    Raises:
      InputError: There is no room for it.
    """
    if mappings() > MOST * most_mappings():
        raise InputError(
            f"compiled programs take nearly all of the {most_mappings():,} memory mappings that a process may have; allow"
            " more (sysctl -w vm.max_map_count=1048576), give a table of fewer entries, or --execution masked"
        )
