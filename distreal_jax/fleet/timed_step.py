"""One client's training step at a configuration, compiled as a round compiles it, and timed on one device.

Filters are drawn anew in each step, inside a loop over a client's steps, with the optimiser, the batch size and the form of
convolutions of a federation. On a CPU a program is as wide as that which serves the configuration in a round
(`compact_programs`), if no other entry shared it.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import SingleDeviceSharding

from distreal_jax.data.sampling import batch_indices
from distreal_jax.errors import InputError
from distreal_jax.fleet.client_steps import (
    ClientStep,
    CompactProgram,
    RoundData,
    RoundKeys,
    compact_program,
    compact_programs,
)
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.lanes import compiling_threads
from distreal_jax.fleet.mappings import check_mappings, drop_programs
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.signs import watched
from distreal_jax.step import ConvolutionForm, Examples, Learner
from distreal_jax.table import Configuration, Configurations
from distreal_jax.tracing.filters import next_scores

LocalTraining = Callable[[Learner, Examples, Any, Any], tuple[Learner, jax.Array]]


class TimedStep:
    """A compiled program of a client's steps, and how long one of them takes."""

    def __init__(
        self, program: Callable[..., Any], learner: Learner, arguments: tuple[Any, ...], steps: int, sample_seconds: float
    ) -> None:
        """Runs the program twice, to warm up and to see how often it fits into a sample.

        Args:
          program: (learner, *arguments) -> (learner, losses); it may give the learner's buffers away.
          learner: Where each sample begins.
          arguments: The rest of its arguments.
          steps: That a call trains.
          sample_seconds: About how long a sample lasts; at least one call.
        """
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


class ClientSteps:
    """Counts and times the steps of one client of a federation, at any configuration, on the first device."""

    def __init__(self, federation: Federation, sample_seconds: float) -> None:
        """Puts the first client's data on the device; nothing is compiled.

        Args:
          federation: Its network, data, training, filters and form of convolutions; its table and load do not matter.
          sample_seconds: About how long a timing lasts.
        """
        world, training = federation.world, federation.training
        client = np.zeros(1, dtype=np.uint32)
        batches = batch_indices(world.seed, 0, client, world.partition, steps=training.steps, batch_size=training.batch_size)
        self._federation, self._sample_seconds, self._device = federation, sample_seconds, jax.devices()[0]
        self._arguments = jax.device_put(
            (federation.round.step.start(world.params), world.train, client[0], batches[0]), self._device
        )

    def flops(self, configuration: Configuration) -> float:
        """Floating-point operations of a step by XLA's count, at exactly these widths; see `profile_steps`.

        Raises:
          InputError: JAX is kept from using the CPU.
        """
        program = CompactProgram(configuration.widths, configuration.depth, self._examples(configuration), (0,))
        training = self._local_training(configuration, program, "patches")
        return float(_lowered(training, self._arguments, _cpu()).cost_analysis()["flops"])

    def program(self, configuration: Configuration) -> CompactProgram:
        """What is compiled for a configuration in a round, were it the only entry."""
        count = self._examples(configuration)
        examples = None if count is None else np.array([count])
        (program,) = compact_programs(self._federation.world.network, Configurations.of([configuration]), examples)
        return program

    def timed(self, configurations: Sequence[Configuration]) -> list[TimedStep]:
        """The steps of configurations, compiled side by side."""
        started, *rest = self._arguments
        count, steps = len(configurations), self._federation.training.steps
        drop_programs()
        compiling = compiling_threads().map(self._compiled, configurations)
        compiled = [*watched(compiling, count, "compiled", "training step")]  # before the first of them is timed
        starting = (TimedStep(program, started, tuple(rest), steps, self._sample_seconds) for program in compiled)
        return [*watched(starting, count, "warmed up", "training step")]

    def _compiled(self, configuration: Configuration) -> Callable[..., Any]:
        training = self._local_training(configuration, self.program(configuration), self._federation.convolution)
        check_mappings()
        compiled: Callable[..., Any] = _lowered(training, self._arguments, self._device).compile()
        return compiled

    def _examples(self, configuration: Configuration) -> int | None:
        whole = self._federation.training.batch_size
        count = configuration.examples(whole)
        return None if count == whole else count

    def _local_training(
        self, configuration: Configuration, program: CompactProgram, convolution: ConvolutionForm
    ) -> LocalTraining:
        """A client's steps of a round: (learner, data, client, batches [steps, batch]) to (learner, losses)."""
        federation = self._federation
        step = dataclasses.replace(federation.round.step, convolution=convolution)
        of_client = compact_program(step, federation.method, Configurations.of([configuration]), program)
        scores = next_scores(federation.method.filters, federation.world.network, federation.world.params)

        def train(learner: Learner, data: Examples, client: jax.Array, batches: jax.Array) -> tuple[Learner, jax.Array]:
            keys, entry = RoundKeys.of(federation.world.seed, 0), jnp.zeros((), jnp.int32)
            common = RoundData(learner.params, scores, data, keys, jnp.zeros((), jnp.int32))

            def body(learner: Learner, numbered: tuple[jax.Array, jax.Array]) -> tuple[Learner, jax.Array]:
                number, batch = numbered
                return of_client(common, learner, ClientStep(client, number, batch, entry, None))

            return jax.lax.scan(body, learner, (jnp.arange(len(batches)), batches))

        return train


