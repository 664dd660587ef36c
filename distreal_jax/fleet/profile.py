"""What a training step really costs with each table entry: seconds on the device at hand, and FLOPs by XLA's count.

Measured is the compact step as a round runs it (filters drawn anew in each step, the same optimiser, batch size and form of
convolutions, inside a loop over a client's steps), for one client on one device.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import SingleDeviceSharding

from distreal_jax.data.sampling import batch_indices
from distreal_jax.errors import InputError
from distreal_jax.fleet.client_steps import RoundKeys
from distreal_jax.fleet.federation import Federation
from distreal_jax.settings import STEPS, Within, check_settings
from distreal_jax.signs import bar, say
from distreal_jax.step import ConvolutionForm, Examples, Knobs, Learner
from distreal_jax.table import DropoutTable
from distreal_jax.tracing import draw_filters
from distreal_jax.tracing.filters import next_scores

UNCERTAIN = 0.05  # of an entry's relative cost, chosen by us: entries of a table are some 20 % apart
LocalTraining = Callable[[Learner, Examples, Any, Any], tuple[Learner, jax.Array]]


@dataclasses.dataclass(frozen=True)
class ProfileSettings:
    """How long is measured. The defaults are chosen by us.

    Attributes:
      repetitions: Samples of each entry, which take turns.
      sample_seconds: About how long a sample lasts, at least the steps of one client's round; some hundred times what it
        takes to start a program.
      more: How often as many repetitions are added where entries' costs are still too uncertain to choose by.
    """

    repetitions: Annotated[int, STEPS] = 20
    sample_seconds: Annotated[float, Within(1e-9, 1e4)] = 0.1
    more: Annotated[int, Within(0, 100)] = 3

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class StepProfile:
    """What a training step costs with each entry of a table.

    Attributes:
      samples: Seconds of a step, float64 [entries, repetitions].
      flops: Floating-point operations of a step, float64 [entries].
      full_samples: Of the full network, [repetitions].
      full_flops: Of the full network.
    """

    samples: npt.NDArray[np.float64]
    flops: npt.NDArray[np.float64]
    full_samples: npt.NDArray[np.float64]
    full_flops: float

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """Median seconds of a step, [entries]."""
        return np.median(self.samples, axis=1)

    @property
    def quartiles(self) -> npt.NDArray[np.float64]:
        """The quarter of the samples below and the quarter above lie outside these, [entries, 2]."""
        return np.quantile(self.samples, (0.25, 0.75), axis=1).T

    @property
    def uncertainty(self) -> npt.NDArray[np.float64]:
        """How far an entry's cost relative to the full network may be off, as a fraction of it, [entries].

        The half-width of the notch about a median (McGill et al., The American Statistician 1978), of ratios of samples
        that were taken in one turn: what slows the whole machine down for a while falls out.
        """
        low, middle, high = np.quantile(self.samples / self.full_samples, (0.25, 0.5, 0.75), axis=1)
        return 1.57 * (high - low) / (middle * math.sqrt(self.full_samples.size))

    @property
    def noisy(self) -> list[int]:
        """The entries whose cost is too uncertain to choose by."""
        return np.flatnonzero(self.uncertainty > UNCERTAIN).tolist()

    def added_to(self, table: DropoutTable, device: str) -> DropoutTable:
        """The table with the columns of this profile; seconds are those of `device`."""
        return table.with_seconds(device, self.seconds.tolist(), float(np.median(self.full_samples))).with_flops(
            self.flops.tolist()
        )


def profile_steps(federation: Federation, settings: ProfileSettings) -> StepProfile:
    """Measures the training step of each entry of a federation's table, and of the full network.

    A sample trains one client for as many rounds' mini-batches as fill its time, and waits for the device once, at its end.
    The entries take turns, so that whatever else the machine does falls on all of them alike.

    FLOPs are what XLA's cost analysis says of the step with its convolutions as patches times matrix, before it is
    compiled. It counts the body of a loop once, which is one step. It does not count exponentials and logarithms, nor the
    moving of data (gathering a sub-network, writing it back). The program that is timed says something else: XLA leaves
    positions in the padding out, a folded convolution multiplies by zeros, and a GPU's program hands products to cuBLAS and
    cuDNN in calls whose cost XLA does not know (https://github.com/jax-ml/jax/issues/16008).

    Args:
      federation: Its network, data, table, training and form of convolutions are measured; its load does not matter.
      settings: How long is measured.

    Raises:
      InputError: JAX is kept from using the CPU.
    """
    world, table, device = federation.world, federation.table, jax.devices()[0]
    steps, batch_size, client = federation.training.steps, federation.training.batch_size, np.zeros(1, dtype=np.uint32)
    counts = [batch_size] * len(table.entries) if federation.examples is None else federation.examples.tolist()
    every = [(entry.widths, entry.depth, count) for entry, count in zip(table.entries, counts, strict=True)]
    if not table.has_full:
        every.append((world.network.full_widths, 0, batch_size))
    batches = batch_indices(world.seed, 0, client, world.partition, steps=steps, batch_size=batch_size)
    start = jax.device_put(federation.round.step.start(world.params), device)
    arguments = jax.device_put((world.train, client[0], batches[0]), device)
    timers, flops = [], []
    say(f"compiling {len(every)} training steps, then {settings.repetitions} timings of each, by turns")
    for widths, depth, examples in bar(iterable=every, desc="compile", unit="entry", leave=False):
        counted = _lowered(_local_training(federation, widths, depth, examples, "patches"), (start, *arguments), _cpu())
        flops.append(float(counted.cost_analysis()["flops"]))
        timed = _local_training(federation, widths, depth, examples, federation.convolution)
        program = _lowered(timed, (start, *arguments), device).compile()
        timers.append(_Timer(program, start, arguments, steps, settings.sample_seconds))
    samples = np.empty((len(timers), 0))
    for again in range(settings.more + 1):
        turns = bar(iterable=range(settings.repetitions), desc="measure", unit="repetition", leave=False)
        taken = np.array([[timer.seconds_of_step() for timer in timers] for _ in turns]).T
        samples, count = np.concatenate([samples, taken], axis=1), len(table.entries)
        profile = StepProfile(samples[:count], np.array(flops[:count]), samples[-1], flops[-1])
        if not profile.noisy:
            break
        if again < settings.more:
            say(f"costs are uncertain by up to {profile.uncertainty.max():.0%}: measuring {settings.repetitions} times more")
    return profile


class _Timer:
    """Times one compiled program."""

    def __init__(
        self, program: Callable[..., Any], learner: Learner, arguments: tuple[Any, ...], steps: int, sample_seconds: float
    ) -> None:
        self._program, self._learner, self._arguments = program, learner, arguments
        self._steps, self._calls = steps, 1
        self.seconds_of_step()  # a first run warms up
        self._calls = math.ceil(sample_seconds / (self.seconds_of_step() * steps))

    def seconds_of_step(self) -> float:
        """One sample; the device is waited for once, at the end."""
        # A program gives the learner's buffers away, as in a round; what is trained goes back to the start for each sample.
        learner = jax.block_until_ready(jax.tree.map(jnp.array, self._learner))
        begun = time.perf_counter()
        for _ in range(self._calls):
            learner, _ = self._program(learner, *self._arguments)
        jax.block_until_ready(learner)
        return (time.perf_counter() - begun) / (self._calls * self._steps)


def _local_training(
    federation: Federation, widths: Sequence[int], depth: int, examples: int, convolution: ConvolutionForm
) -> LocalTraining:
    """A client's steps of a round at one entry: (learner, data, client, batches [steps, batch]) to (learner, losses)."""
    step = dataclasses.replace(federation.round.step, convolution=convolution)
    network, method = federation.world.network, federation.method
    scores = next_scores(method.filters, network, federation.world.params)

    def train(learner: Learner, data: Examples, client: jax.Array, batches: jax.Array) -> tuple[Learner, jax.Array]:
        keys = RoundKeys.of(federation.world.seed, 0)

        def body(learner: Learner, numbered: tuple[jax.Array, jax.Array]) -> tuple[Learner, jax.Array]:
            number, index = numbered
            key = keys.filter_key(method, client, number)
            kept = draw_filters(method.filters, key, 0, network, widths, scores)
            batch, layer_key = data.batch(index[:examples]), keys.layer_key(client, number)
            return step.compact(learner, learner.params, batch, layer_key, kept, Knobs(depth))

        return jax.lax.scan(body, learner, (jnp.arange(len(batches)), batches))

    return train


def _lowered(training: LocalTraining, arguments: tuple[Any, ...], device: jax.Device) -> Any:
    placed = SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed), arguments)
    return jax.jit(training, donate_argnums=0).lower(*shapes)


def _cpu() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise InputError("FLOPs are counted on the CPU, which JAX may not use; add cpu to JAX_PLATFORMS") from error
