"""How the scripts meet a person: options with help, errors in one line and exit status 2, all cores in use."""

import contextlib
import dataclasses
import os
import platform
import re
import reprlib
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import jax
import tyro

from distreal_jax.errors import InputError
from distreal_jax.fleet.world import SEEDS
from distreal_jax.record.interruption import STOPPING
from distreal_jax.record.run_folder import RunFolder

Options = TypeVar("Options")
Settings = TypeVar("Settings")
Plain = Annotated[Settings, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]
"""Settings whose fields are options without a prefix: `--rounds` instead of `--training.rounds`.

A choice between true and false takes its value, as in `--rescale True`, which is how `wandb agent` writes it.
"""

PARSING = (tyro.conf.FlagCreatePairsOff,)
"""How command lines are parsed: a flag such as `--dry-run` has no opposite."""

_MOST_SEEDS = 1000  # of one range, chosen by us: more is a slip of the keyboard


@dataclasses.dataclass(frozen=True)
class OutputSettings:
    """Where a run's files go.

    Attributes:
      out: The folder; without it runs/NAME-HASH, so that other settings go elsewhere.
      wandb: Weights & Biases beside the files: disabled, offline, or online.
      wandb_project: Project there.
    """

    out: Path | None = None
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    wandb_project: str = "distreal_jax"


def run_command(main: Callable[[Options], None], options: type[Options] | Options) -> None:
    """Parses the command line into `options` and runs `main` with it.

    Bad input ends in one line on stderr and exit status 2. Ctrl-C, and the signal by which a cluster stops a job, end in one
    line that says how to go on, and in status 130 and 143. Where what reads the output ends before it, as `head` does, only
    status 141 says so.

    Args:
      main: The experiment.
      options: A dataclass, or an instance of one whose values are the defaults (a config).
    """
    try:
        with _interrupted_by_signals(), _while_somebody_reads():
            use_every_core()
            keep_compiled_programs()
            given = tyro.cli(options, config=PARSING) if isinstance(options, type) else _overridden(options)
            main(given)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt as stopped:
        sys.stderr.write(f"\nstopped; to go on from the last checkpoint: {shlex.join(sys.orig_argv)}\n")
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        # Not sys.exit: taking the interpreter down waits for a round that is still being computed, or crashes under it.
        os._exit(128 + (stopped.args[0] if stopped.args else signal.SIGINT))


@contextlib.contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Inside, the signals raise KeyboardInterrupt with their number; outside, where nothing is lost, all is as it was."""
    report, handlers = sys.unraisablehook, {number: signal.signal(number, _stop) for number in STOPPING}

    def again(dropped: "sys.UnraisableHookArgs") -> None:
        # What is raised in a callback is dropped, and JAX has one that the garbage collector calls all the time.
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            threading.Timer(0.01, os.kill, (os.getpid(), *dropped.exc_value.args)).start()  # seconds, chosen by us
        else:
            report(dropped)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = report
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _while_somebody_reads() -> Iterator[None]:
    """Inside, output that nobody reads any more ends the process, without a word; of other broken pipes it is told."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        try:
            sys.stdout.write("\n")  # what could not be written may be forgotten: asked anew
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where the interpreter flushes it at the end
            sys.exit(128 + signal.SIGPIPE)
        raise


def _overridden(config: Options) -> Options:
    return tyro.cli(type(config), default=config, config=PARSING)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(number)


def use_every_core() -> None:
    """Makes each CPU core a device of its own, with one thread, where nothing else is asked for.

    Clients are shared out over devices: two clients on one thread each are faster than one on two threads. It has to be
    called before JAX is used for the first time; an accelerator is not affected.
    """
    if "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def keep_compiled_programs() -> None:
    """Keeps compiled programs on disk, where nothing else is asked for: a repetition or another seed starts at once.

    They lie in ~/.cache/distreal_jax/HOST (or under XDG_CACHE_HOME), a folder for each host: machines that share a home may
    have other processors. JAX_COMPILATION_CACHE_DIR names another place, and JAX_ENABLE_COMPILATION_CACHE=false keeps none.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distreal_jax" / platform.node()
    with contextlib.suppress(OSError):  # without a home to write to, programs are compiled anew
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))


def open_folder(
    output: OutputSettings, name: str, options: Any, *, may_change: Collection[str] = (), **decided: Any
) -> RunFolder:
    """The run's folder: `--out`, or runs/NAME-HASH of all that decides the results.

    Args:
      output: Where it is to be.
      name: Of the experiment.
      options: A dataclass; all of it but where the output goes.
      may_change: Options in which a run may differ from what the folder holds already.
      **decided: What stands for an option whose text alone does not decide, such as a table's contents for its file.
    """
    settings = {key: value for key, value in dataclasses.asdict(options).items() if key not in ("output", "dry_run")}
    settings |= decided
    if output.out is not None:
        return RunFolder.at(output.out, settings, may_change=may_change)
    return RunFolder.open(Path("runs"), name, settings)


def parsed_list(text: str, what: str) -> list[str]:
    """The parts of a comma-separated option; commas in brackets part nothing.

    Raises:
      InputError: There is none.
    """
    parts = [part.strip() for part in re.split(r",(?![^\[\]]*\])", text) if part.strip()]
    if not parts:
        raise InputError(f"no {what} given; give them separated by commas")
    return parts


def parsed_targets(text: str | None) -> list[float] | None:
    """Accuracies from "0.5,0.6", ascending; None where none are given.

    Raises:
      InputError: One is no number above 0 and at most 1.
    """
    if text is None:
        return None
    try:
        targets = sorted({float(part) for part in parsed_list(text, "targets")})
    except ValueError:
        targets = [0.0]
    if not all(0 < target <= 1 for target in targets):
        raise InputError(f"targets {reprlib.repr(text)} are not all above 0 and at most 1; give some such as 0.5,0.6,0.7")
    return targets


def parsed_seeds(text: str) -> list[int]:
    """Seeds from "0,1,2" or a range "0-4".

    Raises:
      InputError: Something is no seed, or comes twice.
    """
    seeds: list[int] = []
    for part in parsed_list(text, "seeds"):
        first, dash, last = part.partition("-")
        ends = [end for end in (first, last if dash else first) if end.isdecimal() and len(end) <= len(str(SEEDS))]
        if len(ends) < 2 or max(map(int, ends)) >= SEEDS:
            raise InputError(
                f"seed {reprlib.repr(part)} is no whole number from 0 to {SEEDS - 1}; give seeds such as 0,1,2 or 0-4"
            )
        if int(ends[1]) - int(ends[0]) >= _MOST_SEEDS:
            raise InputError(f"seeds {part!r} are more than {_MOST_SEEDS}; give fewer")
        seeds.extend(range(int(ends[0]), int(ends[1]) + 1))
    if len(set(seeds)) < len(seeds) or not seeds:
        raise InputError(f"seeds {reprlib.repr(text)} are empty or hold one twice; give seeds such as 0,1,2 or 0-4")
    return seeds
