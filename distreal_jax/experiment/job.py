"""How a command joins the other processes of its job: by three options, or by what SLURM, Open MPI or Cloud TPU say.

JAX finds and connects them (`jax.distributed`). Process 0 is the one that a person hears; the others speak only to end.
"""

import contextlib
import dataclasses
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import jax

from distreal_jax import processes
from distreal_jax.errors import InputError
from distreal_jax.experiment.last_word import have_the_last_word, quiet_below_python
from distreal_jax.experiment.surroundings import check_platform, keep_streams_usable, wait_for_others
from distreal_jax.record.json_values import json_value
from distreal_jax.record.provenance import provenance
from distreal_jax.settings import Within, check_settings
from distreal_jax.signs import say

MEET_SECONDS = 300  # for all processes to be there: JAX's own default
HEARTBEAT_SECONDS = 40  # chosen by us: a process that answers no more, and that nobody waits for, is given up after so long

_COUNTS = (("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"))
_NEEDED_BY_JAX = {
    "SLURM_STEP_NUM_TASKS": ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_LOCALID"),
    "OMPI_COMM_WORLD_SIZE": ("OMPI_MCA_orte_hnp_uri",),
}


@dataclasses.dataclass(frozen=True)
class JobSettings:
    """The processes that a run is shared out over.

    Attributes:
      coordinator_address: Where the processes meet: HOST:PORT of process 0, the same for all; `auto`: where JAX finds it, as
        on Cloud TPU. Left out, the tasks of a SLURM step, of mpirun and of a GKE TPU job find each other by themselves.
      num_processes: Processes of the job; 1: this one alone, whatever started it.
      process_id: Which of them this is, from 0.
    """

    coordinator_address: str | None = None
    num_processes: Annotated[int, Within(1, 10**5)] | None = None
    process_id: Annotated[int, Within(0, 10**5)] | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        number, index, address = self.num_processes, self.process_id, self.coordinator_address
        if number is not None and index is not None and index >= number:
            raise InputError(f"process-id is {index} of {number} processes; they are numbered from 0 to {number - 1}")
        if address is not None and address != "auto" and not _is_address(address):
            raise InputError(f"coordinator-address is {address!r}; give HOST:PORT, such as node001:8476, or auto")


