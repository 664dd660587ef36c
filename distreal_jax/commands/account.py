"""Where the time of a client's step goes: one JSON line for one network and width, on one thread of a CPU.

    python experiments/account.py --workload resnet20 --keep 0.5

The compiled step of a round runs under JAX's profiler, which times every operation where it stands. Operations are told
apart by the names that they carry from the code: convolutions by window, image and direction (with the transpositions and
the padding that they need), sums over positions (of normalisations, forwards and backwards), what else is in the network
(normalisation, activation, residual sums, concatenation, pooling), what is around it (draws, gathering, the optimiser,
write-back), and copies that XLA adds.
"""

import dataclasses
import json
import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax import lax

from distreal_jax.commands.workloads import OurRounds, RoundChoice, WorkloadName
from distreal_jax.errors import InputError
from distreal_jax.experiment import DryRun
from distreal_jax.experiment.dry_run import WROTE_NOTHING
from distreal_jax.experiment.estimate import compile_seconds, size_of_step, step_seconds
from distreal_jax.settings import STEPS, Within
from distreal_jax.signs import duration
from distreal_jax.step.outputs import batch_shapes
from distreal_jax.tracing import draw_filters

_STEPS = 4  # of a call that is profiled
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*?\s([\w\-]+)\(")
_OF_CODE = re.compile(r'op_name="([^"]*)"')
_CONVOLUTION = re.compile(r"convolution:([\dx]+):([\dx]+)")
SUMS, ELEMENTWISE, AROUND, COPIES = "sums", "elementwise", "around the network", "copies"
DIRECTIONS = ("forwards", "to the image", "to the kernel")


@dataclasses.dataclass(frozen=True)
class Options:
    """Account for the time of a step."""

    workload: WorkloadName = "resnet20"
    """What is trained, as in benchmark.py."""
    keep: Annotated[float, Within(0, 1, above=True)] = 1.0
    """Fraction of each group's filters."""
    repeats: Annotated[int, STEPS] = 5
    """Calls that are profiled, of four steps each; the median counts."""
    dry_run: DryRun = False


def part_of(code: str) -> str:
    """What part of a step an operation belongs to, by the name that it carries from the code.

    Args:
      code: The `op_name` of an operation of a compiled program; empty: XLA added it.
    """
    found = _CONVOLUTION.search(code)
    if found:
        window, image = found.groups()
        direction = next((number for number, scope in ((1, "to_image"), (2, "to_kernel")) if scope in code), 0)
        return f"{window} on {image}, {DIRECTIONS[direction]}"
    if not code:
        return COPIES
    if "jvp(" not in code:
        return AROUND
    return SUMS if "reduce_sum" in code else ELEMENTWISE


def parts_of_program(text: str) -> dict[str, str]:
    """The part of every operation of a compiled program that does work itself, by its name.

    Args:
      text: A compiled program's HLO, as `as_text` gives it.

    Returns:
      Name of the operation -> its part, as `part_of` says it.
    """
    parts = {}
    for line in text.splitlines():
        instruction = _INSTRUCTION.match(line)
        if instruction and instruction.group(2) not in ("while", "conditional", "call"):
            code = _OF_CODE.search(line)
            parts[instruction.group(1)] = part_of(code.group(1) if code else "")
    return parts


def profiled(call: Any, parts: dict[str, str]) -> Counter[str]:
    """Milliseconds of each part in one call of a compiled program.

    Args:
      call: Runs the program; takes nothing.
      parts: Of the program's operations, as `parts_of_program` finds them.

    Returns:
      Part -> milliseconds of the whole call, which has several steps.
    """
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level, options.python_tracer_level = 3, 0
    spent: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            jax.block_until_ready(call())
        for file in Path(folder).rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
                for line in plane.lines:
                    for event in line.events:
                        if event.name in parts:
                            spent[parts[event.name]] += 1e-6 * event.duration_ns
    return spent


def account(options: Options) -> dict[str, Any]:
    """Milliseconds of a step, all and by part.

    Args:
      options: The workload, the width and how many calls.

    Returns:
      What the JSON line says: `step_ms` as timed, `profiled_ms` as the sum of the parts, `parts_ms` of each; medians.

    Raises:
      InputError: The platform is no CPU: its profiler says nothing of operations in this form.
    """
    if jax.default_backend() != "cpu":
        raise InputError("an account is of a CPU's step; set JAX_PLATFORMS=cpu")
    ours = OurRounds(RoundChoice(workload=options.workload, keep=options.keep, rounds=1))
    step, network, params = ours.program.step, ours.network, ours.server.params
    widths = tuple(int(width) for width in ours.widths[0])
    batch = ours.images[ours.program.lanes.places[0]].batch(jnp.arange(ours.workload.batch_size))

    def steps(learner: Any) -> Any:
        def one(index: jax.Array, learner: Any) -> Any:
            key = jax.random.fold_in(jax.random.key(0), index)
            return step.compact(learner, params, batch, key, draw_filters("random", key, 0, network, widths))[0]

        return lax.fori_loop(0, _STEPS, one, learner)

    # A program that was kept has the names of the code that it was compiled from, which may be older.
    jax.config.update("jax_compilation_cache_include_metadata_in_key", True)
    learner = step.start(params)
    compiled = jax.jit(steps).lower(learner).compile()
    jax.block_until_ready(compiled(learner))
    times, spent, parts = [], [], parts_of_program(compiled.as_text() or "")
    for _ in range(options.repeats):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(learner))
        times.append(1e3 * (time.perf_counter() - begin) / _STEPS)
        spent.append(profiled(lambda: compiled(learner), parts))
    names = sorted({name for once in spent for name in once})
    return {
        "workload": options.workload,
        "keep": options.keep,
        "step_ms": statistics.median(times),
        "profiled_ms": statistics.median(sum(once.values()) / _STEPS for once in spent),
        "parts_ms": {name: statistics.median(once[name] / _STEPS for once in spent) for name in names},
    }


def planned(options: Options) -> str:
    """The text of `--dry-run`."""
    ours = OurRounds(RoundChoice(workload=options.workload, keep=options.keep, rounds=1))
    widths, data = tuple(int(width) for width in ours.widths[0]), next(iter(ours.images.values()))
    size = size_of_step(ours.program.step, ours.server.params, widths, batch_shapes(data, ours.workload.batch_size))
    compiling, steps = compile_seconds(size.equations), (2 * options.repeats + 1) * _STEPS
    return (
        f"A program of {_STEPS} steps, to compile ({duration(compiling)}) and to run {2 * options.repeats + 1} times, "
        f"half of them profiled: about {duration(compiling + steps * step_seconds(size))}.\n{WROTE_NOTHING}"
    )


def main(options: Options) -> None:
    """Profiles the step and prints the JSON line."""
    print(planned(options) if options.dry_run else json.dumps(account(options)))
