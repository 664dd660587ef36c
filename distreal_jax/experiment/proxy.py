"""The search's proxy of progress in a world: what a search measures by, and what the studies of searches look into."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from distreal_jax.data.partition import Partition
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World
from distreal_jax.search.progress import Progress, ProgressSettings
from distreal_jax.table import Configurations

MEASURED_KIND = "distreal_jax measured progress"  # a document of what `measured_often` returns


def proxy_in(
    world: World,
    training: TrainingSettings,
    settings: ProgressSettings,
    *,
    seed: int | None = None,
    partition: Partition | None = None,
    every_knob: bool = False,
) -> Progress:
    """Progress on a world's training data, from its first weights, as its devices train.

    Args:
      world: Network, data, first weights, and the seed of all that is random.
      training: Says how devices train.
      settings: Of the short training.
      seed: As for `Progress`; None: the world's.
      partition: As for `Progress`.
      every_knob: As for `Progress`.

    Raises:
      InputError: As `Progress`.
    """
    return Progress(
        world.network,
        world.params,
        world.others,
        world.train,
        training.local_optimizer(),
        settings,
        seed=world.seed if seed is None else seed,
        rescale=training.rescale,
        partition=partition,
        every_knob=every_knob,
        task=world.task,
    )


def measured_often(progress: Progress, vectors: Sequence[tuple[int, ...]], repeats: int) -> npt.NDArray[np.float64]:
    """Progress of vectors in each repeat, float64 [repeats, vectors].

    Args:
      progress: Measures it. All vectors of a repeat share their random numbers.
      vectors: Filters kept, [vectors][groups].
      repeats: How many.
    """
    configurations = Configurations.of_widths(vectors)
    return np.array([progress(configurations, repeat) for repeat in range(repeats)])
