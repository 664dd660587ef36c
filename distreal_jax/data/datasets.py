"""Image classification data sets as plain uint8 arrays: digits, MNIST with its writers, and all of tensorflow-datasets.

A set of tensorflow-datasets is decoded once and then read from a cache, `~/.cache/distreal_jax` or the folder that the
environment variable DISTREAL_CACHE names (60,000 images take 10 s to decode and a fraction of a second to read).
"""

import contextlib
import dataclasses
import difflib
import hashlib
import importlib.util
import io
import logging
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tqdm

from distreal_jax.errors import InputError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]

ONE_SIZE = "choose a set whose images have one size, such as cifar10"
OWNER_FEATURES = ("client_id", "client", "writer_id", "writer", "user_id", "user")
PREPARE = (
    'python -c "import tensorflow_datasets; '
    "tensorflow_datasets.builder({!r}, data_dir='data').download_and_prepare(file_format='array_record')\""
)


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
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != arrays["train_images"].shape[1:]:
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
    `cifar10:3.0.2`, `huggingface:...`. Its splits are `train` and `test`, or `validation` if there is no `test`. A feature
    called client_id, client, writer_id, writer, user_id or user gives the natural clients. A set that is not in `data_dir`
    is downloaded into it, if TensorFlow is there to encode the images and a network to fetch them.

    Args:
      name: Name of the data set.
      data_dir: Folder that holds prepared data sets; None: the usual place of tensorflow-datasets.

    Raises:
      InputError: An unknown name, a missing folder or file, a set that can't be fetched, or one that is no classification of
        images of one size.
    """
    folder = None if data_dir is None else Path(data_dir).expanduser()
    if name == "digits":
        return _load_digits()
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"the data folder {str(folder)!r} does not exist; name the folder that holds {name!r}, or create this one to "
            "have a set of tensorflow-datasets downloaded into it"
        )
    if name == "mnist_writers":
        return _load_mnist_writers(folder)
    with _quietly():
        return _load_tensorflow_dataset(name, folder)


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


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits  # takes a second, and only digits needs it

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    place_in_class = np.zeros(len(labels), np.int64)
    for label in range(10):
        place_in_class[labels == label] = np.arange((labels == label).sum())
    test = place_in_class % 5 == 4
    arrays = {
        "train_images": images[~test],
        "train_labels": labels[~test],
        "test_images": images[test],
        "test_labels": labels[test],
    }
    return Dataset.from_arrays("digits", 10, arrays)


def _load_mnist_writers(folder: Path | None) -> Dataset:
    source = (
        "it holds x_train, y_train, writer_train, x_test and y_test: MNIST with the writer ids of QMNIST "
        "(github.com/facebookresearch/qmnist), which number its examples one to one"
    )
    if folder is None:
        raise InputError(f"data set 'mnist_writers' needs data_dir, the folder of mnist_writers.npz; {source}")
    places = [folder / inside for inside in ("", "mnist_writers", "data/mnist_writers", "../data/mnist_writers")]
    found = [place / "mnist_writers.npz" for place in places if (place / "mnist_writers.npz").is_file()]
    if not found:
        raise InputError(
            f"no mnist_writers.npz in {str(folder)!r}, nor in mnist_writers or data/mnist_writers there; {source}"
        )
    names = {
        "train_images": "x_train",
        "train_labels": "y_train",
        "train_clients": "writer_train",
        "test_images": "x_test",
        "test_labels": "y_test",
    }
    arrays = _read_arrays(found[0], names)
    if arrays is None:
        raise InputError(f"{str(found[0])!r} is damaged or not what it should be: {source}; get it again")
    for images in ("train_images", "test_images"):
        arrays[images] = arrays[images][..., None]
    return Dataset.from_arrays("mnist_writers", 10, arrays)


def _read_arrays(path: Path, names: Mapping[str, str]) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays of an NPZ file under the names asked for; None if it is absent, damaged, or lacks one."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[stored] for name, stored in names.items()}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps what tensorflow-datasets prints, logs and warns of off the screen: what matters to a person is in our errors."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _load_tensorflow_dataset(name: str, folder: Path | None) -> Dataset:
    builder = _find_builder(name, folder)
    features = _features(name, builder.info)
    if not builder.is_prepared():
        _prepare(name, builder, builder.info.features[features["images"]].shape)
    available = list(builder.info.splits)
    test = next((split for split in ("test", "validation") if split in available), None)
    if "train" not in available or test is None:
        raise InputError(
            f"data set {name!r} has the splits {', '.join(available)}; expected train, and test or validation; choose a set "
            "that has them, such as cifar10"
        )
    num_classes = builder.info.features[features["labels"]].num_classes
    stored = [f"train_{part}" for part in features] + ["test_images", "test_labels"]
    cache = _cache_file(builder)
    cached = _read_arrays(cache, {array: array for array in stored}) if cache else None
    if cached:
        with contextlib.suppress(InputError):  # a cache that holds nonsense is decoded again
            return Dataset.from_arrays(name, num_classes, cached)
    decoded = {"train": _decode(name, builder, "train", features), "test": _decode(name, builder, test, features)}
    arrays = {array: decoded[split][part] for array in stored for split, part in [array.split("_")]}
    dataset = Dataset.from_arrays(name, num_classes, arrays)
    if cache:
        _write_cache(cache, arrays)
    return dataset


def _find_builder(name: str, folder: Path | None) -> Any:
    """The `tfds.core.DatasetBuilder` of that name, of a prepared version where there is one."""
    try:
        import tensorflow_datasets as tfds  # needed by no other set
    except ImportError as error:
        raise InputError(
            f"data set {name!r} is read by tensorflow-datasets, which can't be imported ({_reason(error)}); "
            "pip install tensorflow-datasets importlib_resources"
        ) from error
    try:
        builder = tfds.builder(name, data_dir=folder)
        if not builder.is_prepared() and ":" not in name:
            builder = tfds.builder(f"{name}:*.*.*", data_dir=folder)  # prepared by another release of tensorflow-datasets
        _ = builder.info.features  # made by the set's own code when it is first asked for
        return builder
    except ModuleNotFoundError as error:
        package = "datasets" if name.startswith("huggingface:") else "tensorflow-cpu"
        raise InputError(f"data set {name!r} needs one more package ({_reason(error)}); pip install {package}") from error
    except Exception as error:  # tfds has many for a name, configuration or version that is wrong, and for damaged files
        known = ["digits", "mnist_writers", *tfds.list_builders(with_community_datasets=False)]
        if re.split("[/:]", name)[0] in known:
            raise InputError(f"data set {name!r} can't be opened: {_reason(error)}") from error
        close = ", ".join(difflib.get_close_matches(name, known))
        raise InputError(
            f"unknown data set {name!r}; {f'did you mean {close}? ' if close else ''}choose digits, mnist_writers or any "
            "image classification set of tensorflow-datasets, such as cifar10, fashion_mnist, cifar100 or svhn_cropped"
        ) from error


def _features(name: str, info: Any) -> dict[str, str]:
    """What the set calls its `images`, its `labels` and, if it has them, the `clients` that own its examples."""
    kinds = {key: type(feature).__name__ for key, feature in (info.features or {}).items()}
    owners = [key for key in OWNER_FEATURES if key in kinds and info.features[key].shape == ()]
    images = [key for key, kind in kinds.items() if kind == "Image"]
    labels = [key for key, kind in kinds.items() if kind == "ClassLabel" and key not in owners]
    supervised: tuple[str, ...] = info.supervised_keys or ()
    if len(supervised) == 2 and supervised[0] in images and supervised[1] in labels:
        images, labels = [supervised[0]], [supervised[1]]
    if len(images) != 1 or len(labels) != 1 or info.features[images[0]].np_dtype != np.uint8:
        raise InputError(
            f"data set {name!r} is no classification of uint8 images: an example has {len(images)} images and {len(labels)} "
            "class labels; choose a set with one of each, such as cifar10"
        )
    if not info.features[labels[0]].num_classes:
        raise InputError(f"data set {name!r} does not say how many classes it has; choose one that does, such as cifar10")
    return {"images": images[0], "labels": labels[0], **({"clients": owners[0]} if owners else {})}


def _prepare(name: str, builder: Any, image_shape: tuple[int | None, ...]) -> None:
    """Downloads a set into its data folder, after a look at what would stop it half-way."""
    absent = f"data set {name!r} is not prepared (there is no {str(builder.data_path)!r})"
    elsewhere = f"pass a data_dir (--data-dir) that has it; on a machine with a network, {PREPARE.format(name)} makes one"
    if None in image_shape:
        raise InputError(f"{absent}, and its images differ in size; {ONE_SIZE}")
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"{absent}; the first time, TensorFlow has to encode its images (reading them needs none): "
            "pip install tensorflow-cpu, or pass a data_dir (--data-dir) that has it"
        )
    # tensorflow-datasets itself would retry for three minutes before it gives up.
    for host in {urllib.parse.urljoin(url, "/") for url in builder.url_infos or ()}:
        try:
            urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=10).close()
        except urllib.error.HTTPError:
            continue  # it answered
        except (OSError, ValueError) as error:
            raise InputError(
                f"{absent}, and {host} can't be reached to download it ({_reason(error)}); {elsewhere}"
            ) from error
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # whatever network, disk, and the set's own code raise
        raise InputError(f"{absent}, and preparing it failed ({_reason(error)}); {elsewhere}") from error


def _decode(name: str, builder: Any, split: str, features: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """The images, labels and clients of a split as arrays."""
    columns: dict[str, list[Any]] = {part: [] for part in features if part != "images"}
    try:
        source = builder.as_data_source(split=split)
        images = np.empty((len(source), *source[0][features["images"]].shape), np.uint8)
        for start in tqdm.trange(0, len(source), 500, desc=f"decoding {name} {split}", leave=False, disable=None):
            # Read in parts, records take a tenth of the time that they take one by one.
            examples = source.__getitems__(range(start, min(start + 500, len(source))))
            if {example[features["images"]].shape for example in examples} != {images.shape[1:]}:
                raise InputError(f"the images of data set {name!r} differ in size; {ONE_SIZE}")
            images[start : start + len(examples)] = [example[features["images"]] for example in examples]
            for part, column in columns.items():
                column += [example[features[part]] for example in examples]
        return {"images": images, **{part: np.asarray(column) for part, column in columns.items()}}
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"data set {name!r} needs one more package ({_reason(error)}); pip install pillow") from error
    except NotImplementedError as error:
        raise InputError(
            f"data set {name!r} in {str(builder.data_path)!r} is not in the format array_record, which is read without "
            f"TensorFlow; pass another data_dir (--data-dir); {PREPARE.format(name)} makes one"
        ) from error
    except Exception as error:  # whatever the record reader and the image decoder raise for damaged files
        raise InputError(
            f"data set {name!r} in {str(builder.data_path)!r} can't be read ({_reason(error)}); delete that folder and "
            "prepare the set again"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of what tensorflow-datasets says, without the call that it puts in front."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rpartition('}": ')[2]


def _cache_file(builder: Any) -> Path | None:
    """Where the decoded arrays of a prepared set belong; two preparations of one version may differ, so their files do."""
    try:
        chosen, prepared = os.environ.get("DISTREAL_CACHE"), Path(builder.data_path)
        folder = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "distreal_jax"
        files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(prepared.iterdir())]
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    name = re.sub(r"[^\w.]", "-", builder.info.full_name)
    return folder / f"{name}-{hashlib.sha256(repr(files).encode()).hexdigest()[:12]}.npz"


def _write_cache(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes the arrays whole or not at all; without a cache, the next time is only slower."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as unfinished:
            np.savez(Path(unfinished) / path.name, allow_pickle=False, **arrays)
            os.replace(Path(unfinished) / path.name, path)
