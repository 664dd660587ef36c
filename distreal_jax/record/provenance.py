"""Where the numbers of a run come from: command, commit, versions and machine."""

import contextlib
import datetime
import functools
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import distreal_jax

_VERSIONS = ("distreal_jax", "jax", "jaxlib", "flax", "optax", "numpy")


def provenance() -> dict[str, Any]:
    """Where the numbers of this process come from: command (Python by name alone), commit, versions, machine, date (UTC)."""
    devices = jax.local_devices()
    return {
        "command": shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
        "process": os.getpid(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _own_commit(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _VERSIONS}},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "jax_platform": devices[0].platform,
        "devices": jax.device_count(),
        "accelerators": [device.device_kind for device in devices] if devices[0].platform != "cpu" else [],
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """In what of platform, devices and versions two starts of a run differ, in words; None: in nothing."""

    def flat(session: Mapping[str, Any]) -> dict[str, Any]:
        named = {"platform": session.get("jax_platform"), "devices": session.get("devices")}
        named |= {"processor": ", ".join(sorted(set(session.get("accelerators") or []))) or session.get("cpu")}
        return named | dict(session.get("versions") or {})

    old, new = flat(before), flat(now)
    changed = [name for name in new if old.get(name) is not None and old[name] != new[name]]
    return ", ".join(f"{name} {new[name]} (before {old[name]})" for name in changed) or None


@functools.cache  # what runs is what was imported, whatever is committed meanwhile
def _own_commit() -> dict[str, Any]:
    return source_commit(Path(distreal_jax.__file__))


def source_commit(source: Path) -> dict[str, Any]:
    """The git commit that a source file is of, and whether anything tracked differs from it ("unknown" outside git)."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        # An installed copy may lie inside somebody else's repository, whose commit says nothing about it.
        git("ls-files", "--error-unmatch", source.name)
        return {"hash": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {"hash": "unknown", "dirty": None}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
