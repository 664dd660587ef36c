"""What a training step really costs with each table entry: seconds on the device at hand, and FLOPs by XLA's count.

Measured is the compact step as a round runs it (`ClientSteps`), for one client on one device.
"""

import dataclasses
import math
from typing import Annotated

import numpy as np
import numpy.typing as npt

from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.timed_step import ClientSteps
from distreal_jax.settings import STEPS, Within, check_settings
from distreal_jax.signs import say, watched
from distreal_jax.table import Configuration, DropoutTable

UNCERTAIN = 0.05  # of an entry's relative cost, chosen by us: entries of a table are some 20 % apart


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
        """The table with the columns of this profile; its provenance says how sure the seconds are, those of `device`."""
        counted = table.with_flops(self.flops.tolist())  # first, as the new seconds may leave entries out
        measured = counted.with_seconds(device, self.seconds.tolist(), float(np.median(self.full_samples)))
        sure = {"entries": len(self.seconds), "noisy": len(self.noisy), "uncertainty": float(self.uncertainty.max())}
        return dataclasses.replace(measured, provenance={**table.provenance, f"seconds:{device}": sure})


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
    world, table = federation.world, federation.table
    every = [entry.configuration for entry in table.entries]
    if not table.has_full:
        every.append(Configuration(world.network.full_widths))
    steps = ClientSteps(federation, settings.sample_seconds)
    say(f"compiling {len(every)} training steps, then {settings.repetitions} timings of each, by turns")
    flops = [*watched(map(steps.flops, every), len(every), "counted the operations of", "training step")]
    timers = steps.timed(every)
    samples = np.empty((len(timers), 0))
    for again in range(settings.more + 1):
        turns = ([timer.seconds_of_step() for timer in timers] for _ in range(settings.repetitions))
        taken = np.array([*watched(turns, settings.repetitions, "timed all steps in", "turn")]).T
        samples, count = np.concatenate([samples, taken], axis=1), len(table.entries)
        profile = StepProfile(samples[:count], np.array(flops[:count]), samples[-1], flops[-1])
        if not profile.noisy:
            break
        then = f"measuring {settings.repetitions} times more" if again < settings.more else "too noisy to choose by"
        say(f"costs are uncertain by up to {profile.uncertainty.max():.0%}: {then}")
    return profile
