"""The world that all methods of a seed share: data, their owners, the network's first weights, and the load."""

import dataclasses
import html
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from distreal_jax.availability import Availability, make_availability
from distreal_jax.availability.segments import checked_load
from distreal_jax.availability.specification import MOST_DEVICES
from distreal_jax.data.datasets import Dataset, load_dataset
from distreal_jax.data.partition import Partition, make_partition
from distreal_jax.errors import InputError
from distreal_jax.fleet.evaluation import STATISTICS_EXAMPLES, Evaluator
from distreal_jax.networks import make_network
from distreal_jax.own import called, is_own, own
from distreal_jax.settings import SEEDS, Within, check_settings
from distreal_jax.signs import scored_on
from distreal_jax.step import Examples, Task, split_variables
from distreal_jax.step.outputs import batch_shapes, check_outputs, check_tokens
from distreal_jax.table.order import MACS
from distreal_jax.tracing import TracedNetwork, trace_network

PARTITIONS = ("iid", "dirichlet:ALPHA", "natural")


@dataclasses.dataclass(frozen=True)
class WorldSettings:
    """What a world is made of.

    Attributes:
      dataset: digits (needs no network), mnist_writers, any image classification set of tensorflow-datasets, or your own as
        MODULE:FUNCTION, which returns a Dataset.
      data_dir: Folder that holds the data sets; digits needs none.
      model: digits_cnn, small_cnn, leaf_cnn, resnet20, densenet40, or your own as MODULE:CLASS.
      partition: How training examples are distributed over devices: iid, dirichlet:ALPHA (label skew), or natural (by the
        set's own clients).
      devices: Number of devices; 0 with natural: one for each client of the set.
      availability: How much compute devices have over time, as a fraction of full speed: redrawn:0.1,1,3 (uniform
        from 0.1 to 1, redrawn 3 times a round on average), constant:0.5,
        tiers:1,0.5,0.25, markov:1,0.5,0.1,2, planetlab, phones, trace:FILE,round_seconds=600, or your own as
        MODULE:FUNCTION.
      cost: The unit in which a device compares entries with its availability: macs, or seconds:DEVICE, which
        `distreal profile` measures for a table.
      seconds_offered: Seconds of training that a round offers to a device with full availability, where cost is counted in
        seconds; 0: those of `steps` mini-batches of the full network. With it methods of different batch sizes have the same
        deadline.
      shrink: Factor by which images are made smaller on each side, by averaging squares; 1: off.
      validation: Share of the training examples to hold out and to score on instead of the test set, for tuning; 0: none.
    """

    dataset: str = "digits"
    data_dir: Path | None = None
    model: str = "digits_cnn"
    partition: str = "dirichlet:0.3"
    devices: Annotated[int, Within(0, MOST_DEVICES)] = 100
    availability: str = "redrawn:0.1,1,3"
    cost: str = "macs"
    seconds_offered: Annotated[float, Within(0, 1e9)] = 0.0
    shrink: Annotated[int, Within(1, 1000)] = 1
    validation: Annotated[float, Within(0, 1, below=True)] = 0.0

    def __post_init__(self) -> None:
        check_settings(self)
        if self.seconds_offered and self.cost == MACS:
            raise InputError("seconds_offered says nothing where cost is counted in MACs; give --cost seconds:NAME too")


