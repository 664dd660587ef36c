"""Image classification data sets as plain uint8 arrays: digits, MNIST with its writers, and all of tensorflow-datasets.

A set of tensorflow-datasets is decoded once and then read from a cache (see `array_files`).
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distreal_jax.data.handwritten import digits, mnist_writers
from distreal_jax.data.prepared import PreparedSet, quietly
from distreal_jax.errors import InputError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """An image classification data set in memory.

    Attributes:
      name: What the command line calls it.
      train_images: uint8 [examples, height, width, channels].
      train_labels: int32 [examples], in [0, num_classes).
      test_images: uint8 [test examples, height, width, channels].
      test_labels: int32 [test examples].
      num_classes: How many classes there are.
      mean: float32 [channels], mean of the training pixels / 255.
      std: float32 [channels], their standard deviation; 1 where a channel is constant, so that one can divide by it.
      train_clients: int32 [examples], the natural owner (the writer of a digit) of each training example, numbered from 0 in
        the order of the set's own names; None if the set names none.
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    num_classes: int
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    train_clients: Labels | None

    @classmethod
    def from_arrays(cls, name: str, num_classes: int, arrays: Mapping[str, npt.NDArray[Any]]) -> "Dataset":
        """The data set of `train_images`, `train_labels`, `test_images`, `test_labels` and, optional, `train_clients`.

        Raises:
          InputError: Images that are not uint8 [examples, height, width, channels] of one size in train and test, no
            example, labels outside [0, num_classes), or a number of labels or clients other than that of images.
        """
        for split in ("train", "test"):
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
            size = arrays["train_images"].shape[1:]
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != size or 0 in size:
                raise InputError(
                    f"data set {name!r}: {split} images are {images.dtype} {images.shape}; expected uint8 "
                    "[examples, height, width, channels], the same size in train and test"
                )
            if labels.shape != images.shape[:1] or not labels.size:
                raise InputError(
                    f"data set {name!r}: {labels.shape} {split} labels for {len(images)} images; expected one each"
                )
            if not np.issubdtype(labels.dtype, np.integer) or not 0 <= labels.min() <= labels.max() < num_classes:
                raise InputError(
                    f"data set {name!r}: {split} labels {labels.min()} to {labels.max()}, not of {num_classes} classes"
                )
        clients = arrays.get("train_clients")
        if clients is not None and clients.shape != arrays["train_labels"].shape:
            raise InputError(f"data set {name!r}: {clients.shape} clients for {arrays['train_labels'].shape} examples")
        mean, std = _pixel_statistics(arrays["train_images"])
        return cls(
            name=name,
            train_images=arrays["train_images"],
            train_labels=arrays["train_labels"].astype(np.int32),
            test_images=arrays["test_images"],
            test_labels=arrays["test_labels"].astype(np.int32),
            num_classes=num_classes,
            mean=mean,
            std=std,
            train_clients=None if clients is None else np.unique(clients, return_inverse=True)[1].astype(np.int32),
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image."""
        _, height, width, channels = self.train_images.shape
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

    Args:
      name: Name of the data set.
      data_dir: Folder that holds prepared data sets; None: the usual place of tensorflow-datasets.

    Raises:
      InputError: An unknown name, a missing folder or file, a set that can't be fetched, or one that is no classification of
        images of one size.
    """
    folder = None if data_dir is None else Path(data_dir).expanduser()
    if name == "digits":
        return Dataset.from_arrays(name, 10, digits())
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"the data folder {str(folder)!r} does not exist; name the folder that holds {name!r}, or create this one to "
            "have a set of tensorflow-datasets downloaded into it"
        )
    if name == "mnist_writers":
        return Dataset.from_arrays(name, 10, mnist_writers(folder))
    with quietly():
        return _load_prepared(PreparedSet(name, folder), name)


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


def _load_prepared(prepared: PreparedSet, name: str) -> Dataset:
    cached = prepared.cached()
    if cached is not None:
        with contextlib.suppress(InputError):  # a cache that holds nonsense is decoded again
            return Dataset.from_arrays(name, prepared.num_classes, cached)
    arrays = prepared.decoded()
    dataset = Dataset.from_arrays(name, prepared.num_classes, arrays)
    prepared.keep(arrays)
    return dataset


def _pixel_statistics(images: Images) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and standard deviation of pixels / 255 for each channel, from how often each of the 256 values occurs."""
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), 256):  # in parts: counting needs eight times the memory of the images
        pixels = images[start : start + 256].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel], minlength=256)
    frequencies, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
    mean = frequencies @ values
    std = np.sqrt((frequencies * (values[None] - mean[:, None]) ** 2).sum(axis=1))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)
