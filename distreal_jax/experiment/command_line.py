"""What all commands share: options with help, errors in one line with exit status 2, signals, and the folder of a run."""

import contextlib
import dataclasses
import io
import itertools
import os
import re
import reprlib
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import tyro

from distreal_jax.errors import InputError
from distreal_jax.experiment.job import end_in_job, in_its_job, in_job
from distreal_jax.experiment.last_word import give_up, say_no_more
from distreal_jax.experiment.surroundings import check_platform, keep_streams_usable, prepare_jax
from distreal_jax.files import user_path
from distreal_jax.own import own_code
from distreal_jax.processes import LostProcessError
from distreal_jax.record.interruption import STOPPING
from distreal_jax.record.json_values import settings_hash
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.settings import SEEDS, check_settings
from distreal_jax.signs import said_on_stderr, say

Options = TypeVar("Options")
Settings = TypeVar("Settings")
Plain = Annotated[Settings, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]
"""Settings whose fields are options without a prefix: `--rounds` instead of `--training.rounds`.

A choice between true and false takes its value, as in `--rescale True`, which is how `wandb agent` writes it.
"""

PlainFlags = Annotated[Settings, tyro.conf.arg(name="")]
"""The same for settings whose choices between true and false are flags, as in `--stop-on-divergence`."""

PARSING = (tyro.conf.FlagCreatePairsOff,)
"""How command lines are parsed: a flag such as `--dry-run` has no opposite."""

_DECIDE_NOTHING = ("output", "dry_run", "measure", "share", "job", "iso_compute")  # options; the last is in the methods
_MOST_SEEDS = 1000  # of one range, chosen by us: more is a slip of the keyboard


@dataclasses.dataclass(frozen=True)
class OutputSettings:
    """Where a run's files go.

    Attributes:
      out: Folder of the run; the default is runs/NAME-HASH, with a hash of the settings.
      wandb: Whether to log to Weights & Biases as well.
      wandb_project: Project in Weights & Biases.
      quiet: Print the result alone, no progress.
    """

    out: Path | None = None
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    wandb_project: str = "distreal_jax"
    quiet: bool = False


def run_command(main: Callable[[Options], None], options: type[Options] | Options) -> None:
    """Parses the command line into `options` and runs `main` with it.

    Bad input ends in one line on stderr and exit status 2. Ctrl-C, and the signal by which a cluster stops a job, end in one
    line that says how to go on, and in status 130 and 143. Where another process of the job is lost, a line and status 1 say
    so. Where what reads the output ends before it, as `head` does, only status 141 says so.

    Args:
      main: The experiment.
      options: A dataclass, or an instance of one whose values are the defaults (a config).
    """
    keep_streams_usable()
    try:
        with _interrupted_by_signals(), _while_somebody_reads():
            given = parsed(options)
            prepare_jax()
            quiet = getattr(given, "quiet", False) or getattr(getattr(given, "output", None), "quiet", False)
            with said_on_stderr(quiet=quiet), in_its_job(given):
                check_platform()
                if sys.stderr.isatty():  # elsewhere the first line says where the folder is
                    say("preparing data and network")
                main(given)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        end_in_job(2, all_end=error.in_all)
        sys.exit(2)
    except LostProcessError:
        give_up()
    except KeyboardInterrupt as stopped:
        say_no_more()
        sys.stderr.write(f"\nstopped; to go on from the last checkpoint: {shlex.join(sys.orig_argv)}\n")
        with contextlib.suppress(OSError):
            sys.stderr.flush()
            sys.stdout.flush()
        # Not sys.exit: taking the interpreter down waits for a round that is still being computed, or crashes under it.
        os._exit(128 + (stopped.args[0] if stopped.args else signal.SIGINT))
    except BaseException as error:
        if in_job() and not isinstance(error, SystemExit):
            traceback.print_exc()
        end_in_job(error.code if isinstance(error, SystemExit) else 1)
        raise


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
            sys.exit(128 + 13)  # SIGPIPE, which Windows doesn't have
        raise


