"""How the scripts meet a person: options with help, errors in one line and exit status 2, all cores in use."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import jax
import tyro

from distreal_jax.errors import InputError
from distreal_jax.record.run_folder import RunFolder

Options = TypeVar("Options")
Settings = TypeVar("Settings")
Plain = Annotated[Settings, tyro.conf.arg(name="")]
"""Settings whose fields are options without a prefix: `--rounds` instead of `--training.rounds`."""


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


def run_command(main: Callable[[Options], None], options: type[Options]) -> None:
    """Parses the command line into `options` and runs `main` with it.

    Bad input ends in one line on stderr and exit status 2; Ctrl-C in one line that says how to go on, and 130.

    Args:
      main: The experiment.
      options: A dataclass.
    """
    try:
        use_every_core()
        main(tyro.cli(options, config=(tyro.conf.FlagConversionOff,)))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; start the same command again to go on from the last checkpoint\n")
        sys.exit(130)


def use_every_core() -> None:
    """Makes each CPU core a device of its own, with one thread, where nothing else is asked for.

    Clients are shared out over devices: two clients on one thread each are faster than one on two threads. It has to be
    called before JAX is used for the first time; an accelerator is not affected.
    """
    if "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def open_folder(output: OutputSettings, name: str, options: Any) -> RunFolder:
    """The run's folder: `--out`, or runs/NAME-HASH of all options that decide the results."""
    settings = {key: value for key, value in dataclasses.asdict(options).items() if key != "output"}
    if output.out is not None:
        return RunFolder.at(output.out, settings)
    return RunFolder.open(Path("runs"), name, settings)


def parsed_list(text: str, what: str) -> list[str]:
    """The parts of a comma-separated option.

    Raises:
      InputError: There is none.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"no {what} given; give them separated by commas")
    return parts


def parsed_seeds(text: str) -> list[int]:
    """Seeds from "0,1,2" or a range "0-4".

    Raises:
      InputError: Something is no whole number of at least 0, or comes twice.
    """
    seeds: list[int] = []
    for part in parsed_list(text, "seeds"):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"seed {part!r} is no whole number of at least 0; give seeds such as 0,1,2 or 0-4")
        seeds.extend(range(int(first), int(last if dash else first) + 1))
    if len(set(seeds)) < len(seeds) or not seeds:
        raise InputError(f"seeds {text!r} are empty or hold one twice; give seeds such as 0,1,2 or 0-4")
    return seeds
