"""The commands: `distreal NAME`, `python -m distreal_jax NAME`, and in a checkout `python experiments/SCRIPT.py`.

Each is a module here with its `Options` (a dataclass) and `main(options)`. This file loads none of them before it is run, so
that the list of commands appears at once and Ctrl-C is quiet from the first moment.
"""

import importlib
import os
import sys

from distreal_jax.errors import choose_from
from distreal_jax.loading import end_at_ctrl_c

COMMANDS = {
    "demo": "what does all of it look like in three minutes?",
    "search": "which dropout vectors are worth having for this network and data?",
    "train": "how does one method train?",
    "compare": "which method learns faster under the same load, over seeds, with paired intervals?",
    "tune": "with which settings is each method at its best, at equal numbers of trials?",
    "map": "which method is best at which mean availability and rate of change?",
    "profile": "what do a table's entries cost on this device, in seconds?",
    "benchmark": "how fast are rounds on this machine, in which form, against a PyTorch loop?",
    "results": "what did the finished configs of a checkout find? (writes docs/results.md)",
    "search_study": "does NSGA-II beat vectors that take no search, at equal evaluations?",
    "proxy_study": "does the search's short training predict what a federation learns?",
    "table_shapes": "which shape of table learns best in a federation, and where is a searched one among them?",
    "carry_over": "does a table hold for other data, later training, devices with data of their own?",
    "validation_study": "does a validation split order settings as the test set does? (of finished tunings)",
    "population": "how long do rounds with a million devices take, in how much memory?",
    "account": "where does the time of a training step go?",
}
"""Every command, by the name of its module: the question that it answers."""


def run(command: str) -> None:
    """Runs a command with the options of the command line; ends the process as `run_command` says.

    Args:
      command: One of `COMMANDS`.
    """
    end_at_ctrl_c()
    sys.path.append(os.getcwd())  # where a checkout has its configs, and a person modules of their own
    module = importlib.import_module(f"distreal_jax.commands.{command}")
    from distreal_jax.experiment.command_line import run_command

    run_command(module.main, module.Options)


def main() -> None:
    """`distreal COMMAND [OPTIONS]`."""
    command, *options = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        print(_usage())
    elif command == "--version":
        from distreal_jax import __version__

        print(__version__)
    elif command.replace("-", "_") in COMMANDS:
        sys.argv = [f"distreal {command}", *options]  # what --help calls it
        run(command.replace("-", "_"))
    else:
        sys.stderr.write(f"error: unknown command {command!r}; {choose_from(command, COMMANDS)}\n")
        sys.exit(2)


def _usage() -> str:
    lines = [f"  {name:<16} {question}" for name, question in COMMANDS.items()]
    return "\n".join(
        [
            "usage: distreal COMMAND [OPTIONS]",
            "",
            "Federated learning on devices whose compute is limited, different, and changes while they train.",
            "",
            *lines,
            "",
            "distreal COMMAND --help explains its options.",
        ]
    )
