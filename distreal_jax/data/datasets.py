"""Data sets: a user's own arrays, and by name image classification (digits, MNIST with its writers, tensorflow-datasets).

A set of tensorflow-datasets is decoded once and then read from a cache (see `array_files`).
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from distreal_jax.data.arrays import as_array, as_classes, as_images, as_tree, pixel_statistics, split_arrays
from distreal_jax.data.handwritten import digits, mnist_writers
from distreal_jax.data.prepared import PreparedSet, quietly
from distreal_jax.data.random_streams import random_stream
from distreal_jax.errors import InputError
from distreal_jax.files import user_path
from distreal_jax.own import called, is_own, own
from distreal_jax.step import Examples, Task, classification


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory.

    Attributes:
      name: What the command line calls it.
      task: What is learnt on it.
      train: Training examples. Images are uint8 or float32 [examples, height, width, channels], with mean and standard
        deviation of the training pixels / 255 of each channel (1 where a channel is constant, so that one can divide by
        it); classes are int32 [examples], in [0, num_classes).
      test: Test examples; images with the statistics of the training images.
      train_clients: int32 [examples], the natural owner (the writer of a digit) of each training example, numbered from 0 in
        the order of the set's own names; None if the set names none.
    """

    name: str
    task: Task
    train: Examples
    test: Examples
    train_clients: npt.NDArray[np.int32] | None = None

    def __str__(self) -> str:
        learnt = f"{self.num_classes} classes" if self.num_classes else f"scored by {self.task.score_name}"
        owners = "no natural owners" if self.train_clients is None else f"{self.train_clients.max() + 1:,} natural owners"
        return (
            f"{self.name}: {self.train.num_examples:,} training and {self.test.num_examples:,} test examples of "
            f"{self.train.size}; {learnt}; {owners}"
        )

    __repr__ = __str__  # a dataclass would write out all examples

    @classmethod
    def from_arrays(cls, name: str, task: int | Task, arrays: Mapping[str, Any]) -> "Dataset":
        """The data set of a user's arrays.

        Args:
          name: What it is called.
          task: How many classes it has; or the task, for what is no classification.
          arrays: `train_images` and `test_images`, [examples, height, width, channels] (or without channels, if grey), of
            bytes or any other numbers; they are normalised by the training images' mean and standard deviation. What is
            no image goes by `train_inputs` and `test_inputs`: an array [examples, ...], or a dict or tuple of such for a
            network that takes several, given to it as it is. `train_labels` and `test_labels`: the classes, [examples], as
            numbers from 0, one-hot rows or names; for another task what it compares outputs with, an array [examples, ...]
            or a dict or tuple of such (`train_targets` and `test_targets` are the same). `train_clients`, optional: who
            owns each training example, numbers or names [examples].

        Raises:
          InputError: An array is missing or of another form, train and test differ in form, there is no example, a number is
            not finite, or classes are not in [0, num_classes).
        """
        task = task if isinstance(task, Task) else classification(task)
        inputs, targets = split_arrays(name, arrays)
        as_inputs = as_images if inputs == "images" else as_tree
        splits = ("train", "test")
        xs = {split: as_inputs(name, f"{split} {inputs}", arrays[f"{split}_{inputs}"]) for split in splits}
        given = {split: arrays[f"{split}_{targets}"] for split in splits}
        if task.num_classes is None:
            ys: dict[str, Any] = {split: as_tree(name, f"{split} {targets}", given[split]) for split in splits}
        else:
            ys = dict(as_classes(name, task.num_classes, given))
        for split in splits:
            _check_counts(name, split, xs[split], ys[split])
        for what, (train, test) in ((inputs, xs.values()), (targets, ys.values())):
            _check_alike(name, what, train, test)
        mean, std = pixel_statistics(xs["train"]) if inputs == "images" else (None, None)
        train, test = (Examples(xs[split], ys[split], mean, std) for split in splits)
        return cls(name, task, train, test, _clients(name, arrays.get("train_clients"), train.num_examples))

    def shrunk(self, factor: int) -> "Dataset":
        """The same images, so many times smaller on each side; its name says so.

        Raises:
          InputError: As `Examples.shrunk`.
        """
        train, test = (jax.tree.map(np.asarray, part.shrunk(factor)) for part in (self.train, self.test))
        return dataclasses.replace(self, name=f"{self.name} at {train.size}", train=train, test=test)

    def validated(self, share: float, seed: int) -> "Dataset":
        """The same data set with a part of its training examples in place of the test examples: to tune on.

        The part has its share of each class, where there are classes. Who owns an example stays as it is, but for owners all
        of whose examples are taken, who leave.

        Args:
          share: Of the training examples, above 0 and below 1.
          seed: Of the draw.

        Raises:
          InputError: The share is outside (0, 1), or leaves no example on one of the two sides.
        """
        count = self.train.num_examples
        if not 0 < share < 1:
            raise InputError(f"a validation split of {share:g} of the training examples; give a share above 0 and below 1")
        order = random_stream(seed, "validation split").permutation(count)
        if self.task.num_classes is not None:  # by class, in random order within each; then every so-manieth
            order = order[np.argsort(np.asarray(self.train.targets)[order], kind="stable")]
        taken = np.zeros(count, dtype=bool)
        taken[order[np.floor((np.arange(count) + 1) * share) > np.floor(np.arange(count) * share)]] = True
        if taken.all() or not taken.any():
            raise InputError(f"a validation split of {share:g} of {count} training examples leaves one side without any")

        def part(chosen: npt.NDArray[np.bool_]) -> Examples:
            inputs, targets = jax.tree.map(lambda leaf: leaf[chosen], (self.train.inputs, self.train.targets))
            return self.train._replace(inputs=inputs, targets=targets)

        owners = self.train_clients
        if owners is not None:
            owners = np.unique(owners[~taken], return_inverse=True)[1].astype(np.int32)
        return dataclasses.replace(self, train=part(~taken), test=part(taken), train_clients=owners)

    @property
    def num_classes(self) -> int | None:
        """How many classes there are; None where the task is no classification."""
        return self.task.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image.

        Raises:
          InputError: The inputs are no images.
        """
        if self.train.mean is None:
            raise InputError(f"data set {self.name!r} holds no images; give a network of one's own that takes its inputs")
        _, height, width, channels = self.train.inputs.shape
        return height, width, channels


def load_dataset(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Loads a data set by name.

    `digits`: 1,797 images 8x8 of scikit-learn, which need no network; their 17 grey levels are spread over 0..255. Every
    fifth example of a class is test data (the split is chosen by us, the set has none).

    `mnist_writers`: MNIST with the writer of each digit, from the file `mnist_writers.npz` in `data_dir`, or in
    `mnist_writers`, `data/mnist_writers` or `../data/mnist_writers` from there.

    Every other name is one of tensorflow-datasets, as `tfds.builder` takes it: `cifar10`, `emnist/balanced`,
    `cifar10:3.0.2`. Its splits are `train` and `test`, or `validation` if there is no `test`. A feature called client_id,
    client, writer_id, writer, user_id or user gives the natural clients. A set that is not in `data_dir` is downloaded into
    it, if TensorFlow is there to encode the images and a network to fetch them. A set of the Hugging Face hub is prepared
    by tensorflow-datasets beforehand (the error for `huggingface:...` says how) and has the name of its folder.

    `MODULE:NAME` is one's own: a `Dataset`, or a function that returns one and may take `data_dir`.

    Args:
      name: Name of the data set.
      data_dir: Folder that holds prepared data sets; None: the usual place of tensorflow-datasets.

    Raises:
      InputError: An unknown name, a missing folder or file, a set that can't be fetched, or one that is no classification of
        images of one size.
    """
    folder = None if data_dir is None else user_path(data_dir)
    if name == "digits":
        return Dataset.from_arrays(name, 10, digits())
    if is_own(name) and not name.startswith("huggingface:"):
        return _own_dataset(name, folder)
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"the data folder {str(folder)!r} does not exist; name the folder that holds {name!r}, or create this one to "
            "have a set of tensorflow-datasets downloaded into it"
        )
    if name == "mnist_writers":
        return Dataset.from_arrays(name, 10, mnist_writers(folder))
    with quietly():
        prepared = PreparedSet(name, folder)
        return prepared.made_into(functools.partial(Dataset.from_arrays, name, prepared.num_classes))


