"""How fast rounds are on this machine: one JSON line for one choice of workload, width, execution and form.

    python experiments/benchmark.py --workload A --keep 0.5
    python experiments/benchmark.py --workload B --plan --execution masked
    python experiments/benchmark.py --workload A --keep 0.5 --compare-pytorch
    python experiments/benchmark.py --suite
    python experiments/benchmark.py --workload A --ahead-of-time v5e:2x2

--compare-full, --compare-masked and --compare-pytorch (a plain loop over clients, one model copied for each, in PyTorch's
own layout and with channels last; torch is no requirement of the project) time something else by turns in the same run:
machines are noisy, so quote ratios from one run. --suite runs all that docs/benchmarks.md shows, piece by piece, and writes
its tables; pieces that are on the disk are not run again. --ahead-of-time compiles a round's training program for a TPU that
is not at hand. In several processes (--num-processes, or srun) the line also has what a round sends.
"""

import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Annotated

import jax
import numpy as np

from distreal_jax import processes
from distreal_jax.commands.ahead_of_time import compile_ahead
from distreal_jax.commands.suite import run_suite
from distreal_jax.commands.traffic import bytes_sent, traffic
from distreal_jax.commands.workloads import WORKLOADS, OurRounds, RoundChoice, by_turns, pytorch_loops
from distreal_jax.errors import InputError
from distreal_jax.experiment import DryRun, JobSettings, Plain, Quiet
from distreal_jax.experiment.dry_run import WROTE_NOTHING
from distreal_jax.experiment.surroundings import peak_memory_mib
from distreal_jax.fleet.work import group_size
from distreal_jax.record import provenance
from distreal_jax.settings import STEPS


@dataclasses.dataclass(frozen=True)
class Options(RoundChoice):
    """Time rounds on this machine."""

    compare_full: bool = False
    """Time the full network as well, by turns with what is asked for."""
    compare_masked: bool = False
    """Time the masked execution of the same work as well, by turns."""
    compare_pytorch: bool = False
    """Time a PyTorch loop as well, full and physically built at the width, round about with ours."""
    suite: bool = False
    """Run the pieces of docs/benchmarks.md instead that are not on the disk, and write its tables."""
    pieces: tuple[str, ...] = ()
    """Of the suite, those to run, such as widths-resnet20 or plan-B; none given: all that fit the platform."""
    turns: Annotated[int, STEPS] = 9
    """Of each piece of the suite."""
    results: Path = Path("runs/benchmark")
    """Folder of the suite's results, a file for each piece."""
    report: Path = Path("docs/benchmarks.md")
    """Gets the suite's tables between its marks."""
    ahead_of_time: str = ""
    """A topology of TPUs, such as v5e:2x2: say what a round's training program needs there, by form, chunk and block."""
    job: Plain[JobSettings] = JobSettings()
    quiet: Quiet = False
    dry_run: DryRun = False


def main(options: Options) -> None:
    """Times rounds and prints the JSON line; or runs the suite, or compiles ahead of time.

    Args:
      options: The command line.

    Raises:
      InputError: Several processes are asked for what one does alone; as `run_suite`, `compile_ahead` and `time_rounds`.
    """
    if processes.count() > 1 and (options.suite or options.ahead_of_time or options.compare_pytorch):
        raise processes.in_all(
            InputError("several processes time rounds alone; leave --suite, --ahead-of-time and --compare-pytorch out")
        )
    if options.suite:
        run_suite(options.pieces, options.turns, options.results, options.report, dry_run=options.dry_run)
    elif options.ahead_of_time:
        compile_ahead(options, options.ahead_of_time, dry_run=options.dry_run)
    else:
        time_rounds(options)