@dataclasses.dataclass(frozen=True)
class World:
    """What a seed and `WorldSettings` decide, before any method does."""

    dataset: Dataset
    partition: Partition
    availability: Availability
    network: TracedNetwork
    params: Any  # the network's first parameters
    others: Any  # its other variables
    train: Examples
    evaluator: Evaluator
    seed: int
    cost: str = "macs"  # `DropoutTable.costs`: what work is counted in
    also_on: Mapping[str, Evaluator] = dataclasses.field(default_factory=dict)  # other test sets, by name
    seconds_offered: float = 0.0  # by a round to a device with full availability; 0: those of its full mini-batches

    def _described(self) -> str:
        """Data, devices and load, in three lines."""
        sizes, scored = self.partition.sizes, scored_on(self.also_on)
        return (
            f"World of seed {self.seed}: {self.dataset.name}, {self.train.num_examples:,} training and "
            f"{self.evaluator.test.num_examples:,} {scored} examples on {self.devices:,} devices\n"
            f"examples of a device: {sizes.min():,} to {sizes.max():,}, median {np.median(sizes):,.0f}\n"
            f"availability: {self.availability}; work is counted in {self.cost}"
        )

    def __str__(self) -> str:
        return f"{self._described()}\n{self.network}"

    __repr__ = __str__  # a dataclass would write out all data and weights

    def _repr_html_(self) -> str:
        return f"<p>{'<br>'.join(html.escape(self._described()).splitlines())}</p>{self.network._repr_html_()}"

    @property
    def devices(self) -> int:
        """Devices in the population."""
        return self.partition.num_clients

    @property
    def task(self) -> Task:
        """What is learnt."""
        return self.dataset.task

    def checksums(self) -> dict[str, str]:
        """Checksums of data, owners, network, first weights and load, by which processes and folders know the same world.

        The load's is of the mean availability of the first 10,000 devices in three rounds.
        """
        parts = {"training data": self.train, "test data": self.evaluator.test, "weights": (self.params, self.others)}
        parts |= {"owners": (self.partition.indices, self.partition.sizes)}
        devices = np.arange(min(self.devices, 10_000))
        parts |= {"load": tuple(np.asarray(self.availability.during(index, devices).means()) for index in range(3))}
        return {"network": self.network.signature()} | {name: _checksum(part) for name, part in parts.items()}

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
        if settings.shrink > 1:
            dataset = dataset.shrunk(settings.shrink)
        held_back, dataset = dataset, dataset.validated(settings.validation, seed) if settings.validation else dataset
        if model is None:
            model = _network_named(settings.model, dataset, seed)
        partition = partition_of(settings, dataset, seed)
        if availability is None:
            availability = make_availability(
                settings.availability, seed=seed, num_devices=partition.num_clients, data_dir=settings.data_dir
            )
        else:
            availability = checked_load(availability, "availability")
        train, test = jax.tree.map(jnp.asarray, (dataset.train, dataset.test))
        network = trace_network(model, batch_shapes(train, 1).inputs)
        params, others = split_variables(model)
        check_outputs(network, params, others, dataset.task, batch_shapes(train, 2))
        check_tokens(network, params, others, (train, test))
        statistics = np.random.default_rng(0).permutation(train.num_examples)[:STATISTICS_EXAMPLES]
        evaluator = Evaluator(network, others, test, train, statistics, dataset.task)
        also_on = {}
        if settings.validation:  # reported at the end of a run, never chosen by
            also_on["test"] = dataclasses.replace(evaluator, test=jax.tree.map(jnp.asarray, held_back.test))
        return cls(
            dataset,
            partition,
            availability,
            network,
            params,
            others,
            train,
            evaluator,
            seed,
            settings.cost,
            also_on,
            settings.seconds_offered,
        )


def _checksum(tree: Any) -> str:
    so_far = 0
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        so_far = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data, so_far)
    return f"{so_far:08x}"


def _network_named(name: str, dataset: Dataset, seed: int) -> nnx.Module:
    if is_own(name):
        return _own_network(name, dataset, seed)
    if dataset.train.mean is None or dataset.num_classes is None:
        raise InputError(
            f"network {name!r} classifies images, and data set {dataset.name!r} is another task; give a network of yours: "
            "World.make(settings, seed, dataset=dataset, model=model)"
        )
    return make_network(name, image_shape=dataset.image_shape, num_classes=dataset.num_classes, seed=seed)


def _own_network(name: str, dataset: Dataset, seed: int) -> nnx.Module:
    """A network of a person's own: a class or function that takes any of image_shape, num_classes, rngs and seed."""
    given: dict[str, Any] = {"rngs": nnx.Rngs(seed), "seed": seed}
    if dataset.num_classes is not None:
        given["num_classes"] = dataset.num_classes
    if dataset.train.mean is not None:
        given["image_shape"] = dataset.image_shape
    model = called(own(name, "network"), name, "network", **given)
    if not isinstance(model, nnx.Module):
        raise InputError(f"network {name!r} makes a {type(model).__name__}; expected a Flax NNX module (flax.nnx.Module)")
    return model


def partition_of(settings: WorldSettings, dataset: Dataset, seed: int) -> Partition:
    """Who holds which training examples.

    Args:
      settings: Has the partition as text, and the number of devices.
      dataset: Whose training examples are shared out.
      seed: Of the draw.

    Raises:
      InputError: The partition can't be read, or can't be made with this data set.
    """
    kind, colon, alpha = settings.partition.partition(":")
    try:
        concentration = float(alpha) if colon else 0.1
    except ValueError:
        concentration = None
    if concentration is None or (colon and kind != "dirichlet"):
        raise InputError(f"partition {settings.partition!r} can't be read; choose from: {', '.join(PARTITIONS)}")
    if kind == "dirichlet" and dataset.num_classes is None:
        raise InputError(
            f"partition dirichlet shares out classes, and the task of data set {dataset.name!r} has none; use iid, or "
            "natural with train_clients in the arrays"
        )
    has_no_classes = np.zeros(dataset.train.num_examples, dtype=np.int32)
    return make_partition(
        kind,
        has_no_classes if dataset.num_classes is None else dataset.train.targets,
        settings.devices or None,
        seed=seed,
        natural_clients=dataset.train_clients,
        alpha=concentration,
    )
