"""The benchmark's suite: every figure of the tables in docs/benchmarks.md, in pieces that can be run one by one.

    python experiments/benchmark.py --suite
    python experiments/benchmark.py --suite --pieces widths-resnet20 plan-B

On an accelerator the forms of convolutions are timed as well, and no account is made. A piece is timed by turns: in each
turn everything that is compared runs once, in every other turn in reverse order, and ratios are of two times in the same
turn. A machine that changes its speed from minute to minute moves both alike. A piece whose result is on the disk is not run
again.
"""

import dataclasses
import importlib.metadata
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import jax

from distreal_jax.commands.account import Options as AccountOptions
from distreal_jax.commands.account import account
from distreal_jax.commands.suite_tables import tables
from distreal_jax.commands.workloads import OurRounds, RoundChoice, WorkloadName, by_turns, pytorch_loops
from distreal_jax.errors import InputError
from distreal_jax.experiment.dry_run import WROTE_NOTHING
from distreal_jax.files import made_folder, parts_around, write_atomically
from distreal_jax.fleet.lanes import as_here
from distreal_jax.record import provenance
from distreal_jax.step import ConvolutionForm

WIDTHS = (1.0, 0.5, 0.25)
FORMS: tuple[ConvolutionForm, ...] = ("folded", "patches", "library")
MARKS = ("<!-- suite: begin -->", "<!-- suite: end -->")
_DEEP: tuple[WorkloadName, ...] = ("resnet20", "densenet40")
_CLIENTS = 10  # of a round that is timed


def with_faster_layouts(seconds: Mapping[str, list[float]]) -> tuple[dict[str, list[float]], list[str]]:
    """The times with those of PyTorch's faster layout alone, by the median, under the plain name; and which these are.

    Args:
      seconds: Name -> times, [turns]; those with channels last end in `_channels_last`.
    """
    mark = "_channels_last"
    kept = {name: times for name, times in seconds.items() if not name.endswith(mark)}
    median = {name: statistics.median(times) for name, times in seconds.items()}
    faster = [name for name in kept if median.get(f"{name}{mark}", math.inf) < median[name]]
    return kept | {name: seconds[f"{name}{mark}"] for name in faster}, [f"{name}{mark}" for name in faster]


def warm_up(rounds: Collection[OurRounds]) -> None:
    """Compiles all programs, those of several rounds at the same time, and runs each once.

    Args:
      rounds: That are timed afterwards.
    """
    with ThreadPoolExecutor(max(1, len(rounds))) as threads:
        list(threads.map(as_here(OurRounds.warm_up), rounds))


def widths_piece(workload: WorkloadName, turns: int) -> dict[str, Any]:
    """Our network, all of it, half and a quarter of its filters, and PyTorch's networks of these widths.

    Args:
      workload: What is trained.
      turns: How often each is timed, by turns.

    Returns:
      Seconds of a client-step, [turns], by name; MACs as shares of the full network's, by width.
    """
    ours = {keep: OurRounds(RoundChoice(workload=workload, keep=keep, clients=_CLIENTS, rounds=turns)) for keep in WIDTHS}
    warm_up(ours.values())
    loops = pytorch_loops(RoundChoice(workload=workload, clients=_CLIENTS), {str(keep): keep for keep in WIDTHS})
    timed: dict[str, Callable[[int], float]] = {}
    for keep, each in ours.items():  # those that are compared run one after the other
        timed |= {f"ours_{keep}": each.timed}
        timed |= {name: loop for name, loop in loops.items() if name.startswith(f"pytorch_{keep}")}
    seconds, layouts = with_faster_layouts(by_turns(timed, turns))
    macs = {str(keep): each.macs_per_step() / ours[1.0].macs_per_step() for keep, each in ours.items()}
    return {"seconds": seconds, "macs": macs, "channels_last": layouts, "torch": importlib.metadata.version("torch")}


def plan_piece(workload: WorkloadName, turns: int) -> dict[str, Any]:
    """A DISTREAL plan of 12 entries at half of the MACs, compact and masked, and our own full network.

    Args:
      workload: What is trained.
      turns: How often each is timed, by turns.

    Returns:
      Seconds of a client-step, [turns], and the plan's MACs as a share of the full network's.
    """
    choice = RoundChoice(workload=workload, clients=_CLIENTS, rounds=turns)
    plan = dataclasses.replace(choice, plan=True)
    every = {"plan": plan, "full": choice, "masked": dataclasses.replace(plan, execution="masked")}
    ours = {name: OurRounds(one) for name, one in every.items()}
    warm_up(ours.values())
    seconds = by_turns({name: each.timed for name, each in ours.items()}, turns)
    return {"seconds": seconds, "macs": {"plan": ours["plan"].macs_per_step() / ours["full"].macs_per_step()}}


