"""The world that all methods of a seed share: data, their owners, the network's first weights, and the load."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from distreal_jax.availability import Availability, make_availability
from distreal_jax.data.datasets import Dataset, load_dataset
from distreal_jax.data.partition import Partition, make_partition
from distreal_jax.errors import InputError
from distreal_jax.fleet.evaluation import STATISTICS_EXAMPLES, Evaluator
from distreal_jax.networks import make_network
from distreal_jax.step import Images, split_variables
from distreal_jax.tracing import TracedNetwork, trace_network

SEEDS = 2**32  # JAX's keys take no more bits: a seed of 2**32 would be that of 0
PARTITIONS = ("iid", "dirichlet:ALPHA", "natural")


@dataclasses.dataclass(frozen=True)
class WorldSettings:
    """What a world is made of.

    Attributes:
      dataset: digits (needs no network), mnist_writers, or any image classification set of tensorflow-datasets.
      data_dir: Folder with the data; digits needs none.
      model: digits_cnn, small_cnn, leaf_cnn, resnet20 or densenet40.
      partition: How examples are shared out: iid, dirichlet:ALPHA, or natural (by the set's own clients).
      devices: Devices in the population; 0 with natural: all clients of the set.
      availability: Load, such as redrawn:0.1,1,3 (uniform in [0.1, 1], redrawn 3 times a round on average), constant:0.5,
        tiers:1,0.5,0.25, markov:1,0.5,0.1,2, planetlab, phones or trace:FILE,round_seconds=600.
      cost: What devices choose an entry by, and what a round's work is counted in: macs, or seconds:DEVICE where
        experiments/profile_device.py has measured the table on DEVICE.
    """

    dataset: str = "digits"
    data_dir: Path | None = None
    model: str = "digits_cnn"
    partition: str = "dirichlet:0.3"
    devices: int = 100
    availability: str = "redrawn:0.1,1,3"
    cost: str = "macs"


@dataclasses.dataclass(frozen=True)
class World:
    """What a seed and `WorldSettings` decide, before any method does."""

    dataset: Dataset
    partition: Partition
    availability: Availability
    network: TracedNetwork
    params: Any  # the network's first parameters
    others: Any  # its other variables
    train: Images
    evaluator: Evaluator
    seed: int
    cost: str = "macs"  # `DropoutTable.costs`: what work is counted in

    @property
    def devices(self) -> int:
        """Devices in the population."""
        return self.partition.num_clients

    @classmethod
    def make(
        cls,
        settings: WorldSettings,
        seed: int,
        dataset: Dataset | None = None,
        model: nnx.Module | None = None,
        availability: Availability | None = None,
    ) -> "World":
        """Loads, splits and traces.

        Args:
          settings: What to make.
          seed: Of the split, the load and the first weights.
          dataset: The data set if it is loaded already, or one of one's own, in place of the one that the settings name.
          model: A network of one's own, in place of the one that the settings name.
          availability: A load of one's own, in place of the one that the settings name.

        Raises:
          InputError: Any of the settings is no good, in one line.
        """
        if not 0 <= seed < SEEDS:
            raise InputError(f"seed {seed} is outside 0 to {SEEDS - 1}; give one of those")
        dataset = dataset or load_dataset(settings.dataset, settings.data_dir)
        if model is None:
            model = make_network(settings.model, image_shape=dataset.image_shape, num_classes=dataset.num_classes, seed=seed)
        partition = partition_of(settings, dataset, seed)
        if availability is None:
            availability = make_availability(
                settings.availability, seed=seed, num_devices=partition.num_clients, data_dir=settings.data_dir
            )
        network = trace_network(model, jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32))
        params, others = split_variables(model)
        mean, std = jnp.asarray(dataset.mean), jnp.asarray(dataset.std)
        train = Images(jnp.asarray(dataset.train_images), jnp.asarray(dataset.train_labels), mean, std)
        test = Images(jnp.asarray(dataset.test_images), jnp.asarray(dataset.test_labels), mean, std)
        count = len(dataset.train_labels)
        statistics = np.random.default_rng(0).permutation(count)[:STATISTICS_EXAMPLES]
        evaluator = Evaluator(network, others, test, train, statistics, dataset.num_classes)
        return cls(dataset, partition, availability, network, params, others, train, evaluator, seed, settings.cost)


def partition_of(settings: WorldSettings, dataset: Dataset, seed: int) -> Partition:
    """Who holds which training examples; raises `InputError` for a partition that can't be read or can't be made."""
    kind, colon, alpha = settings.partition.partition(":")
    try:
        concentration = float(alpha) if colon else 0.1
    except ValueError:
        concentration = None
    if concentration is None or (colon and kind != "dirichlet"):
        raise InputError(f"partition {settings.partition!r} can't be read; choose from: {', '.join(PARTITIONS)}")
    return make_partition(
        kind,
        dataset.train_labels,
        settings.devices or None,
        seed=seed,
        natural_clients=dataset.train_clients,
        alpha=concentration,
    )
