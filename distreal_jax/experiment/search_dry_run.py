"""What a search would measure, what that costs, and about how long it takes, without searching."""

import time

import jax
import numpy as np

from distreal_jax.experiment.proxy import proxy_in
from distreal_jax.fleet.federation import UNIFORM_RATES, TrainingSettings
from distreal_jax.fleet.world import World
from distreal_jax.record.report import quantity
from distreal_jax.search import SearchSettings, SearchSpace
from distreal_jax.search.nsga2 import first_vectors
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.signs import duration
from distreal_jax.table import DropoutTable
from distreal_jax.tracing import TracedNetwork


def measurements(network: TracedNetwork, settings: SearchSettings) -> tuple[int, int]:
    """The most short trainings of a search: while it selects, and when front and uniform vectors are measured afresh."""
    selecting = settings.population * settings.generations * settings.repeats
    space = SearchSpace(network, settings.max_rate)
    given = {space.widths(rates) for rates in first_vectors(space, settings)}
    given |= {entry.widths for entry in DropoutTable.uniform(network, UNIFORM_RATES).entries}
    return selecting, (settings.population + len({*given, network.full_widths})) * settings.final_repeats


def search_dry_run(
    world: World, training: TrainingSettings, settings: SearchSettings, progress_settings: ProgressSettings
) -> str:
    """In words; one short training is timed for it on every device at once.

    Args:
      world: Network and data.
      training: Says how devices train.
      settings: Of NSGA-II.
      progress_settings: Of the short training.

    Raises:
      InputError: As `Progress`.
    """
    progress = proxy_in(world, training, progress_settings)
    vectors = np.array([world.network.full_widths] * progress.at_once, dtype=np.int32)
    begin = time.perf_counter()
    progress(vectors, 0)
    compiled = time.perf_counter()
    progress(vectors, 1)
    seconds = (time.perf_counter() - compiled) / progress.at_once
    selecting, afresh = measurements(world.network, settings)
    mini_batches = progress_settings.rounds * progress_settings.devices * progress_settings.steps
    mini_batches *= len(set(progress_settings.snapshots))
    macs = 3.0 * world.network.macs() / progress_settings.shrink**2 * progress_settings.batch_size * mini_batches
    programs = min(progress.sizes**2, selecting)
    compiling = programs * (compiled - begin)
    took = compiling + (selecting + afresh) * seconds
    return "".join(f"{whole}\n" for whole in world.network.kept_whole) + (
        f"At most {selecting:,} short trainings in {settings.generations} generations of {settings.population}, then"
        f" {afresh:,} of the best, measured afresh.\n"
        f"A short training: {mini_batches} mini-batches of {progress_settings.batch_size} at full shapes, examples of"
        f" {progress.input_size}, {quantity(macs)}MACs, {seconds:.2g} s.\n"
        f"About {duration(took)} on {len(jax.devices())} {jax.default_backend()} devices, estimated from one short training"
        f" of the full network, measured just now; narrow vectors may take less. Of that {duration(compiling)} to compile"
        f" at most {programs} programs, which are kept.\nNothing was written.\n"
    )