def forms_piece(workload: WorkloadName, turns: int) -> dict[str, Any]:
    """All filters and half of them in each form of convolutions, client after client and all clients side by side.

    Args:
      workload: What is trained.
      turns: How often each is timed, by turns.

    Returns:
      Seconds of a client-step, [turns], by form, clients at once and filters, such as patches_10_0.5.
    """
    ours = {
        f"{form}_{at_once}_{keep}": OurRounds(
            RoundChoice(workload, keep, convolution=form, clients=_CLIENTS, block=at_once, rounds=turns)
        )
        for form in FORMS
        for at_once in (1, _CLIENTS)
        for keep in WIDTHS[:2]
    }
    warm_up(ours.values())
    return {"seconds": by_turns({name: each.timed for name, each in ours.items()}, turns)}


def compile_piece(workload: WorkloadName, turns: int) -> dict[str, Any]:
    """The first round of a plan of 12 entries in a process that begins with nothing compiled, and in one after it.

    Args:
      workload: What is trained.
      turns: Not used: it is measured once.

    Returns:
      Seconds of both, and the number of programs.
    """
    command = [sys.executable, "-m", "distreal_jax", "benchmark", "--workload", workload, "--plan"]
    command += ["--clients", str(_CLIENTS), "--rounds", "1"]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": folder}
        lines = [
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            for _ in ("first", "from disk")
        ]
    first, again = (json.loads(line.splitlines()[-1]) for line in lines)
    return {"first": first["compile_seconds"], "from_disk": again["compile_seconds"], "programs": first["compilations"]}


def account_piece(workload: WorkloadName, turns: int) -> dict[str, Any]:
    """Where the milliseconds of a step go, at each width.

    Args:
      workload: What is trained.
      turns: Calls that are profiled.
    """
    return {"widths": {str(keep): account(AccountOptions(workload, keep, repeats=turns)) for keep in WIDTHS}}


KINDS: dict[str, tuple[Callable[[WorkloadName, int], dict[str, Any]], tuple[WorkloadName, ...]]] = {
    "widths": (widths_piece, get_args(WorkloadName)),
    "plan": (plan_piece, get_args(WorkloadName)),
    "forms": (forms_piece, get_args(WorkloadName)),
    "compile": (compile_piece, get_args(WorkloadName)),
    "account": (account_piece, _DEEP),
}
PIECES = {f"{kind}-{workload}": (run, workload) for kind, (run, workloads) in KINDS.items() for workload in workloads}


def pieces_of(platform: str) -> list[str]:
    """Those that are run where none is named: on a CPU no forms, some of which are very slow there; elsewhere no account.

    Args:
      platform: JAX's name of it.
    """
    without = "forms" if platform == "cpu" else "account"
    return [name for name in PIECES if not name.startswith(f"{without}-")]


def run_suite(names: Sequence[str], turns: int, results: Path, report: Path, *, dry_run: bool) -> None:
    """Runs pieces and writes the tables of all that are there.

    Args:
      names: Of pieces; none: `pieces_of` this platform.
      turns: Of each.
      results: Folder with a file for each piece; what is there is not run again.
      report: Gets the tables between `MARKS`.
      dry_run: Say which pieces would run, and run none.

    Raises:
      InputError: There is no such piece, no such report, or no mark in it; or the folder has pieces of another accelerator.
    """
    unknown = sorted(set(names) - set(PIECES))
    if unknown:
        raise InputError(f"the suite has no piece {unknown[0]!r}; choose from: {', '.join(PIECES)}")
    parts_around(report, MARKS)
    here = provenance()["accelerators"]
    for name, piece in _on_disk(results).items():  # ratios of two machines would stand in one table
        there = piece.get("provenance", {}).get("accelerators", here)
        if there != here:
            of, now = (", ".join(each) or "a CPU" for each in (there, here))
            raise InputError(
                f"{results / name}.json was measured on {of}, and this is {now}; choose another --results folder"
            )
    missing = [name for name in names or pieces_of(jax.default_backend()) if not (results / f"{name}.json").exists()]
    if dry_run:
        print(f"{len(missing)} pieces to run, some minutes each: {', '.join(missing) or 'none'}.\n{WROTE_NOTHING}")
        return
    made_folder(results)  # before minutes are spent on what it is for
    _write_tables(results, report)
    for name in missing:
        run, workload = PIECES[name]
        found = run(workload, turns) | {"turns": turns, "provenance": provenance()}
        write_atomically(results / f"{name}.json", json.dumps(found, indent=1).encode())
        print(f"{name}: {results / name}.json", flush=True)
        _write_tables(results, report)


def _on_disk(results: Path) -> dict[str, dict[str, Any]]:
    """The pieces whose results are there, by name."""
    there = {name: results / f"{name}.json" for name in PIECES}
    return {name: json.loads(path.read_bytes()) for name, path in there.items() if path.exists()}


def _write_tables(results: Path, report: Path) -> None:
    """Puts the tables of all pieces that are on the disk between the report's marks."""
    every = _on_disk(results)
    before, _, after = parts_around(report, MARKS)
    write_atomically(report, f"{before}\n{tables(every)}\n{after}".encode())
