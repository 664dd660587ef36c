"""From a user's arrays to examples: what is accepted, in which form it is kept, and what is refused before anything starts.

Classes may be numbers of any type, one-hot, or names. Images may have bytes or any other numbers as pixels, and no axis of
channels if they are grey. Everything else is a pytree of numbers (dicts and tuples of arrays), kept as it is.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError, in_one_line

Array = npt.NDArray[Any]


def split_arrays(name: str, arrays: Mapping[str, Any]) -> tuple[str, str]:
    """What the arrays of a data set call inputs and targets: ("images" or "inputs", "labels" or "targets").

    Raises:
      InputError: One is missing, or there is one that nobody asked for.
    """
    inputs = "images" if "train_images" in arrays else "inputs"
    targets = "labels" if "train_labels" in arrays else "targets"
    needed = [f"{split}_{part}" for split in ("train", "test") for part in (inputs, targets)]
    missing = [key for key in needed if key not in arrays]
    unknown = sorted(map(str, set(arrays) - {*needed, "train_clients"}))
    if missing or unknown:
        said = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
        raise InputError(
            f"data set {name!r} {' and '.join(said)}; give train_images and test_images (train_inputs and test_inputs, if "
            "they are no images), train_labels and test_labels (or train_targets and test_targets), optional train_clients"
        )
    return inputs, targets


def as_array(name: str, what: str, given: Any) -> Array:
    """An array of numbers, booleans or strings, of any shape.

    Args:
      name: The data set, for errors.
      what: The part of it, for errors.
      given: What a user passed.

    Raises:
      InputError: It is not such an array, for example a list of lists of different lengths.
    """
    try:
        array = np.asarray(given)
    except Exception as error:  # whatever a library's own kind of array may raise
        raise InputError(
            f"data set {name!r}: {what} are no array ({in_one_line(error)}); give examples of one shape, "
            "padded where they differ in length"
        ) from error
    if array.dtype == object and array.size and all(isinstance(item, str) for item in array.flat):
        array = array.astype(str)
    return array


def as_numbers(name: str, what: str, given: Any) -> Array:
    """Numbers of any shape in the type that a network takes: float32 for all floats, int32 for all integers, bool.

    Args:
      name: The data set, for errors.
      what: The part of it, for errors.
      given: What a user passed.

    Raises:
      InputError: A value is not a real number, not finite, or too large for the type.
    """
    array = as_array(name, what, given)
    if array.dtype == bool or array.dtype in (np.float32, np.int32):
        numbers = array
    elif np.issubdtype(array.dtype, np.integer):
        numbers = array.astype(np.int32)
    elif array.dtype.kind in "fV" and array.dtype.names is None and np.can_cast(array.dtype, np.float64):  # V: bfloat16
        with np.errstate(over="ignore"):
            numbers = array.astype(np.float32)
    else:
        raise InputError(
            f"data set {name!r}: {what} are {array.dtype} {array.shape}; expected numbers; give words as the numbers of a "
            "vocabulary, and examples that differ in length padded to one"
        )
    if np.issubdtype(array.dtype, np.integer) and array.size and (numbers != array).any():
        raise InputError(f"data set {name!r}: {what} go from {array.min()} to {array.max()}; give integers of 32 bits")
    if numbers.ndim and numbers.dtype == np.float32 and not np.isfinite(numbers).all():
        wrong = np.flatnonzero(~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1))
        raise InputError(
            f"data set {name!r}: {what} hold NaN or infinity in {len(wrong)} of {len(numbers)} examples, the first is "
            f"number {wrong[0]}; leave these out, or fill in numbers and give the network or the loss a mask that says so"
        )
    return numbers


def as_images(name: str, what: str, given: Any) -> Array:
    """Images as uint8 or float32 [examples, height, width, channels]; grey images without an axis of channels get one.

    Args:
      name: The data set, for errors.
      what: The part of it, for errors.
      given: [examples, height, width] or [examples, height, width, channels], any numbers.

    Raises:
      InputError: They are not images.
    """
    array = as_array(name, what, given)
    if np.issubdtype(array.dtype, np.integer) and array.size and 0 <= array.min() <= array.max() <= 255:
        array = array.astype(np.uint8)  # bytes in another type
    images = array if array.dtype == np.uint8 else as_numbers(name, what, array)
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise InputError(
            f"data set {name!r}: {what} are {array.dtype} {array.shape}; expected [examples, height, width, channels], or "
            "without channels if they are grey; what is no such image is given as train_inputs and test_inputs"
        )
    return images if images.dtype == np.uint8 else images.astype(np.float32)


def as_tree(name: str, what: str, given: Any) -> Any:
    """A pytree of arrays of numbers, leaves [examples, ...]. A list is an array; dicts and tuples are containers.

    Args:
      name: The data set, for errors.
      what: The part of it, for errors.
      given: What a user passed.

    Raises:
      InputError: As `as_numbers`.
    """
    return jax.tree.map(lambda leaf: as_numbers(name, what, leaf), given, is_leaf=lambda node: isinstance(node, list))


def as_classes(name: str, num_classes: int, splits: Mapping[str, Any]) -> dict[str, npt.NDArray[np.int32]]:
    """The class of each example, int32 [examples] in [0, num_classes), of each split.

    Numbers of any type are taken if they are whole, one-hot rows by the place of their one, and names by their place in the
    alphabetical order of all names.

    Args:
      name: Of the data set.
      num_classes: How many classes it has.
      splits: The labels of each split.

    Raises:
      InputError: They are no classes, or not of so many.
    """
    given = {split: as_array(name, f"{split} labels", labels) for split, labels in splits.items()}
    given = {split: labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels for split, labels in given.items()}
    if all(labels.dtype.kind in "US" and labels.ndim == 1 for labels in given.values()):
        names, numbers = np.unique(np.concatenate([labels.astype(str) for labels in given.values()]), return_inverse=True)
        if len(names) > num_classes:
            raise InputError(f"data set {name!r} has labels of {len(names)} names and {num_classes} classes; give as many")
        ends = np.cumsum([len(labels) for labels in given.values()])[:-1]
        return {split: part.astype(np.int32) for split, part in zip(given, np.split(numbers, ends), strict=True)}
    return {split: _class_numbers(name, split, num_classes, labels) for split, labels in given.items()}


def _class_numbers(name: str, split: str, num_classes: int, labels: Array) -> npt.NDArray[np.int32]:
    said = f"data set {name!r}: {split} labels"
    if labels.dtype.kind not in "biuf":
        raise InputError(f"{said} are {labels.dtype} {labels.shape}; expected the number or the name of a class for each")
    if labels.ndim == 2 and labels.shape[1] == num_classes:
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise InputError(
                f"{said} of shape {labels.shape} are no one-hot rows; for soft or several labels give a Task with a loss of "
                "its own in place of the number of classes"
            )
        return labels.argmax(axis=1).astype(np.int32)
    if labels.ndim != 1:
        raise InputError(
            f"{said} have shape {labels.shape}; expected one class for each example; for a class for each pixel or word "
            "give a Task in place of the number of classes"
        )
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and (labels == np.rint(labels)).all()):
        raise InputError(
            f"{said} are {labels.dtype} and not whole numbers; expected the number of a class; for a regression give a Task "
            "in place of the number of classes"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        first = int(labels.min())
        remedy = (
            f"subtract {first}" if first > 0 and labels.max() - first < num_classes else "give the right number of classes"
        )
        raise InputError(
            f"{said} {first} to {int(labels.max())}, not of {num_classes} classes, which are numbered from 0; {remedy}"
        )
    return labels.astype(np.int32)


def pixel_statistics(images: Array) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and standard deviation of pixels / 255 for each channel, 1 where a channel is constant.

    Args:
      images: uint8 or float32 [examples, height, width, channels].
    """
    mean, std = _of_bytes(images) if images.dtype == np.uint8 else _of_numbers(images)
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def _of_bytes(images: Array) -> tuple[Array, Array]:
    """From how often each of the 256 values occurs."""
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), 256):  # in parts: counting needs eight times the memory of the images
        pixels = images[start : start + 256].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel], minlength=256)
    frequencies, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
    mean = frequencies @ values
    return mean, np.sqrt((frequencies * (values[None] - mean[:, None]) ** 2).sum(axis=1))


def _of_numbers(images: Array) -> tuple[Array, Array]:
    axes = tuple(range(images.ndim - 1))
    mean = images.mean(axis=axes, dtype=np.float64)
    parts = (images[start : start + 256] - mean for start in range(0, len(images), 256))  # in parts, in float64
    squares = sum((part**2).sum(axis=axes) for part in parts)
    return mean / 255, np.sqrt(squares / images[..., 0].size) / 255
