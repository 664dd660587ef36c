"""A user's arrays: every kind of labels, images and inputs that people have works, or is refused in one line."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from distreal_jax.data import Dataset
from distreal_jax.errors import InputError
from distreal_jax.step import Task

CLASSES = 3
LABELS = [2, 0, 1, 0]
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 2, 3, 1), dtype=np.uint8)
MEAN_ERROR = Task(lambda outputs, targets: abs(outputs - targets), lambda outputs, targets: -abs(outputs - targets))


def dataset(task: int | Task = CLASSES, **changes: Any) -> Dataset:
    arrays = {"train_images": PIXELS, "train_labels": LABELS, "test_images": PIXELS, "test_labels": LABELS} | changes
    return Dataset.from_arrays("mine", task, {name: array for name, array in arrays.items() if array is not None})


def the_line(task: int | Task = CLASSES, **changes: Any) -> str:
    with pytest.raises(InputError) as refusal:
        dataset(task, **changes)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(LABELS, np.int64),
        np.array(LABELS, np.uint8),
        np.array(LABELS, np.float64),
        np.array(LABELS)[:, None],
        np.eye(CLASSES)[LABELS],
        np.eye(CLASSES, dtype=np.int8)[LABELS],
        jnp.array(LABELS),
        tuple(LABELS),
        ["cow", "ant", "bee", "ant"],
        np.array(["cow", "ant", "bee", "ant"], object),
        np.array([b"cow", b"ant", b"bee", b"ant"]),
    ],
    ids="int64 uint8 float64 column one-hot one-hot-int8 jax tuple names objects bytes".split(),
)
def test_labels_of_every_kind_are_numbers_from_0(labels: Any) -> None:
    made = dataset(train_labels=labels, test_labels=labels)
    for split in (made.train, made.test):
        assert split.targets.tolist() == LABELS and split.targets.dtype == np.int32


def test_truths_are_labels_of_two_classes_and_names_have_one_order_in_train_and_test() -> None:
    truths = [True, False, False, True]
    assert dataset(2, train_labels=truths, test_labels=truths).train.targets.tolist() == [1, 0, 0, 1]
    named = dataset(train_labels=["b", "c", "c", "b"], test_labels=["c", "a", "b", "a"])
    assert named.train.targets.tolist() == [1, 2, 2, 1] and named.test.targets.tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1, 2, 3, 1], "train labels 1 to 3, not of 3 classes, which are numbered from 0; subtract 1"),
        ([0, 1, 2, 7], "train labels 0 to 7, not of 3 classes.*give the right number of classes"),
        ([0, -1, 2, 1], "train labels -1 to 2"),
        ([0.5, 1, 2, 0], "not whole numbers; .* for a regression give a Task"),
        ([0, np.nan, 2, 0], "not whole numbers"),
        (np.full((4, CLASSES), 1 / CLASSES), "no one-hot rows; for soft or several labels give a Task"),
        (np.zeros((4, 2, 3), int), "for a class for each pixel or word give a Task"),
        (["a", "b", "c", "d"], "labels of 4 names and 3 classes"),
        ([[0], [1, 2], [0], [1]], "train labels are no array"),
        (np.array([0, "a", None, 1], object), "expected the number or the name of a class"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        dataset(train_labels=labels, test_labels=LABELS if not isinstance(labels[0], str) else labels)


@pytest.mark.parametrize("classes", [0, -1, True, 2.5, "ten", None])
def test_a_number_of_classes_is_a_number(classes: Any) -> None:
    assert "give a number of at least 1, or a Task" in the_line(classes)


@pytest.mark.parametrize("scale", [1, 1 / 255, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.uint16, jnp.bfloat16])
def test_images_of_any_numbers_are_normalised_as_bytes_are(dtype: Any, scale: float) -> None:
    pixels = (PIXELS * scale).astype(dtype)
    made = dataset(train_images=pixels, test_images=pixels)
    normalised = made.train.batch(np.arange(4)).inputs
    assert normalised.dtype == np.float32
    exact = np.asarray(pixels, np.float64)
    deviation = exact.std() or 1
    np.testing.assert_allclose(normalised, (exact - exact.mean()) / deviation, atol=1e-4)


def test_grey_images_need_no_axis_of_channels() -> None:
    made = dataset(train_images=PIXELS[..., 0], test_images=PIXELS[..., 0].tolist())
    assert made.image_shape == (2, 3, 1)
    np.testing.assert_allclose(made.test.inputs, PIXELS)


def test_inputs_and_targets_are_given_as_they_are_in_the_types_that_networks_take() -> None:
    inputs = {
        "tokens": np.arange(12, dtype=np.int64).reshape(4, 3),
        "weights": np.ones((4, 2)),
        "mask": np.ones((4, 3), bool),
        "half": jnp.ones((4, 1), jnp.bfloat16),
        "rows": [[1.0, 2.0]] * 4,
    }
    targets = (np.arange(4.0), [[0, 1]] * 4)
    made = dataset(
        MEAN_ERROR,
        **dict.fromkeys(("train_images", "test_images", "train_labels", "test_labels")),
        **dict.fromkeys(("train_inputs", "test_inputs"), inputs),
        **dict.fromkeys(("train_targets", "test_targets"), targets),
    )
    batch = made.train.batch(np.array([1, 3]))
    types = {name: str(leaf.dtype) for name, leaf in batch.inputs.items()}
    assert types == {"tokens": "int32", "weights": "float32", "mask": "bool", "half": "float32", "rows": "float32"}
    assert batch.inputs["tokens"].tolist() == [[3, 4, 5], [9, 10, 11]]
    assert batch.targets[0].tolist() == [1, 3] and batch.targets[1].tolist() == [[0, 1], [0, 1]]
    assert made.num_classes is None and made.train.num_examples == 4
    with pytest.raises(InputError, match="holds no images"):
        _ = made.image_shape


def none_of_images(**inputs: Any) -> dict[str, Any]:
    return {"train_images": None, "test_images": None, **inputs}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_labels": None}, "lacks test_labels; give train_images"),
        ({"train_image": PIXELS}, "has unknown train_image; give train_images"),
        ({"train_images": PIXELS[:, 0, :, 0]}, r"expected \[examples, height, width, channels\]"),
        ({"train_images": PIXELS[:, :0], "test_images": PIXELS[:, :0]}, r"train images are uint8 \(4, 0, 3, 1\)"),
        ({"test_images": PIXELS.astype(np.float32)}, "expected one form and the same size in train and test"),
        (
            {"train_images": np.where(PIXELS[2, 0, 0, 0] == PIXELS, np.nan, PIXELS)},
            "hold NaN or infinity in .* of 4 examples",
        ),
        ({"train_images": PIXELS + 1j}, "train images are complex128 .*expected numbers"),
        ({"train_images": np.array(["a.png"] * 4)}, "expected numbers; give words as the numbers of a vocabulary"),
        ({"train_images": [PIXELS[0], PIXELS[1, :1]] * 2}, "train images are no array .*give examples of one shape, padded"),
        ({"train_clients": [0, 1]}, r"\(2,\) clients for 4 examples"),
        ({"train_clients": [0, 1, np.nan, 1]}, "expected one number or name for each"),
        (none_of_images(train_inputs=np.zeros((4, 2))), "lacks test_inputs"),
        (none_of_images(train_inputs=np.zeros((3, 2)), test_inputs=np.zeros((4, 2))), "3 train inputs and 4 labels"),
        (none_of_images(train_inputs={}, test_inputs={}), "have to be arrays with a leading axis of examples"),
        (none_of_images(train_inputs=1.0, test_inputs=1.0), "have to be arrays with a leading axis of examples"),
        (none_of_images(train_inputs=np.full((4, 1), 2**40), test_inputs=np.zeros((4, 1))), "give integers of 32 bits"),
        (none_of_images(train_inputs=np.full((4, 1), 1e300), test_inputs=np.zeros((4, 1))), "hold NaN or infinity"),
        (
            none_of_images(train_inputs={"a": np.zeros((4, 1))}, test_inputs={"b": np.zeros((4, 1))}),
            "expected one form and the same size in train and test",
        ),
    ],
)
def test_arrays_that_are_no_data_set_are_refused_in_one_line(changes: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as refusal:
        dataset(**changes)
    assert "\n" not in str(refusal.value)


def test_targets_that_are_not_finite_are_refused() -> None:
    targets = [0.0, 1.0, np.nan, np.inf]
    said = the_line(MEAN_ERROR, train_labels=targets)
    assert "train labels hold NaN or infinity in 2 of 4 examples, the first is number 2; leave these out" in said