def _own_dataset(name: str, folder: Path | None) -> Dataset:
    found = own(name, "data set")
    dataset = found if isinstance(found, Dataset) else called(found, name, "data set", data_dir=folder)
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"data set {name!r} is a {type(dataset).__name__}; give a function that returns a distreal_jax.Dataset, such as "
            "Dataset.from_arrays"
        )
    return dataset


def synthetic_dataset(*, num_examples: int, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> Dataset:
    """A synthetic set for measurements of memory and scale, where pictures of something would tell nothing more.

    Each class is one random pattern, each image its class's pattern plus uniform noise of a third of its range, so that a
    network can learn it. Classes take turns; there is one test image for every ten of training, and one a class at least.

    Args:
      num_examples: Training examples.
      image_shape: (height, width, channels).
      num_classes: How many classes.
      seed: Of patterns and noise.

    Raises:
      InputError: A number that is not positive, or a seed below 0.
    """
    if min(num_examples, num_classes, *image_shape) < 1 or seed < 0:
        raise InputError(
            f"a synthetic set of {num_examples} examples, {num_classes} classes, images {image_shape}, seed {seed}; "
            "expected positive numbers and a seed of 0 or above"
        )
    generator = np.random.Generator(np.random.Philox(seed))
    patterns = generator.integers(0, 192, (num_classes, *image_shape), dtype=np.uint8)  # 191 + 63 of noise fit into a byte
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split, count in (("train", num_examples), ("test", max(num_classes, num_examples // 10))):
        labels = np.arange(count, dtype=np.int32) % num_classes
        images = generator.integers(0, 64, (count, *image_shape), dtype=np.uint8)
        for start in range(0, count, 4096):  # in parts: the patterns of all images at once would double the memory
            images[start : start + 4096] += patterns[labels[start : start + 4096]]
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return Dataset.from_arrays("synthetic", num_classes, arrays)


def _check_counts(name: str, split: str, inputs: Any, targets: Any) -> None:
    """That there is at least one example, and all arrays of a split have as many."""
    counts = [[leaf.shape[0] if leaf.ndim else -1 for leaf in jax.tree.leaves(tree)] for tree in (inputs, targets)]
    if not all(counts) or -1 in counts[0] + counts[1]:
        raise InputError(f"data set {name!r}: {split} inputs and targets have to be arrays with a leading axis of examples")
    if len({*counts[0], *counts[1]}) > 1 or not counts[0][0]:
        examples, answers = (", ".join(map(str, sorted(set(numbers)))) for numbers in counts)
        raise InputError(
            f"data set {name!r} has {examples} {split} inputs and {answers} labels or targets; expected one for each, and "
            "at least one"
        )


def _check_alike(name: str, what: str, train: Any, test: Any) -> None:
    """That examples have one form in train and test."""

    def form(tree: Any) -> Any:
        return jax.tree.structure(tree), [(str(leaf.dtype), *leaf.shape[1:]) for leaf in jax.tree.leaves(tree)]

    if form(train) != form(test):
        said = [" and ".join(f"{leaf.dtype} {leaf.shape}" for leaf in jax.tree.leaves(tree)) for tree in (train, test)]
        raise InputError(
            f"data set {name!r}: train {what} are {said[0]}, test {what} {said[1]}; expected one form and the same size in "
            "train and test"
        )


def _clients(name: str, given: Any, num_examples: int) -> npt.NDArray[np.int32] | None:
    if given is None:
        return None
    clients = as_array(name, "train clients", given)
    if clients.shape != (num_examples,) or clients.dtype.kind not in "biufUS" or (clients != clients).any():
        raise InputError(
            f"data set {name!r}: {clients.dtype} {clients.shape} clients for {num_examples} examples; expected one number "
            "or name for each"
        )
    return np.unique(clients, return_inverse=True)[1].astype(np.int32)