@contextlib.contextmanager
def in_its_job(options: Any) -> Iterator[None]:
    """Inside, this process and the others of its job are one run, and process 0 speaks for it.

    JAX must not have been used before. A process is alone whose options have no `job` (`JobSettings`), or ask for a dry run;
    and one that shares its runs out with others (`share`), unless options say otherwise.

    Raises:
      InputError: The options don't fit together, process 0 can't listen, or the processes don't meet or differ.
    """
    settings: JobSettings | None = getattr(options, "job", None)
    if settings is None or options.dry_run:
        yield
        return
    place = place_of(settings, os.environ, alone=getattr(options, "share", False))
    if place is None:
        yield
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    wait_for_others()
    if place.get("process_id", 0) == 0:
        say("waiting for the other processes of the job")
    have_the_last_word(
        "error: another process of the job has ended, or does not answer; to go on from the last checkpoint, start all of"
        f" them again: {shlex.join(sys.orig_argv)}"
    )
    keep_streams_usable()
    _meet(place)
    check_platform()
    with quiet_below_python():  # Gloo says on stdout that it is connected
        decides = {name: value for name, value in dataclasses.asdict(options).items() if name not in ("job", "output")}
        versions = {"versions": provenance()["versions"], "platform": jax.default_backend()}
        processes.agreed(
            "the processes of the job", {"command": type(options).__module__, **json_value(decides), **versions}
        )
        kinds = dict.fromkeys(each.decode() for each in processes.exchanged(_processors().encode()))
    if processes.is_first():
        say(f"{processes.count()} processes with {jax.device_count()} devices share out what is trained")
        if len(kinds) > 1:
            say(f"they run on different processors ({'; '.join(kinds)}): last digits may depend on who trains what")
        yield
    else:
        with _silence():
            yield
    _leave()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Inside, nothing is printed."""
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def in_job() -> bool:
    """Whether this process has others, or waits for them."""
    return jax.distributed.is_initialized()


def end_in_job(status: Any, *, all_end: bool = False) -> None:
    """Ends this process where it has others, in whose place the interpreter would wait for them as it is taken down.

    Args:
      status: Of the process.
      all_end: The others end as well, by themselves.
    """
    if not in_job():
        return
    if all_end:
        _leave()
        return
    with contextlib.suppress(OSError):
        sys.stderr.flush()
        sys.stdout.flush()
    time.sleep(1.0)  # chosen by us: those that have come to the same error may say so too
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def _leave() -> None:
    """Waits until all processes are at their end: who leaves earlier would be taken for dead."""
    processes.told(lambda: None)
    jax.distributed.shutdown()


def place_of(settings: JobSettings, environment: Mapping[str, str], *, alone: bool) -> dict[str, Any] | None:
    """The place of this process in its job, as arguments of `jax.distributed.initialize`; None: it is alone.

    Args:
      settings: Options of the command line.
      environment: Environment variables, in which a launcher says where a process belongs.
      alone: Whether the command runs in one process only, unless options say more.

    Raises:
      InputError: Options are missing or contradict each other, or the launcher's variables are incomplete.
    """
    launcher, devices = _launched_by(environment), _devices_of_task(environment)
    place: dict[str, Any] = dataclasses.asdict(settings)
    given = {name: value for name, value in place.items() if value is not None}
    if not given:
        if alone or launcher is None:
            return None
        missing = [name for name in _NEEDED_BY_JAX.get(launcher, ()) if name not in environment]
        if missing:
            raise InputError(
                f"{launcher} says that there are several processes, but not where they meet ({missing[0]} is not set); give "
                "--coordinator-address HOST:PORT, or --num-processes 1 for processes that have nothing to do with each other"
            )
        return devices
    if settings.num_processes == 1 and settings.coordinator_address is None:
        return None
    if settings.coordinator_address == "auto":
        return {name: value for name, value in given.items() if value != "auto"} | devices
    for size, rank in _COUNTS:
        if launcher == size:
            given = {"num_processes": int(environment[size]), "process_id": int(environment[rank])} | given
    missing = [name for name in place if name not in given]
    if missing:
        there, needed = (" and ".join(f"--{name.replace('_', '-')}" for name in names) for names in (given, missing))
        raise InputError(f"{there} alone does not say where this process belongs; give {needed} as well")
    return given | (devices or {"cluster_detection_method": None if launcher else "deactivate"})


def _launched_by(environment: Mapping[str, str]) -> str | None:
    """The variable by which a launcher says that it has started several processes of one job; None: none does."""
    for size, rank in _COUNTS:
        if environment.get(size, "").isdecimal() and int(environment[size]) > 1 and environment.get(rank, "").isdecimal():
            return size
    for hosts in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
        if "," in environment.get(hosts, "") and environment.get("TPU_WORKER_ID", "").isdecimal():
            return hosts
    return None


def _devices_of_task(environment: Mapping[str, str]) -> dict[str, Any]:
    """The accelerators of a SLURM task that sees no others; otherwise JAX gives each task of a node one of the node's."""
    bound = environment.get("SLURM_GPUS_PER_TASK", "").rpartition(":")[2]
    return {"local_device_ids": list(range(int(bound)))} if bound.isdecimal() else {}


def _meet(place: Mapping[str, Any]) -> None:
    """`jax.distributed.initialize`, which Ctrl-C ends, and which says in a line what went wrong."""
    failed: list[BaseException] = []

    def meet() -> None:
        try:
            # JAX would end the process itself after the timeout.
            times: dict[str, Any] = {
                "initialization_timeout": MEET_SECONDS + 60,
                "heartbeat_timeout_seconds": HEARTBEAT_SECONDS,
            }
            jax.distributed.initialize(**place, **times)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=meet, name="meet", daemon=True)
    thread.start()
    thread.join(MEET_SECONDS)
    where = f" at {place['coordinator_address']}" if "coordinator_address" in place else ""
    if thread.is_alive():
        raise InputError(
            f"the processes of the job did not all meet{where} within {MEET_SECONDS} s; see whether all were started, each"
            " with a number of its own, and whether they reach process 0 there"
        )
    if failed:
        reason = " ".join(str(failed[0]).split())
        if "RPC server" in reason:
            raise InputError(f"process 0 can't listen{where}; give another port, the same in all processes")
        raise InputError(
            f"the processes of the job can't meet{where} ({reason[:200]}); give --coordinator-address, --num-processes and "
            "--process-id, or --num-processes 1 for one alone"
        )


def _processors() -> str:
    own = provenance()
    return ", ".join(own["accelerators"]) or own["cpu"]


def _is_address(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    return bool(host and colon) and port.isdecimal() and 0 < int(port) < 2**16
