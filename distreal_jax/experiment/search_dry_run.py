"""What a search would measure, what that costs, and about how long it takes, without searching."""

import dataclasses
import time
from collections.abc import Sequence

import jax
import numpy as np

from distreal_jax.experiment.dry_run import WROTE_NOTHING
from distreal_jax.experiment.estimate import compile_seconds, forward_seconds, size_of_step, step_seconds
from distreal_jax.experiment.proxy import proxy_in
from distreal_jax.fleet.method_table import UNIFORM_RATES
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World
from distreal_jax.record.report import quantity
from distreal_jax.search import SearchSettings, SearchSpace
from distreal_jax.search.first_vectors import first_vectors
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.search.space import Widths
from distreal_jax.search.training_sizes import by_size
from distreal_jax.signs import duration, how_many
from distreal_jax.step.outputs import batch_shapes
from distreal_jax.table import Configuration, Configurations, DropoutTable
from distreal_jax.tracing import TracedNetwork


@dataclasses.dataclass(frozen=True)
class ShortTraining:
    """What one measurement of progress takes.

    Attributes:
      seconds: Of a candidate, with all devices at work; the mean over candidates of many costs.
      compile_seconds: Of a program; programs are compiled one after the other.
      programs: About as many are compiled.
      mini_batches: Of a candidate, from all snapshots.
      macs: Of these, at full shapes.
      input_size: Of an example, such as 8x8.
      origin: Where the figures come from, in words.
    """

    seconds: float
    compile_seconds: float
    programs: int
    mini_batches: int
    macs: float
    input_size: str
    origin: str

    def total(self, measurements: int, programs: int | None = None) -> tuple[float, float]:
        """Seconds of so many measurements, and seconds to compile so many programs (None: all)."""
        return measurements * self.seconds, (self.programs if programs is None else programs) * self.compile_seconds


def short_training(
    world: World,
    training: TrainingSettings,
    settings: ProgressSettings,
    candidates: Sequence[Widths] | None = None,
    *,
    measure: bool = False,
) -> ShortTraining:
    """Estimates what a measurement of progress takes, or measures it.

    Args:
      world: Network and data.
      training: Says how devices train.
      settings: Of the short training.
      candidates: Vectors such as are measured; None: such as a search has.
      measure: Compile the program of the full network and run it once.

    Raises:
      InputError: As `Progress`.
    """
    network = world.network
    progress = proxy_in(world, training, settings if measure else dataclasses.replace(settings, snapshots=(0,)))
    mini_batches = settings.rounds * settings.devices * settings.steps * len(set(settings.snapshots))
    if candidates is None:
        candidates = likely_candidates(SearchSpace(network, SearchSettings().max_rate), SearchSettings())
    sizes = by_size(network, np.array(candidates, dtype=np.int32), progress.sizes)
    at_work = network.training_macs_of_many([size for size, members in sizes.items() for _ in members])
    shares = at_work / network.training_macs()
    if measure:
        full = Configurations.of_widths([network.full_widths] * progress.at_once)
        times = [time.perf_counter()]
        for repeat in range(2):
            progress(full, repeat)
            times.append(time.perf_counter())
        first, second = np.diff(times)
        seconds, compiling = float(second) / progress.at_once * float(np.sqrt(shares).mean()), float(first - second)
        origin = "Measured just now: one short training of the full network"
    else:
        data = world.train if settings.shrink == 1 else world.train.shrunk(settings.shrink)
        batch = batch_shapes(data, settings.batch_size)
        size = size_of_step(progress.step, world.params, network.full_widths, batch, masked=True)
        size = dataclasses.replace(size, macs=size.macs / settings.shrink**2)
        evaluated = settings.held_out * len(set(settings.snapshots))
        alone = mini_batches * step_seconds(size, called=False) + forward_seconds(size, settings.batch_size, evaluated)
        # Between the work that shrinks with the MACs and that which does not.
        seconds = alone / len(jax.devices()) * float(np.sqrt(shares).mean())
        compiling = compile_seconds(size.equations)
        origin = "Estimated from the traced training step and a matrix product that was timed just now"
    macs = network.training_macs() / settings.shrink**2 * settings.batch_size * mini_batches
    return ShortTraining(seconds, max(compiling, 0.0), len(sizes), mini_batches, macs, progress.input_size, origin)