def parsed(options: type[Options] | Options) -> Options:
    """The options that the command line gives, checked, with `~` in paths as the home folder.

    Raises:
      InputError: The command line can't be read, or a value is out of its range.
    """
    for before, argument in itertools.pairwise(sys.argv):  # of a shell's variable that is not set; as a path, this folder
        if not argument or re.fullmatch(r"--[^=]+=", argument):
            option = (argument or before).rstrip("=")
            raise InputError(f"{option} has an empty value; give one, or leave the option out")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            if isinstance(options, type):
                given = tyro.cli(options, config=PARSING)
            else:
                given = tyro.cli(type(options), default=options, config=PARSING)
    except SystemExit as left:
        if not left.code:
            raise
        raise InputError(_in_one_line(said.getvalue())) from None
    check_settings(given)
    return _with_user_paths(given)


def _in_one_line(box: str) -> str:
    """What the parser says in a box of several lines: its first part, and the option that it takes another one for."""
    # Below its title come parts with rules between them, which are nothing without the characters of boxes.
    lines = [line.strip("│|╭╮╰╯─ ") for line in box.splitlines()][1:]
    parts = [list(part) for is_rule, part in itertools.groupby(lines, lambda line: set(line) <= {"-"}) if not is_rule]
    said = " ".join(" ".join(parts[0] if parts else ["the command line can't be read"]).split()).rstrip(".")
    meant = next((line.split()[0] for part in parts[1:] for line in part if line.startswith("--")), None)
    said = re.sub(r"^Error parsing (\S+):", r"\1 can't be read:", said)
    said = re.sub(r"invalid literal for int\(\) with base 10: ('.*')", r"\1 is not a whole number", said)
    said = re.sub(r"could not convert string to float: ('.*')", r"\1 is not a number", said)
    short = said if len(said) <= 300 else f"{said[:300]}…"
    what = "options that are there" if meant is None or meant in said else f"options that are there, such as {meant}"
    return f"{short[:1].lower()}{short[1:]}; --help lists the {what}"


def _with_user_paths(options: Options) -> Options:
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        value = getattr(options, field.name)
        if isinstance(value, Path):
            changed[field.name] = user_path(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            changed[field.name] = _with_user_paths(value)
    return dataclasses.replace(options, **changed) if changed else options  # type: ignore[type-var]


def _stop(number: int, _: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(number)


def open_folder(
    output: OutputSettings,
    name: str,
    options: Any,
    *,
    may_change: Collection[str] = (),
    shared: bool = False,
    again: str = "what is finished is read, the rest goes on",
    **decided: Any,
) -> RunFolder:
    """The run's folder: `--out`, or runs/NAME-HASH of all that decides the results.

    Args:
      output: Where it is to be.
      name: Of the experiment.
      options: A dataclass; all of it but where the output goes.
      may_change: Options in which a run may differ from what the folder holds already.
      shared: Other processes have the folder too, as `RunFolder.let_go`.
      again: What becomes of what the folder holds already, in words.
      **decided: What stands for an option whose text alone does not decide, such as a table's contents for its file.
    """
    settings = {key: value for key, value in dataclasses.asdict(options).items() if key not in _DECIDE_NOTHING}
    settings |= decided
    if own_code():  # other code under the same name is another run
        settings["own_code"] = own_code()
    path = output.out or Path("runs") / f"{name}-{settings_hash(settings)}"
    folder = RunFolder.at(path, settings, may_change=may_change if output.out else (), wait=shared)
    say(f"folder: {path}{f', begun before: {again}' if folder.resumed else ''}")
    if shared:
        folder.let_go()
    return folder


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
                f"seed {reprlib.repr(part)} is not a whole number from 0 to {SEEDS - 1}; give seeds such as 0,1,2 or 0-4"
            )
        if int(ends[1]) - int(ends[0]) >= _MOST_SEEDS:
            raise InputError(f"seeds {part!r} are more than {_MOST_SEEDS}; give fewer")
        seeds.extend(range(int(ends[0]), int(ends[1]) + 1))
    if len(set(seeds)) < len(seeds) or not seeds:
        raise InputError(f"seeds {reprlib.repr(text)} are empty or hold one twice; give seeds such as 0,1,2 or 0-4")
    return seeds


def parsed_further_seeds(text: str, others: Sequence[int], what: str) -> list[int]:
    """Seeds beside those that there are; none for an empty text.

    Args:
      text: As for `parsed_seeds`.
      others: Seeds that are in use.
      what: The name of the option, for errors.

    Raises:
      InputError: As `parsed_seeds`, or one of them is in use.
    """
    seeds = parsed_seeds(text) if text.strip() else []
    for seed in seeds:
        if seed in others:
            raise InputError(f"{what}: seed {seed} is in use already; give others")
    return seeds
