"""Handwritten digits as arrays: those of scikit-learn, and MNIST with the writer of each."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distreal_jax.errors import InputError
from distreal_jax.number_files import read_npz

_MOST = 2**28  # numbers, chosen by us: five times those of MNIST


def digits() -> dict[str, npt.NDArray[Any]]:
    """Scikit-learn's 1,797 images, as the arrays of `Dataset.from_arrays`: uint8 [examples, 8, 8, 1] and int [examples].

    Their 17 grey levels are spread over 0 to 255.
    """
    from sklearn.datasets import load_digits  # takes a second, and only digits needs it

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    place_in_class = np.zeros(len(labels), np.int64)
    for label in range(10):
        place_in_class[labels == label] = np.arange((labels == label).sum())
    test = place_in_class % 5 == 4  # chosen by us, the set has no split
    return {
        "train_images": images[~test],
        "train_labels": labels[~test],
        "test_images": images[test],
        "test_labels": labels[test],
    }


def mnist_writers(folder: Path | None) -> dict[str, npt.NDArray[Any]]:
    """What `mnist_writers.npz` holds, as the arrays of `Dataset.from_arrays`: images uint8 [examples, 28, 28, 1].

    Args:
      folder: Where the file is, or `mnist_writers`, `data/mnist_writers` or `../data/mnist_writers` from there.

    Raises:
      InputError: No folder, no such file there, or a damaged one.
    """
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
    stored = read_npz(found[0], f"{source}; get it again", most=_MOST)
    if missing := sorted(set(names.values()) - set(stored)):
        raise InputError(f"{str(found[0])!r} has no array {missing[0]}: {source}; get it again")
    if wrong := [array for array in names.values() if stored[array].dtype.kind not in "iu"]:
        raise InputError(f"{str(found[0])!r} has {stored[wrong[0]].dtype} as {wrong[0]}: {source}; get it again")
    arrays = {name: stored[array] for name, array in names.items()}
    for images in ("train_images", "test_images"):
        arrays[images] = arrays[images][..., None]
    return arrays