def likely_candidates(space: SearchSpace, settings: SearchSettings) -> list[Widths]:
    """Vectors that stand for those of a search: its first generation, random ones in the place of what it breeds."""
    generator = np.random.default_rng(settings.seed)
    drawn = generator.uniform(0, settings.max_rate, (settings.population, len(space.groups)))
    first = [space.configuration(genes).widths for genes in first_vectors(space, settings)]
    return list(dict.fromkeys([*first, *(space.widths(rates) for rates in drawn)]))


def measurements(network: TracedNetwork, settings: SearchSettings, batch_size: int) -> tuple[int, int]:
    """The largest number of short trainings of a search: while it selects, and when its front is measured again at the end.

    Args:
      network: The traced network.
      settings: Of NSGA-II.
      batch_size: Examples of a mini-batch of a short training.
    """
    space = SearchSpace(network, settings.max_rate, knobs=settings.knobs, batch_size=batch_size)
    given = {space.configuration(genes) for genes in first_vectors(space, settings)}
    # Of several knobs, the first generation has all that the search begins with, which may be more than a population.
    generations = max(settings.population, len(given)) + settings.population * (settings.generations - 1)
    given |= {entry.configuration for entry in DropoutTable.uniform(network, UNIFORM_RATES).entries}
    full = Configuration(network.full_widths)
    best = settings.population * (1 + len(settings.memory_shares))
    return generations * settings.repeats, (best + len({*given, full})) * settings.final_repeats


def measuring_dry_run(
    world: World,
    training: TrainingSettings,
    settings: ProgressSettings,
    count: int,
    candidates: Sequence[Widths] | None = None,
    *,
    measure: bool = False,
) -> tuple[str, float]:
    """A line about a number of short trainings, and the seconds that they take with compilation.

    Args:
      world: The world.
      training: How devices train.
      settings: Of the short training.
      count: How many short trainings.
      candidates: As for `short_training`.
      measure: As for `short_training`.
    """
    short = short_training(world, training, settings, candidates, measure=measure)
    measuring, compiling = short.total(count)
    line = (
        f"{count:,} short trainings of {short.mini_batches} mini-batches of {settings.batch_size}, {short.seconds:.2g} s "
        f"each: about {duration(measuring + compiling)}, of which {duration(compiling)} to compile about "
        f"{how_many(short.programs, 'program')}."
    )
    return line, measuring + compiling


def search_dry_run(
    world: World,
    training: TrainingSettings,
    settings: SearchSettings,
    progress_settings: ProgressSettings,
    *,
    measure: bool = False,
) -> str:
    """The text of a search's `--dry-run`.

    Args:
      world: Network and data.
      training: Says how devices train.
      settings: Of NSGA-II.
      progress_settings: Of the short training.
      measure: As for `short_training`.

    Raises:
      InputError: As `Progress`.
    """
    space = SearchSpace(world.network, settings.max_rate, knobs=settings.knobs, batch_size=progress_settings.batch_size)
    likely = likely_candidates(space, settings)
    short = short_training(world, training, progress_settings, likely, measure=measure)
    selecting, afresh = measurements(world.network, settings, progress_settings.batch_size)
    programs = min(short.programs, selecting)
    measuring, compiling = short.total(selecting + afresh, programs)
    return "".join(f"{whole}\n" for whole in world.network.kept_whole) + (
        f"At most {selecting:,} short trainings in {settings.generations} generations of {settings.population}, then"
        f" {afresh:,} of the best, measured afresh.\n"
        f"A short training: {short.mini_batches} mini-batches of {progress_settings.batch_size}, examples of"
        f" {short.input_size}, {quantity(short.macs)}MACs at full shapes, {short.seconds:.2g} s on average.\n"
        f"About {duration(measuring + compiling)} on {how_many(len(jax.devices()), f'{jax.default_backend()} device')}: "
        f"{duration(measuring)} of short trainings, {duration(compiling)} to compile about {how_many(programs, 'program')} "
        f"(less if earlier searches left them in the cache). {short.origin}.\n{WROTE_NOTHING}\n"
    )
