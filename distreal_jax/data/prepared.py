"""Sets of tensorflow-datasets as arrays: found where they are prepared, or downloaded and prepared there, then decoded."""

import contextlib
import difflib
import importlib.util
import io
import logging
import re
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from distreal_jax.data.array_files import cache_file, read_cache, write_cache
from distreal_jax.errors import InputError
from distreal_jax.signs import bar

_ONE_SIZE = "choose a set whose images have one size, such as cifar10"
_OWNER_FEATURES = ("client_id", "client", "writer_id", "writer", "user_id", "user")
_HUB = "huggingface:"
_PREPARE = (
    'python -c "import tensorflow_datasets; '
    "tensorflow_datasets.builder({!r}, data_dir='data').download_and_prepare(file_format='array_record')\""
)


Made = TypeVar("Made")


class PreparedSet:
    """A set of tensorflow-datasets, prepared in its data folder.

    Attributes:
      num_classes: How many classes there are.
    """

    def __init__(self, name: str, folder: Path | None) -> None:
        """Finds the set; one that is not prepared is downloaded into the folder (None: the usual one) and prepared there.

        Raises:
          InputError: An unknown name, a set that can't be fetched or opened, or that is no classification of images of one
            size with training and test examples.
        """
        builder = _find_builder(name, folder)
        features = _features(name, builder.info)
        if not builder.is_prepared():
            _prepare(name, builder, builder.info.features[features["images"]].shape)
        available = list(builder.info.splits)
        test = next((split for split in ("test", "validation") if split in available), None)
        if "train" not in available or test is None:
            raise InputError(
                f"data set {name!r} has the splits {', '.join(available)}; expected train, and test or validation; "
                "choose a set that has them, such as cifar10"
            )
        self.num_classes: int = builder.info.features[features["labels"]].num_classes
        self._name, self._builder, self._features, self._splits = name, builder, features, {"train": "train", "test": test}
        self._stored = [f"train_{part}" for part in features] + ["test_images", "test_labels"]
        self._cache = cache_file(builder.info.full_name, Path(builder.data_path))

    def made_into(self, make: Callable[[Mapping[str, npt.NDArray[Any]]], Made]) -> Made:
        """What is made of the set's arrays: of those that were kept, or else of decoded ones, which are kept then.

        Args:
          make: Takes the arrays of `Dataset.from_arrays`, [examples, ...], and raises `InputError` for bad ones.

        Raises:
          InputError: The files are damaged, of another format than array_record, or of images that differ in size; or as
            `make`.
        """
        kept = read_cache(self._cache, self._stored) if self._cache else None
        if kept is not None:
            with contextlib.suppress(InputError):  # a cache that holds nonsense is decoded again
                return make(kept)
        decoded = {split: _decode(self._name, self._builder, named, self._features) for split, named in self._splits.items()}
        arrays = {array: decoded[split][part] for array in self._stored for split, part in [array.split("_")]}
        made = make(arrays)
        if self._cache:
            write_cache(self._cache, arrays)
        return made


@contextlib.contextmanager
def quietly() -> Iterator[None]:
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


def _find_builder(name: str, folder: Path | None) -> Any:
    """The `tfds.core.DatasetBuilder` of that name, of a prepared version where there is one."""
    try:
        import tensorflow_datasets as tfds  # needed by no other set
    except ImportError as error:
        raise InputError(
            f"data set {name!r} is read by tensorflow-datasets, which can't be imported ({_reason(error)}); "
            "pip install tensorflow-datasets importlib_resources"
        ) from error
    if name.startswith(_HUB):
        # Named so, tensorflow-datasets asks the hub for its whole list each time, also for a set that is prepared.
        prepared = re.sub(r"\W", "_", name.removeprefix(_HUB).lower().replace("/", "__"))  # as it names the folder
        raise InputError(
            f"data set {name!r} is prepared once, on a machine with a network: pip install datasets, then "
            f"{_PREPARE.format(_HUB + prepared)}; from then on it is the data set {prepared!r} of that folder"
        )
    try:
        builder = tfds.builder(name, data_dir=folder)
        if not builder.is_prepared() and ":" not in name:
            builder = tfds.builder(f"{name}:*.*.*", data_dir=folder)  # prepared by another release of tensorflow-datasets
        _ = builder.info.features  # made by the set's own code when it is first asked for
        return builder
    except ModuleNotFoundError as error:
        raise InputError(
            f"data set {name!r} needs one more package ({_reason(error)}); pip install tensorflow-cpu"
        ) from error
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
    owners = [key for key in _OWNER_FEATURES if key in kinds and info.features[key].shape == ()]
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
    elsewhere = f"pass a data_dir (--data-dir) that has it; on a machine with a network, {_PREPARE.format(name)} makes one"
    if None in image_shape:
        raise InputError(f"{absent}, and its images differ in size; {_ONE_SIZE}")
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
        for start in bar(iterable=range(0, len(source), 500), desc=f"decoding {name} {split}", leave=False):
            # Read in parts, records take a tenth of the time that they take one by one.
            examples = source.__getitems__(range(start, min(start + 500, len(source))))
            if {example[features["images"]].shape for example in examples} != {images.shape[1:]}:
                raise InputError(f"the images of data set {name!r} differ in size; {_ONE_SIZE}")
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
            f"TensorFlow; pass another data_dir (--data-dir); {_PREPARE.format(name)} makes one"
        ) from error
    except Exception as error:  # whatever the record reader and the image decoder raise for damaged files
        raise InputError(
            f"data set {name!r} in {str(builder.data_path)!r} can't be read ({_reason(error)}); delete that folder and "
            "prepare the set again"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of what tensorflow-datasets says, without the call that it puts in front."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rpartition('}": ')[2]