class RelativeSeconds:
    """Seconds of a training step of configurations, as fractions of the full network's, each program timed once.

    The full network's step is that of a federation, the reference; configurations may be of other training settings (`of`).
    A sample of a configuration is divided by one of the full network in the same turn, so that what slows the whole machine
    down for a while falls out; the median of the ratios counts.

    Attributes:
      device: Name of the device on which they are measured, for a table.
    """

    def __init__(self, federation: Federation, device: str, samples: int = 7, sample_seconds: float = 0.03) -> None:
        """Compiles nothing yet; the defaults are chosen by us: a search measures hundreds of configurations.

        Args:
          federation: The reference, as for `ClientSteps`.
          device: What to call the device.
          samples: Of each configuration.
          sample_seconds: About how long each lasts.
        """
        self.device, self._federation = device, federation
        self._samples, self._sample_seconds = samples, sample_seconds
        self._known = dict[tuple[StepKind, CompactProgram], float]()
        self._steps_of = dict[StepKind, ClientSteps]()
        self._full: TimedStep | None = None
        self._full_samples = list[float]()

    @property
    def full_seconds(self) -> float:
        """Of the full network's step, the median over all samples."""
        return float(np.median(self._full_samples))

    def __call__(self, configurations: Sequence[Configuration]) -> npt.NDArray[np.float64]:
        """Fractions of the full network's seconds, [configurations]."""
        return self.of(configurations, self._federation.training)

    def of(self, configurations: Sequence[Configuration], training: TrainingSettings) -> npt.NDArray[np.float64]:
        """Seconds of a step with other training settings, as fractions of those of the reference's full step.

        Args:
          configurations: What to measure.
          training: Has the size of a mini-batch, and the optimiser.

        Returns:
          [configurations].
        """
        steps, kind = self._steps(training), StepKind.of(training)
        if self._full is None:
            full = Configuration(self._federation.world.network.full_widths)
            (self._full,) = self._steps(self._federation.training).timed([full])
        plain = [each.at_usual_step for each in configurations]
        programs = [(kind, steps.program(each)) for each in plain]
        new = {program: each for program, each in zip(programs, plain, strict=True) if program not in self._known}
        for program, step in zip(new, steps.timed(list(new.values())), strict=True):
            turns = [(step.seconds_of_step(), self._full.seconds_of_step()) for _ in range(self._samples)]
            self._known[program] = float(np.median([own / full for own, full in turns]))
            self._full_samples += [full for _, full in turns]
        return np.array([self._known[program] for program in programs])

    def _steps(self, training: TrainingSettings) -> ClientSteps:
        kind = StepKind.of(training)
        if kind not in self._steps_of:
            federation = dataclasses.replace(self._federation, training=training)
            self._steps_of[kind] = ClientSteps(federation, self._sample_seconds)
        return self._steps_of[kind]


class StepKind(NamedTuple):
    """What of the training settings decides how long a step takes."""

    batch_size: int
    momentum: bool
    weight_decay: bool
    clipping: bool

    @classmethod
    def of(cls, training: TrainingSettings) -> Self:
        """That of training settings."""
        return cls(training.batch_size, training.momentum > 0, training.weight_decay > 0, training.clip_norm > 0)


def _lowered(training: LocalTraining, arguments: tuple[Any, ...], device: jax.Device) -> Any:
    placed = SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed), arguments)
    return jax.jit(training, donate_argnums=0).lower(*shapes)


def _cpu() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise InputError("FLOPs are counted on the CPU, which JAX may not use; add cpu to JAX_PLATFORMS") from error
