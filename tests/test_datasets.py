"""Data sets: the right pixels under the right labels, decoded once, and one clear line for what can't be loaded."""

import importlib.machinery
import io
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from distreal_jax.data.datasets import Dataset, load_dataset, synthetic_dataset
from distreal_jax.errors import InputError

# Real data: a folder with tfds/ and data/mnist_writers/. What is not there is not tested, and the reason is shown.
REAL = Path(os.environ.get("DISTREAL_DATA", Path(__file__).parents[2] / "shared"))


def needs(inside: str) -> pytest.MarkDecorator:
    reason = f"no {inside} in ../shared or in the folder that the environment variable DISTREAL_DATA names"
    return pytest.mark.skipif(not (REAL / inside).is_dir(), reason=reason)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache for each test."""
    monkeypatch.setenv("DISTREAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def images_of(count: int, seed: int = 0, size: tuple[int, int, int] = (4, 5, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)


def write_prepared(
    folder: Path,
    name: str = "tiny",
    splits: tuple[str, ...] = ("train", "test"),
    owner: str | None = None,
    owner_kind: str = "text",
    sizes: tuple[tuple[int, int, int], ...] = ((4, 5, 3),),
    label: bool = True,
    classes: int = 3,
    file_format: str = "array_record",
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Writes a set as tensorflow-datasets does when it prepares one; returns the six images of each split."""
    home = folder / name / "1.0.0"
    home.mkdir(parents=True)
    shape = {"dimensions": [str(axis) if len(sizes) == 1 else "-1" for axis in sizes[0][:2]] + [str(sizes[0][2])]}
    features = {"picture": ("image_feature.Image", {"image": {"dtype": "uint8", "shape": shape}})}
    if label:
        features["kind"] = (
            "class_label_feature.ClassLabel",
            {"classLabel": {"numClasses": str(classes)} if classes else {}},
        )
    if owner and owner_kind == "text":
        features[owner] = ("text_feature.Text", {"text": {}})
    elif owner:
        features[owner] = ("class_label_feature.ClassLabel", {"classLabel": {"numClasses": "5"}})
    core = "tensorflow_datasets.core.features"
    described = {key: {"pythonClassName": f"{core}.{kind}", **content} for key, (kind, content) in features.items()}
    (home / "features.json").write_text(
        json.dumps({"pythonClassName": f"{core}.features_dict.FeaturesDict", "featuresDict": {"features": described}})
    )
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    (home / "dataset_info.json").write_text(
        json.dumps(
            {
                "name": name,
                "version": "1.0.0",
                "fileFormat": file_format,
                "splits": [
                    {"name": split, "filepathTemplate": template, "numBytes": "1", "shardLengths": ["6"]} for split in splits
                ],
            }
        )
    )
    pictures = {}
    for number, split in enumerate(splits):
        pictures[split] = [images_of(1, 100 * seed + 10 * number + i, sizes[i % len(sizes)])[0] for i in range(6)]
        writer = ArrayRecordWriter(str(home / f"{name}-{split}.{file_format}-00000-of-00001"), "group_size:1")
        for index, picture in enumerate(pictures[split]):
            png = io.BytesIO()
            PIL.Image.fromarray(picture).save(png, "png")
            example = tf_example_pb2.Example()
            example.features.feature["picture"].bytes_list.value.append(png.getvalue())
            example.features.feature["kind"].int64_list.value.append(index % 3)
            if owner and owner_kind == "text":
                example.features.feature[owner].bytes_list.value.append(f"writer {'cab'[index // 2]}".encode())
            elif owner:
                example.features.feature[owner].int64_list.value.append(4 - index // 2)
            writer.write(example.SerializeToString())
        writer.close()
    return {split: np.array(images) if len(sizes) == 1 else np.zeros(0) for split, images in pictures.items()}


def write_writers(folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "x_train": images_of(6)[..., 0],
        "y_train": np.array([3, 1, 4, 1, 5, 9], np.uint8),
        "writer_train": np.array([250, 7, 250, 7, 99, 250], np.int16),
        "x_test": images_of(2, seed=1)[..., 0],
        "y_test": np.array([2, 6], np.uint8),
    }
    np.savez_compressed(folder / "mnist_writers.npz", **arrays)
    return arrays


def the_line(name: str, data_dir: Path | str | None = None) -> str:
    """What a person is told when the set can't be loaded; always one line."""
    with pytest.raises(InputError) as raised:
        load_dataset(name, data_dir)
    line = str(raised.value)
    assert "\n" not in line
    return line


def assert_equal(first: Dataset, second: Dataset) -> None:
    for one, other in ((first.train, second.train), (first.test, second.test)):
        for given, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(first.train_clients, second.train_clients)


def test_digits_need_no_data_folder_and_split_every_class_four_to_one():
    digits = load_dataset("digits", "no/such/folder")
    train, test = np.bincount(digits.train.targets), np.bincount(digits.test.targets)
    assert digits.image_shape == (8, 8, 1)
    assert train.sum() + test.sum() == 1797
    assert (test == (train + test) // 5).all()
    assert set(np.unique(digits.train.inputs)) == {round(level * 255 / 16) for level in range(17)}
    assert digits.train_clients is None
    assert_equal(digits, load_dataset("digits"))


def test_mean_and_deviation_of_pixels_are_those_computed_by_hand():
    # Channel 0: half 0, half 255: mean 1/2, deviation 1/2. Channel 1: 0, 0, 0, 255: mean 1/4, deviation sqrt(3)/4.
    train = np.zeros((2, 1, 2, 3), np.uint8)
    train[0, :, :, 0] = 255
    train[1, 0, 1, 1] = 255
    train[..., 2] = 51  # constant
    arrays = {"train_images": train, "train_labels": np.array([0, 1]), "test_images": train, "test_labels": np.array([1, 1])}
    dataset = Dataset.from_arrays("by hand", 2, arrays)
    np.testing.assert_allclose(dataset.train.mean, [0.5, 0.25, 0.2], rtol=1e-6)
    np.testing.assert_allclose(dataset.train.std, [0.5, np.sqrt(3) / 4, 1.0], rtol=1e-6)
    assert dataset.train.mean.dtype == dataset.train.std.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"test_images": images_of(2, size=(5, 5, 3))}, "the same size in train and test"),
        ({"train_labels": np.zeros(3, int)}, "4 train inputs and 3 labels"),
        ({"test_labels": np.array([0, 3])}, "test labels 0 to 3, not of 3 classes"),
        ({"train_labels": np.array([0, 1, -1, 2])}, "train labels -1 to 2"),
        ({"test_images": images_of(0), "test_labels": np.zeros(0, int)}, "0 test inputs"),
        ({"train_clients": np.zeros(2, int)}, r"\(2,\) clients"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(changes, complaint):
    arrays = {
        "train_images": images_of(4),
        "train_labels": np.array([0, 1, 2, 0]),
        "test_images": images_of(2),
        "test_labels": np.array([0, 1]),
    }
    with pytest.raises(InputError, match=complaint):
        Dataset.from_arrays("mine", 3, arrays | changes)


@pytest.mark.parametrize("inside", ["", "mnist_writers", "data/mnist_writers", "../data/mnist_writers"])
def test_mnist_writers_are_found_where_the_folder_of_data_is_named(tmp_path, inside):
    (tmp_path / "data_dir").mkdir()
    arrays = write_writers(tmp_path / "data_dir" / inside)
    dataset = load_dataset("mnist_writers", tmp_path / "data_dir")
    assert dataset.image_shape == (4, 5, 1)
    np.testing.assert_array_equal(dataset.train.inputs[..., 0], arrays["x_train"])
    np.testing.assert_array_equal(dataset.test.targets, arrays["y_test"])
    assert dataset.train_clients.tolist() == [2, 0, 2, 0, 1, 2]


def test_mnist_writers_without_their_file_say_how_to_get_it(tmp_path):
    for line in (the_line("mnist_writers"), the_line("mnist_writers", tmp_path)):
        assert "mnist_writers.npz" in line and "QMNIST" in line and "writer_train" in line


def test_mnist_writers_in_a_damaged_or_other_file_are_refused(tmp_path):
    write_writers(tmp_path)
    file = tmp_path / "mnist_writers.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in the_line("mnist_writers", tmp_path)
    np.savez(file, x_train=np.zeros(3))
    assert "has no array writer_train" in the_line("mnist_writers", tmp_path)
    names = ("x_train", "y_train", "writer_train", "x_test", "y_test")
    for array in (np.array([{}]), np.array(["a"]), np.array([1.5]), np.zeros((0, 3), np.uint8), np.array(3)):
        np.savez(file, **dict.fromkeys(names, array))
        assert the_line("mnist_writers", tmp_path)


def test_a_prepared_set_is_read_without_tensorflow_pixel_by_pixel(tmp_path, capfd):
    imported_before = "tensorflow" in sys.modules
    pictures = write_prepared(tmp_path)
    dataset = load_dataset("tiny", tmp_path)
    assert ("tensorflow" in sys.modules) == imported_before
    assert dataset.name == "tiny" and dataset.num_classes == 3 and dataset.image_shape == (4, 5, 3)
    np.testing.assert_array_equal(dataset.train.inputs, pictures["train"])
    np.testing.assert_array_equal(dataset.test.inputs, pictures["test"])
    assert dataset.train.targets.tolist() == dataset.test.targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.train.targets.dtype == np.int32
    assert dataset.train_clients is None
    assert capfd.readouterr().out == ""


def test_grey_images_keep_their_channel(tmp_path):
    home = tmp_path / "grey" / "1.0.0"
    write_prepared(tmp_path, "grey")
    features = json.loads((home / "features.json").read_text())
    features["featuresDict"]["features"]["picture"]["image"]["shape"]["dimensions"] = ["4", "5", "1"]
    (home / "features.json").write_text(json.dumps(features))
    for split in ("train", "test"):
        writer = ArrayRecordWriter(str(home / f"grey-{split}.array_record-00000-of-00001"), "group_size:1")
        for index in range(6):
            png = io.BytesIO()
            PIL.Image.fromarray(images_of(1, index)[0, ..., 0]).save(png, "png")
            example = tf_example_pb2.Example()
            example.features.feature["picture"].bytes_list.value.append(png.getvalue())
            example.features.feature["kind"].int64_list.value.append(0)
            writer.write(example.SerializeToString())
        writer.close()
    dataset = load_dataset("grey", tmp_path)
    assert dataset.image_shape == (4, 5, 1)
    np.testing.assert_array_equal(dataset.train.inputs[2], images_of(1, 2)[0, ..., :1])


def test_the_validation_split_stands_in_for_an_absent_test_split(tmp_path):
    pictures = write_prepared(tmp_path, splits=("train", "validation"))
    np.testing.assert_array_equal(load_dataset("tiny", tmp_path).test.inputs, pictures["validation"])


@pytest.mark.parametrize(("owner", "owner_kind"), [("client_id", "text"), ("writer", "text"), ("user", "class")])
def test_a_feature_that_names_the_owner_gives_natural_clients(tmp_path, owner, owner_kind):
    write_prepared(tmp_path, owner=owner, owner_kind=owner_kind)
    dataset = load_dataset("tiny", tmp_path)
    assert dataset.train_clients.tolist() == [2, 2, 0, 0, 1, 1] if owner_kind == "text" else [2, 2, 1, 1, 0, 0]
    assert_equal(dataset, load_dataset("tiny", tmp_path))


def test_a_set_is_decoded_once(tmp_path, cache):
    write_prepared(tmp_path)
    decoded = load_dataset("tiny", tmp_path)
    assert [file.suffix for file in cache.iterdir()] == [".npz"]
    records = tmp_path / "tiny" / "1.0.0" / "tiny-train.array_record-00000-of-00001"
    before = records.stat()
    records.write_bytes(bytes(before.st_size))
    os.utime(records, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert_equal(decoded, load_dataset("tiny", tmp_path))


def test_two_preparations_of_one_set_are_not_mixed_up(tmp_path):
    for seed in (0, 1):
        pictures = write_prepared(tmp_path / str(seed), seed=seed)
        np.testing.assert_array_equal(load_dataset("tiny", tmp_path / str(seed)).train.inputs, pictures["train"])


@pytest.mark.parametrize("damage", ["truncated", "one byte", "other arrays", "nonsense", "a folder"])
def test_a_damaged_cache_is_decoded_again(tmp_path, cache, damage):
    write_prepared(tmp_path)
    decoded = load_dataset("tiny", tmp_path)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    match damage:
        case "truncated":
            file.write_bytes(whole[: len(whole) // 2])
        case "one byte":
            position = whole.index(decoded.train.inputs.tobytes()) + 7
            file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        case "other arrays":
            np.savez(file, **dict.fromkeys(("train_images", "train_labels", "test_images", "test_labels"), np.zeros(3)))
        case "nonsense":
            file.write_bytes(b"nonsense")
        case "a folder":
            file.unlink()
            file.mkdir()
    assert_equal(decoded, load_dataset("tiny", tmp_path))


def test_the_cache_is_in_the_home_folder_unless_another_is_named(tmp_path, monkeypatch):
    write_prepared(tmp_path)
    monkeypatch.delenv("DISTREAL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load_dataset("tiny", tmp_path)
    assert len(list((tmp_path / "home" / ".cache" / "distreal_jax").iterdir())) == 1


def test_a_cache_that_can_not_be_written_is_done_without(tmp_path, monkeypatch):
    pictures = write_prepared(tmp_path)
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("DISTREAL_CACHE", str(tmp_path / "a file" / "cache"))
    np.testing.assert_array_equal(load_dataset("tiny", tmp_path).train.inputs, pictures["train"])


@pytest.mark.parametrize(
    ("prepared", "complaint"),
    [
        ({"splits": ("train",)}, "has the splits train; expected train, and test or validation"),
        ({"sizes": ((4, 5, 3), (6, 5, 3))}, "differ in size; choose a set whose images have one size"),
        ({"classes": 0}, "does not say how many classes"),
        ({"label": False}, "an example has 1 images and 0 class labels"),
        ({"file_format": "tfrecord"}, "not in the format array_record"),
    ],
)
def test_a_prepared_set_that_is_no_classification_of_images_of_one_size_is_refused(tmp_path, cache, prepared, complaint):
    write_prepared(tmp_path, **prepared)
    assert complaint in the_line("tiny", tmp_path)
    assert not cache.exists()


def test_damaged_records_are_refused_with_the_folder_to_prepare_again(tmp_path):
    write_prepared(tmp_path)
    records = tmp_path / "tiny" / "1.0.0" / "tiny-train.array_record-00000-of-00001"
    records.write_bytes(bytes(records.stat().st_size))
    assert f"{str(records.parent)!r} can't be read" in the_line("tiny", tmp_path)
    records.unlink()
    assert f"{str(records.parent)!r} can't be read" in the_line("tiny", tmp_path)


@pytest.mark.parametrize("name", ["", "cifar_10", "fashion-mnist", "../tiny", "no_such_set", "a b"])
def test_an_unknown_name_lists_what_there_is(tmp_path, capfd, name):
    line = the_line(name, tmp_path)
    assert line.startswith(f"unknown data set {name!r}")
    for choice in ("digits", "mnist_writers", "any image classification set of tensorflow-datasets", "fashion_mnist"):
        assert choice in line
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "meant"), [("digit", "digits"), ("cifar1", "cifar10"), ("fashion-mnist", "fashion_mnist")])
def test_a_misspelt_name_is_recognised(name, meant):
    assert f"did you mean {meant}" in the_line(name)


def test_an_unknown_version_says_which_there_are(tmp_path):
    assert "only: 3.0" in the_line("cifar10:1.2.3", tmp_path)


def test_a_missing_data_folder_is_refused(tmp_path):
    line = the_line("cifar10", tmp_path / "absent")
    assert "absent' does not exist" in line and "downloaded" in line
    assert not (tmp_path / "absent").exists()


def test_a_set_that_is_not_there_and_of_different_sizes_is_never_downloaded(tmp_path):
    assert "differ in size" in the_line("imagenet2012", tmp_path)


def test_preparing_a_set_without_tensorflow_says_what_to_install(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    line = the_line("mnist", tmp_path)
    assert "pip install tensorflow-cpu" in line and "--data-dir" in line
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_preparing_a_set_without_a_network_says_how_to_get_it(tmp_path, monkeypatch):
    installed = types.ModuleType("tensorflow")
    installed.__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)
    monkeypatch.setitem(sys.modules, "tensorflow", installed)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for variable in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there
    line = the_line("mnist", tmp_path)
    assert "can't be reached" in line and "tensorflow_datasets.builder('mnist'" in line
    assert not list(tmp_path.iterdir())


def test_a_synthetic_set_can_be_learnt_and_is_a_function_of_its_seed():
    settings = {"num_examples": 200, "image_shape": (8, 6, 3), "num_classes": 7}
    dataset = synthetic_dataset(**settings, seed=0)
    assert dataset.image_shape == (8, 6, 3) and len(dataset.train.targets) == 200 and len(dataset.test.targets) == 20
    means = np.array([dataset.train.inputs[dataset.train.targets == label].mean(axis=0) for label in range(7)])
    distances = ((dataset.test.inputs[:, None] - means[None]) ** 2).sum(axis=(2, 3, 4))
    np.testing.assert_array_equal(distances.argmin(axis=1), dataset.test.targets)
    assert len(np.unique(dataset.train.inputs, axis=0)) == 200
    assert_equal(dataset, synthetic_dataset(**settings, seed=0))
    assert (dataset.train.inputs != synthetic_dataset(**settings, seed=1).train.inputs).any()


@pytest.mark.parametrize("change", [{"num_examples": 0}, {"image_shape": (8, 0, 1)}, {"num_classes": 0}, {"seed": -1}])
def test_a_synthetic_set_of_nothing_is_refused(change):
    with pytest.raises(InputError, match="expected positive numbers"):
        synthetic_dataset(**{"num_examples": 10, "image_shape": (8, 8, 1), "num_classes": 2, "seed": 0} | change)


@needs("tfds/cifar10")
def test_cifar10_has_the_published_pixels():
    dataset = load_dataset("cifar10", REAL / "tfds")
    assert dataset.train.inputs.shape == (50_000, 32, 32, 3) and dataset.num_classes == 10
    assert (np.bincount(dataset.train.targets) == 5000).all() and (np.bincount(dataset.test.targets) == 1000).all()
    np.testing.assert_allclose(dataset.train.mean, [0.4914, 0.4822, 0.4465], atol=1e-4)
    np.testing.assert_allclose(dataset.train.std, [0.2470, 0.2435, 0.2616], atol=1e-4)


@needs("tfds/fashion_mnist")
def test_fashion_mnist_has_the_published_pixels():
    dataset = load_dataset("fashion_mnist", REAL / "tfds")
    assert dataset.train.inputs.shape == (60_000, 28, 28, 1) and dataset.num_classes == 10
    assert (np.bincount(dataset.train.targets) == 6000).all() and (np.bincount(dataset.test.targets) == 1000).all()
    np.testing.assert_allclose((dataset.train.mean, dataset.train.std), [[0.2860], [0.3530]], atol=1e-4)


@needs("data/mnist_writers")
@pytest.mark.parametrize("named", ["", "tfds", "data/mnist_writers"])
def test_mnist_has_539_writers_wherever_in_the_shared_folder_one_points(named):
    dataset = load_dataset("mnist_writers", REAL / named)
    sizes = np.bincount(dataset.train_clients)
    assert (len(sizes), sizes.min(), np.median(sizes), sizes.max()) == (539, 19, 116, 131)
    assert dataset.train.inputs.shape == (60_000, 28, 28, 1) and dataset.test.inputs.shape == (10_000, 28, 28, 1)
    np.testing.assert_allclose((dataset.train.mean, dataset.train.std), [[0.1307], [0.3081]], atol=1e-4)
