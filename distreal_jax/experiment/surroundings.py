"""What a command prepares before it starts: its streams, its home folder, its cores, and JAX."""

import atexit
import contextlib
import ctypes
import errno
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax

from distreal_jax.errors import InputError
from distreal_jax.fleet.lanes import usable_cores

_REFUSED_FLAGS = re.compile(r"(?:parse_flags_from_env|command_line_flags)\.cc:\d+\] ([^(\n]*[^(\s])")  # in XLA's log
_PATIENCE_FLAG, _PATIENCE_SECONDS = "--xla_cpu_collective_timeout_seconds", 10**7  # four months, chosen by us
_checked_flags = set[str]()


def keep_streams_usable() -> None:
    """What can't be printed is left out: streams that are closed, full, or can't write a character end no run.

    A pipe that nobody reads any more still raises `BrokenPipeError`.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The next file that is opened would get the number, and in it whatever is printed.
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    sys.stdout, sys.stderr = _usable(sys.stdout), _usable(sys.stderr)


class _Forgiving(io.FileIO):
    """A file that forgets what its device refuses, such as a full disk or a terminal that is gone."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            return len(memoryview(content))


def _usable(stream: Any) -> Any:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # for as long as the process lives
    buffer = getattr(stream, "buffer", None)
    device = getattr(buffer, "raw", buffer)  # unbuffered, a stream has no buffer between
    if not isinstance(device, io.FileIO) or isinstance(device, _Forgiving):
        return stream  # of a notebook or a test, which look after it themselves
    raw = _Forgiving(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        raw if device is buffer else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def prepare_jax() -> None:
    """Makes JAX ready, as the commands do: every CPU core in use, compiled programs kept on disk, and single precision.

    A program of your own that does not call it gets JAX's defaults: one device for all CPU cores, which is slower here and
    rounds differently, and no programs on disk.

    Raises:
      InputError: JAX was used before, or XLA_FLAGS ask for what is not there.
    """
    _check_flags()
    use_every_core()
    keep_freed_memory()
    keep_compiled_programs()
    if jax.config.read("jax_enable_x64"):
        sys.stderr.write("JAX_ENABLE_X64 is left aside: all that is trained here is of single precision\n")
        jax.config.update("jax_enable_x64", False)


def check_platform() -> None:
    """Refuses a platform that is not there: JAX is used for the first time.

    Raises:
      InputError: JAX_PLATFORMS ask for what is not there.
    """
    asked = os.environ.get("JAX_PLATFORMS", "")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), "") or "no such device, or no plugin for it"
        raise InputError(
            f"JAX can't use the platform {asked!r} ({reason}); unset JAX_PLATFORMS, or install JAX for it"
            if asked
            else f"JAX finds no device to run on ({reason}); set JAX_PLATFORMS=cpu"
        ) from error


def peak_memory_mib() -> int | None:
    """The most memory that this process has had, in MiB; None where the system doesn't say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)


def use_every_core() -> None:
    """Makes each CPU core a device, and so a lane of a round, where nothing else is asked for.

    Clients are shared out over lanes: two clients on one thread each are faster than one on two threads. An accelerator
    is not affected.

    Raises:
      InputError: JAX was used before.
    """
    if "XLA_FLAGS" not in os.environ:
        try:
            jax.config.update("jax_num_cpu_devices", usable_cores())
        except RuntimeError as error:
            raise InputError(
                "JAX has been used already, and takes no number of devices any more; call prepare_jax first, or start the "
                "kernel again"
            ) from error
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        if usable_cores() == 1:
            # In a pool of one thread XLA's convolutions round otherwise than in one of two or more (up to 16 were tried,
            # jaxlib 0.10.2), so one core gets two threads, and with them the bits of any other number of cores.
            os.environ.setdefault("PJRT_NPROC", "2")


def wait_for_others() -> None:
    """Lets the processes of a job wait for each other as long as it takes; on a CPU, XLA gives up after half an hour.

    One may compile, or train its clients, for longer than the others; who is dead is known by other means (`job`). It has to
    be called before JAX is used for the first time.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _PATIENCE_FLAG not in flags and flags[:1] in ("", "-"):  # otherwise they are the name of a file
        # In front: XLA reads no further than the first word that is no flag, as one of `use_every_core` is.
        os.environ["XLA_FLAGS"] = f"{_PATIENCE_FLAG}={_PATIENCE_SECONDS} {flags}".strip()


def keep_freed_memory() -> None:
    """Lets the C library keep large buffers that are freed, instead of giving their pages back and zeroing new ones.

    A CPU's programs get their temporary buffer anew in each call: of ResNet-20's step 62 MB, 15,849 page faults, 25 ms of 90
    (one core of an AMD EPYC, 2026-11-25). Of the C libraries, glibc alone is known to have the setting.
    """
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX of malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for setting, value in ((trim_threshold, 2**31 - 1), (mmap_max, 0), (arena_max, 1)):
            mallopt(setting, value)


def keep_compiled_programs() -> None:
    """Keeps compiled programs on disk, where nothing else is asked for: a repetition or another seed starts at once.

    They lie in ~/.cache/distreal_jax/HOST (or under XDG_CACHE_HOME), a folder for each host: machines that share a home may
    have other processors. JAX_COMPILATION_CACHE_DIR names another place, and JAX_ENABLE_COMPILATION_CACHE=false keeps none.
    Without a home, or where it can't be written, programs are compiled anew.
    """
    # A full disk would be said for every program; it costs time, and nothing else.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    try:
        home = Path.home()
        folder = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "distreal_jax" / platform.node()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        _borrow_a_home(everything=isinstance(error, RuntimeError))
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(folder))


def _borrow_a_home(*, everything: bool) -> None:
    """A folder until the process ends, for the caches of libraries that know no life without them, such as W&B's."""
    with contextlib.suppress(OSError):
        borrowed = tempfile.mkdtemp(prefix="distreal_jax-")
        atexit.register(shutil.rmtree, borrowed, ignore_errors=True)
        for name in ("XDG_CACHE_HOME", "HOME") if everything else ("XDG_CACHE_HOME",):
            os.environ[name] = borrowed


def _check_flags() -> None:
    """Refuses flags that XLA can't read, of which it would die; so a process of its own is asked."""
    flags = os.environ.get("XLA_FLAGS", "")
    if not flags or flags in _checked_flags:
        return
    _checked_flags.add(flags)
    ask = [sys.executable, "-c", "from jaxlib import xla_client; xla_client.CompileOptions()"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        asked = subprocess.run(ask, capture_output=True, text=True, errors="replace", timeout=60, check=False)
        if asked.returncode != 0 and (said := _REFUSED_FLAGS.search(asked.stderr)):
            raise InputError(f"XLA_FLAGS is {flags!r} ({said[1].rstrip('.')}); correct it, or unset it")
