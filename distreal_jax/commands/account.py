"""Where the time of a client's step goes: one JSON line for one network and width, on one core.

    python experiments/account.py --workload resnet20 --keep 0.5

Each part is compiled and timed by itself, in a loop as it stands in a round: every convolution in its three directions
(forwards, to the image, to the kernel), the step of a network built at that width, and the step of a sub-network of the full
one. The difference of the first two is normalisation, activation and sums; that of the last two is draws, gathering and
write-back.
"""

import dataclasses
import functools
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from distreal_jax.commands.benchmark import Options as RoundOptions
from distreal_jax.commands.benchmark import OurRounds
from distreal_jax.experiment import DryRun
from distreal_jax.experiment.dry_run import WROTE_NOTHING
from distreal_jax.experiment.estimate import compile_seconds, size_of_step, step_seconds
from distreal_jax.settings import STEPS, Within
from distreal_jax.signs import duration
from distreal_jax.step import Batch, Learner, LocalStep, forward
from distreal_jax.step.forms import in_form
from distreal_jax.tracing import draw_filters

_CALLS, _STEPS = 8, 6  # of a convolution, and of a step, in a loop that is timed as a whole; chosen by us


@dataclasses.dataclass(frozen=True)
class Options:
    """Account for the time of a step."""

    workload: Literal["A", "B", "resnet20", "densenet40"] = "resnet20"
    """What is trained, as in benchmark.py."""
    keep: Annotated[float, Within(0, 1, above=True)] = 1.0
    """Fraction of each group's filters."""
    repeats: Annotated[int, STEPS] = 5
    """Timings of each part; the median counts."""
    dry_run: DryRun = False


def convolutions_of(jaxpr: Any) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]]:
    """The convolutions of a jaxpr, those of inner calls as well."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            image, kernel = (atom.aval.shape for atom in equation.invars)
            yield image, kernel, equation.params
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is not None:
                yield from convolutions_of(inner)


def milliseconds(function: Callable[..., Any], arguments: tuple[Any, ...], repeats: int, steps: int = _CALLS) -> float:
    """Of one call inside a loop whose calls follow on each other."""

    def run(arguments: tuple[Any, ...]) -> Any:
        def body(_: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            results = jax.tree.leaves(function(*carry))
            nothing = 0.0 * jnp.stack([jnp.ravel(leaf)[0].astype(jnp.float32) for leaf in results]).sum()
            return (carry[0] + nothing.astype(carry[0].dtype), *carry[1:])

        return lax.fori_loop(0, steps, body, arguments)

    return timed(jax.jit(run), (arguments,), repeats) / steps


def timed(compiled: Callable[..., Any], arguments: tuple[Any, ...], repeats: int) -> float:
    """Median milliseconds of a call that is compiled already."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[1:])


def convolution_times(step: Any, params: Any, images: jax.Array, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of every different convolution of a network, in each direction, and how often it stands there."""
    run = functools.partial(forward, step.network, train=True, convolution="library", key=jax.random.key(0))
    jaxpr = jax.make_jaxpr(run)(params, step.others, images).jaxpr
    found = list(convolutions_of(jaxpr))
    counts = Counter((image, kernel, str(parameters)) for image, kernel, parameters in found)
    parameters_of = {(image, kernel, str(parameters)): parameters for image, kernel, parameters in found}
    rows: list[dict[str, Any]] = []
    for key, count in counts.items():
        image, kernel, _ = key
        convolve = in_form(step.convolution, functools.partial(lax.conv_general_dilated_p.bind, **parameters_of[key]))
        x, k = jnp.ones(image), jnp.ones(kernel)
        cotangent = jnp.ones(jax.eval_shape(convolve, x, k).shape)
        to_image = lambda g, x, k, f=convolve: jax.vjp(lambda x: f(x, k), x)[1](g)  # noqa: E731
        to_kernel = lambda g, x, k, f=convolve: jax.vjp(lambda k: f(x, k), k)[1](g)  # noqa: E731
        first = not rows  # nothing needs the gradient to the images themselves
        rows.append(
            {
                "image": image,
                "kernel": kernel,
                "count": count,
                "forward_ms": milliseconds(convolve, (x, k), repeats),
                "to_image_ms": 0.0 if first else milliseconds(to_image, (cotangent, x, k), repeats),
                "to_kernel_ms": milliseconds(to_kernel, (cotangent, x, k), repeats),
            }
        )
    return rows


def planned(options: Options, small: LocalStep, little: Learner, batch: Batch) -> str:
    """The text of `--dry-run`: every part is compiled on its own, and takes at most what a whole step takes."""
    run = functools.partial(forward, small.network, train=True, convolution="library", key=jax.random.key(0))
    jaxpr = jax.make_jaxpr(run)(little.params, small.others, batch.inputs).jaxpr
    different = {(image, kernel, str(parameters)) for image, kernel, parameters in convolutions_of(jaxpr)}
    size = size_of_step(small, little.params, small.network.full_widths, batch)
    parts, of_steps = 3 * len(different) - 1, 2
    compiling = parts * compile_seconds(0) + of_steps * compile_seconds(size.equations)
    timing = (options.repeats + 1) * step_seconds(size) * (_CALLS + of_steps * _STEPS)
    return (
        f"{parts} convolutions in their directions and {of_steps} whole steps, to compile and to time {options.repeats} "
        f"times each: about {duration(compiling + timing)}, of which {duration(compiling)} to compile.\n{WROTE_NOTHING}"
    )


def main(options: Options) -> None:
    """Times the parts and prints the JSON line."""
    ours = OurRounds(
        RoundOptions(workload=options.workload, keep=options.keep, rounds=options.repeats), options.keep, "compact"
    )
    step, network = ours.program.step, ours.network
    widths = tuple(int(width) for width in ours.widths[0])
    params = ours.server.params
    kept = [jnp.arange(width) for width in widths]
    small = dataclasses.replace(step, network=network.narrowed(widths), others=network.take(step.others, kept))
    learner, little = step.start(params), small.start(network.take(params, kept))
    batch = ours.images[ours.program.lanes.places[0]].batch(jnp.arange(ours.workload.batch_size))
    if options.dry_run:
        print(planned(options, small, little, batch))
        return
    key = jax.random.key(0)
    repeats = options.repeats

    rows = convolution_times(small, little.params, batch.inputs, repeats)
    convolutions = sum(row["count"] * (row["forward_ms"] + row["to_image_ms"] + row["to_kernel_ms"]) for row in rows)

    def many(start: Any, one: Callable[[Any, jax.Array], Any]) -> float:
        run = jax.jit(
            lambda learner: lax.fori_loop(0, _STEPS, lambda i, learner: one(learner, jax.random.fold_in(key, i)), learner)
        )
        return timed(run, (start,), repeats) / _STEPS

    built = many(little, lambda learner, key: small.ordinary(learner, little.params, batch, key)[0])
    compact = many(
        learner,
        lambda learner, key: step.compact(learner, params, batch, key, draw_filters("random", key, 0, network, widths))[0],
    )
    print(
        json.dumps(
            {
                "workload": options.workload,
                "keep": options.keep,
                "convolutions_ms": convolutions,
                "forward_ms": sum(row["count"] * row["forward_ms"] for row in rows),
                "to_image_ms": sum(row["count"] * row["to_image_ms"] for row in rows),
                "to_kernel_ms": sum(row["count"] * row["to_kernel_ms"] for row in rows),
                "rest_of_step_ms": built - convolutions,
                "built_at_width_ms": built,
                "draws_gathering_write_back_ms": compact - built,
                "compact_ms": compact,
                "by_layer": rows,
            }
        )
    )