def time_rounds(options: Options) -> None:
    """Times rounds and prints the JSON line.

    Args:
      options: The round, and what it is compared with.

    Raises:
      InputError: `examples` doesn't divide the mini-batch, or PyTorch is asked for and not there.
    """
    if options.examples and WORKLOADS[options.workload].batch_size % options.examples:
        raise InputError(
            f"examples is {options.examples}; give a divisor of the mini-batch's {WORKLOADS[options.workload].batch_size}"
        )
    ours = OurRounds(options)
    if options.dry_run:
        print(planned(options, ours))
        return
    begin = time.perf_counter()
    ours.seconds_of(0)
    compile_seconds = time.perf_counter() - begin
    ours.seconds_of(1)
    others = compared(options)
    for other in others.values():
        other.seconds_of(0)
    timed = {name: rounds.timed for name, rounds in {"ours": ours, **others}.items()}
    if options.compare_pytorch:
        timed |= pytorch_loops(options, {"full": 1.0, "at_width": options.keep})
    before = bytes_sent()
    seconds, beside = by_turns(timed, options.rounds), [name for name in timed if name != "ours"]
    after, clients = bytes_sent(), len(ours.works[0].clients)
    sent = None if before is None or after is None else after - before
    sums = ours.program.programs_for(group_size(clients)).shape_of_sums(ours.server.params)
    grouping, macs_of_step = ours.program.grouping, ours.macs_per_step()
    rates = {name: [1 / value for value in values] for name, values in seconds.items()}
    peak, achieved = processes.count() * matmul_peak(grouping.lanes), 2e-9 * macs_of_step * statistics.median(rates["ours"])
    print(
        json.dumps(
            {
                "workload": options.workload,
                "keep": None if options.plan else options.keep,
                "examples": ours.examples,
                "plan": options.plan,
                "execution": options.execution,
                "convolution": options.convolution,
                "clients": clients,
                "block": grouping.block,
                "chunk": grouping.chunk,
                "lanes": grouping.lanes,
                "processes": processes.count(),
                **traffic(sums, clients, sent, options.rounds * (1 + len(beside))),
                "client_steps_per_second": spread(rates["ours"]),
                "macs_per_step": macs_of_step,
                "share_of_full_macs": macs_of_step / (ours.workload.batch_size * ours.network.training_macs()),
                "gflop_per_second": round(achieved, 2),
                "matmul_peak_gflop_per_second": round(peak, 1),
                "share_of_peak": round(achieved / peak, 3),
                "compile_seconds": round(compile_seconds, 2),
                "compilations": sum(ours.program.compilations().values()),
                "peak_memory_mib": peak_mib(),
                **{f"{name}_steps_per_second": spread(rates[name]) for name in beside},
                **{
                    f"over_{name}": spread([o / t for o, t in zip(rates["ours"], rates[name], strict=True)])
                    for name in beside
                },
                "device": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
                "versions": provenance()["versions"],
            }
        )
    )


def compared(options: Options) -> dict[str, OurRounds]:
    """Our own rounds that are timed beside what is asked for.

    Args:
      options: The round, and what it is compared with.

    Returns:
      `full`, our own full network, and `masked`, the same round at full shapes: those that are asked for.
    """
    choices: dict[str, RoundChoice] = {}
    if options.compare_full:
        choices["full"] = dataclasses.replace(options, plan=False, examples=0, keep=1.0, execution="compact")
    if options.compare_masked:
        choices["masked"] = dataclasses.replace(options, execution="masked")
    return {name: OurRounds(choice) for name, choice in choices.items()}


def planned(options: Options, ours: OurRounds) -> str:
    """The text of `--dry-run`.

    Args:
      options: The round, and what it is compared with.
      ours: The round.
    """
    total = ours.estimated()
    for other in compared(options).values():
        total += other.estimated()
    steps, clients = ours.workload.steps, len(ours.works[0].clients)
    note = " PyTorch's loops come on top of that." if options.compare_pytorch else ""
    return (
        f"{options.rounds} rounds that are timed and 2 before them, each {clients} clients with {steps} mini-batches of "
        f"{ours.examples} at most.\n{total.said()}{note}\n{WROTE_NOTHING}"
    )


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest.

    Args:
      values: At least one, of any unit.

    Returns:
      `median`, `min` and `max`, to three decimals.
    """
    return {name: round(f(values), 3) for name, f in (("median", statistics.median), ("min", min), ("max", max))}


def matmul_peak(lanes: int) -> float:
    """GFLOP/s of a large float32 product on each of the devices that train, at the same time: what the hardware can do.

    Args:
      lanes: Devices of this process that multiply at the same time, each two matrices of 2048 x 2048.
    """
    size, times = 2048, []
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:lanes]), ("devices",))
    matrices = jax.device_put(
        np.ones((lanes, size, size), np.float32), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices"))
    )
    alone = jax.sharding.PartitionSpec("devices")
    product = jax.jit(jax.shard_map(lambda m: (m[0] @ m[0])[None], mesh=mesh, in_specs=alone, out_specs=alone))
    jax.block_until_ready(product(matrices))
    for _ in range(5):
        begin = time.perf_counter()
        jax.block_until_ready(product(matrices))
        times.append(time.perf_counter() - begin)
    return lanes * 2e-9 * size**3 / min(times)


def peak_mib() -> int | None:
    """Peak memory of the accelerator, or of the process on a CPU, in MiB."""
    statistics_of_device = jax.local_devices()[0].memory_stats() or {}
    peak = statistics_of_device.get("peak_bytes_in_use")
    return int(peak / 2**20) if peak else peak_memory_mib()
