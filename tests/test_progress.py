"""The search's proxy of progress: fair between candidates, deterministic, and blind to what it is measured on."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given as given_by_hypothesis
from hypothesis import strategies as st

from distreal_jax.data.datasets import synthetic_dataset
from distreal_jax.errors import InputError
from distreal_jax.networks import make_network
from distreal_jax.search.progress import Progress, ProgressSettings, describe
from distreal_jax.search.training_sizes import by_size
from distreal_jax.step import Batch, Examples, split_variables
from distreal_jax.table import Configuration, Configurations
from distreal_jax.tracing import TracedNetwork, inside_blocks, trace_network

CLASSES, EXAMPLES = 4, 160
SETTINGS = ProgressSettings(rounds=1, devices=2, steps=3, batch_size=8, snapshots=(0, 5), held_out=60, sizes=1)
CANDIDATES = np.array([[1, 1], [6, 8], [3, 4], [6, 2]])
of_widths = Configurations.of_widths
ALL = of_widths(CANDIDATES)
FULL = 1  # in CANDIDATES


class TinyNetwork(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 6, (2, 2), padding="VALID", rngs=rngs)
        self.hidden = nnx.Linear(54, 8, rngs=rngs)
        self.classifier = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.conv(images))
        return self.classifier(nnx.relu(self.hidden(x.reshape(x.shape[0], -1))))


@dataclasses.dataclass
class Given:
    network: TracedNetwork
    params: Any
    others: Any
    train: Examples

    def progress(
        self, settings: ProgressSettings = SETTINGS, seed: int = 0, train: Examples | None = None, **how: Any
    ) -> Progress:
        optimizer = how.pop("optimizer", optax.sgd(0.1))
        return Progress(self.network, self.params, self.others, train or self.train, optimizer, settings, seed=seed, **how)


@pytest.fixture(scope="module")
def given() -> Given:
    dataset = synthetic_dataset(num_examples=EXAMPLES, image_shape=(4, 4, 1), num_classes=CLASSES, seed=1)
    model = TinyNetwork(nnx.Rngs(0))
    network = trace_network(model, jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32))
    return Given(network, *split_variables(model), jax.tree.map(jnp.asarray, dataset.train))


@functools.cache
def traced(name: str, shape: tuple[int, int, int]) -> TracedNetwork:
    model = nnx.eval_shape(lambda: make_network(name, image_shape=shape, num_classes=10, seed=0))
    return trace_network(model, jax.ShapeDtypeStruct((1, *shape), jnp.float32))


@pytest.fixture(scope="module")
def progress(given: Given) -> Progress:
    return given.progress()


@pytest.fixture(scope="module")
def measured(progress: Progress) -> np.ndarray:
    return progress(ALL, 0)


def test_the_full_network_learns_more_than_one_filter(measured: np.ndarray) -> None:
    assert measured.shape == (4,)
    assert measured[FULL] == measured.max() > measured[0]
    assert measured[FULL] > 0


def test_progress_repeats_and_other_seeds_and_repeats_draw_other_numbers(
    given: Given, progress: Progress, measured: np.ndarray
) -> None:
    np.testing.assert_array_equal(progress(ALL, 0), measured)
    assert np.all(progress(ALL, 1) != measured)
    np.testing.assert_array_equal(progress(ALL, 0), measured)  # whatever was measured between
    assert np.all(given.progress(dataclasses.replace(SETTINGS, snapshots=(0,)), seed=1)(ALL, 0) != measured)


def test_a_candidates_progress_depends_neither_on_the_others_nor_on_its_place(
    progress: Progress, measured: np.ndarray
) -> None:
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(progress(of_widths(CANDIDATES[order]), 0), measured[order])
    np.testing.assert_array_equal(progress(of_widths(np.repeat(CANDIDATES[2:3], 4, axis=0)), 0), np.repeat(measured[2:3], 4))


def test_all_candidates_get_the_same_random_numbers(progress: Progress) -> None:
    """Else two equal vectors in one batch would differ."""
    same = progress(of_widths([[3, 4]] * 4), 2)
    assert len(set(same.tolist())) == 1


def test_candidates_of_an_odd_number_or_side_by_side_give_the_same(
    given: Given, progress: Progress, measured: np.ndarray
) -> None:
    np.testing.assert_array_equal(progress(of_widths(CANDIDATES[:3]), 0), measured[:3])
    vmapped = given.progress(dataclasses.replace(SETTINGS, vmapped=2))
    np.testing.assert_allclose(vmapped(ALL, 0), measured, rtol=1e-4, atol=1e-5)


def test_the_size_that_a_candidate_is_computed_at_changes_nothing(given: Given) -> None:
    """To rounding, as the draws are the same; here 2 of 6 filters within 2, 4 or 6."""
    for rescale, sizes in ((False, 2), (True, 3)):
        whole, part = (
            given.progress(dataclasses.replace(SETTINGS, sizes=count), rescale=rescale).trained(Configuration((2, 8)), 0)
            for count in (1, sizes)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), part, whole)


@pytest.mark.parametrize(("name", "shape"), [("leaf_cnn", (28, 28, 1)), ("resnet20", (32, 32, 3))])
@given_by_hypothesis(seed=st.integers(0, 1000), count=st.integers(1, 5))
def test_a_candidate_fits_into_its_size_which_is_one_of_a_few_whatever_the_others_are(
    name: str, shape: tuple[int, int, int], seed: int, count: int
) -> None:
    network = traced(name, shape)
    rates = np.random.default_rng(seed).uniform(0, 0.99, (40, len(network.full_widths)))
    widths = np.maximum(1, np.round((1 - rates) * network.full_widths).astype(int))
    found = by_size(network, widths, count)
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(40))
    assert len({size[: -1 if name == "leaf_cnn" else None] for size in found}) <= count**2  # hidden units apart
    for size, members in found.items():
        assert np.all(widths[members] <= size) and np.all(np.array(size) <= network.full_widths)
        assert list(by_size(network, widths[members[:1]], count)) == [size]


def test_sizes_are_the_smallest_of_the_steps_of_each_half_of_a_chain() -> None:
    """LEAF CNN: 32, 64 and 512 filters, here in quarters; worked out by hand."""
    network = traced("leaf_cnn", (28, 28, 1))
    for widths, size in {
        (8, 33, 512): (8, 48, 512),
        (9, 16, 1): (16, 16, 128),
        (1, 1, 129): (8, 16, 256),
        (32, 64, 512): (32, 64, 512),
    }.items():
        assert list(by_size(network, np.array([widths]), 4)) == [size]


@pytest.mark.parametrize(
    ("name", "inside", "count"), [("resnet20", r"blocks\.\d\.conv1", 9), ("densenet40", r".*bottleneck", 18)]
)
def test_inside_blocks_are_the_first_convolutions_of_residual_blocks_and_the_bottlenecks_of_dense_ones(
    name: str, inside: str, count: int
) -> None:
    network = traced(name, (32, 32, 3))
    names = [group.name for group, is_inside in zip(network.filter_groups, inside_blocks(network), strict=True) if is_inside]
    assert len(names) == count and all(re.fullmatch(inside, name) for name in names)


def test_vectors_of_blocks_are_trained_with_whole_streams_and_narrow_blocks() -> None:
    network = traced("resnet20", (32, 32, 3))
    inside = inside_blocks(network)
    full = np.array(network.full_widths)
    narrow = np.where(inside, 1, full)
    (size,) = by_size(network, narrow[None], 4)
    assert np.all(np.array(size) == np.where(inside, full // 4, full))


def test_candidates_of_all_sizes_come_back_in_their_places(given: Given, measured: np.ndarray) -> None:
    many = given.progress(dataclasses.replace(SETTINGS, sizes=3))(ALL, 0)
    np.testing.assert_allclose(many, measured, atol=1 / SETTINGS.held_out)  # an example more or less; one size in `measured`


class AnySizeNetwork(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 6, (2, 2), rngs=rngs)
        self.classifier = nnx.Linear(6, CLASSES, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.classifier(nnx.relu(self.conv(images)).mean(axis=(1, 2)))


def test_progress_on_shrunk_images_is_that_on_images_that_were_small_from_the_first(given: Given) -> None:
    model = AnySizeNetwork(nnx.Rngs(0))
    network = trace_network(model, jax.ShapeDtypeStruct((1, 12, 12, 1), jnp.float32))
    small = Given(network, *split_variables(model), given.train)
    larger = given.train._replace(inputs=given.train.inputs.repeat(3, axis=1).repeat(3, axis=2))
    candidates = np.array([[1], [3], [6]])
    shrunk = small.progress(dataclasses.replace(SETTINGS, shrink=3), train=larger)(of_widths(candidates), 0)
    np.testing.assert_array_equal(shrunk, small.progress()(of_widths(candidates), 0))


class OrderedBySize(AnySizeNetwork):
    """A product of three, which begins with other two of them where the height exceeds the number of channels."""

    def __call__(self, images: jax.Array) -> jax.Array:
        x = self.conv(images).mean(2)
        return self.classifier(jnp.einsum("nhi,nhj,nkj->nki", x, x, x).mean(1))


def test_a_network_that_does_something_else_on_shrunk_images_is_refused(given: Given) -> None:
    model = OrderedBySize(nnx.Rngs(0))
    network = trace_network(model, jax.ShapeDtypeStruct((1, 12, 12, 1), jnp.float32))
    larger = given.train._replace(inputs=given.train.inputs.repeat(3, axis=1).repeat(3, axis=2))
    with pytest.raises(InputError, match=r"does something else on images shrunk to 4x4 .* than on those of 12x12; "):
        Given(network, *split_variables(model), larger).progress(dataclasses.replace(SETTINGS, shrink=3))


def test_images_are_shrunk_by_the_mean_of_their_pixels_to_what_the_network_takes(given: Given) -> None:
    pixels = np.array([[0, 10, 7, 7], [20, 31, 7, 8]], np.uint8).reshape(1, 2, 4, 1)
    assert given.train._replace(inputs=jnp.asarray(pixels)).shrunk(2).inputs.ravel().tolist() == [15, 7]
    with pytest.raises(InputError, match="images of 4x4 can't be shrunk by 3; give a divisor of both"):
        given.progress(dataclasses.replace(SETTINGS, shrink=3))
    with pytest.raises(InputError, match=r"can't be run on images shrunk to 2x2 \(progress shrink 2\)"):
        given.progress(dataclasses.replace(SETTINGS, shrink=2))


def test_progress_per_mac_is_relative_to_the_full_networks_cost(given: Given, measured: np.ndarray) -> None:
    per_mac = given.progress(dataclasses.replace(SETTINGS, unit="mac"))(ALL, 0)
    macs = given.network.training_macs_of_many(CANDIDATES)
    np.testing.assert_allclose(per_mac, np.maximum(measured * given.network.training_macs() / macs, -1), rtol=1e-6)
    assert per_mac[FULL] == measured[FULL]


class Watched(Examples):
    """Training data that notes which examples are asked for, by how many at once."""

    asked: dict[int, set[int]]

    def batch(self, index: jax.Array, classes: jax.Array | None = None) -> Batch:
        jax.debug.callback(lambda chosen: Watched.asked.setdefault(len(chosen), set()).update(chosen.tolist()), index)
        return super().batch(index, classes)


def test_held_out_examples_are_never_trained_on(given: Given) -> None:
    Watched.asked = {}
    given.progress(train=Watched(*given.train))(ALL, 0)
    jax.effects_barrier()
    held_out, trained_on = Watched.asked.pop(SETTINGS.held_out), Watched.asked.pop(SETTINGS.batch_size)
    assert not Watched.asked
    assert len(held_out) == SETTINGS.held_out and not held_out & trained_on
    # 5 mini-batches before the snapshot, 3 of each of 2 devices from each of two snapshots: 136 draws from the 100 others
    assert 50 < len(trained_on) <= EXAMPLES - SETTINGS.held_out


def test_a_short_training_is_that_of_a_federation(given: Given) -> None:
    """Where all examples are alike nothing is random: the mean of devices is a device, two rounds are a longer one."""
    mean, std = given.train.mean, given.train.std
    images = given.train.inputs
    alike = Examples(jnp.broadcast_to(images[:1], images.shape), jnp.zeros_like(given.train.targets), mean, std)

    def trained(rounds: int, devices: int, steps: int) -> Any:
        settings = dataclasses.replace(SETTINGS, rounds=rounds, devices=devices, steps=steps)
        return given.progress(settings, train=alike).trained(Configuration((6, 8)), 0)

    reference = trained(1, 1, 6)
    for rounds, devices, steps in ((1, 3, 6), (3, 2, 2)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), trained(rounds, devices, steps), reference)


def test_a_candidate_that_diverges_has_lost_everything(given: Given) -> None:
    diverging = given.progress(dataclasses.replace(SETTINGS, snapshots=(0,)), optimizer=optax.sgd(float("inf")))
    np.testing.assert_array_equal(diverging(ALL, 0), -1.0)


def test_a_snapshot_that_diverged_is_told_of(given: Given) -> None:
    with pytest.raises(InputError, match="output for examples of 4x4 is not finite before any short training"):
        given.progress(optimizer=optax.sgd(float("inf")))(ALL, 0)


def test_rescaling_changes_narrow_candidates_alone(given: Given, measured: np.ndarray) -> None:
    rescaled = given.progress(rescale=True)(ALL, 0)
    np.testing.assert_allclose(rescaled[FULL], measured[FULL], rtol=1e-5)
    assert np.all(np.abs(np.delete(rescaled - measured, FULL)) > 1e-4)


def test_a_measurement_is_described_by_its_settings() -> None:
    described = describe(SETTINGS, "digits", 3)
    assert describe(SETTINGS, "digits", 3) == described
    assert describe(dataclasses.replace(SETTINGS, steps=7), "digits", 3) != described != describe(SETTINGS, "digits", 4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "progress steps is 0; give a whole number of at least 1"),
        ({"held_out": 0}, "progress held_out is 0; give a whole number of at least 1"),
        ({"shrink": 0}, "progress shrink is 0; give a whole number of at least 1"),
        ({"snapshots": ()}, "snapshots are (); give at least one number"),
        ({"snapshots": (-1,)}, "progress snapshots is (-1,); give a list, each a whole number of at least 0"),
        ({"unit": "second"}, "progress unit is second; give one of: batch, mac"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        ProgressSettings(**settings)
    assert said in str(error.value)


def test_something_has_to_be_left_to_train_on(given: Given) -> None:
    with pytest.raises(InputError, match="160 of 160 training examples can't be held out; hold out fewer"):
        given.progress(dataclasses.replace(SETTINGS, held_out=EXAMPLES))


def test_every_knob_of_a_short_training_is_that_of_a_step(given: Given) -> None:
    """Half of the examples, a frozen layer and a longer step, beside a candidate that chooses nothing but filters."""
    progress = given.progress(every_knob=True)
    plain, chosen = Configuration((3, 4)), Configuration((3, 4), 0.5, 1, 2.0)
    both = progress(Configurations.of([plain, chosen]), 0)
    np.testing.assert_allclose(both[0], given.progress()(Configurations.of([plain]), 0)[0], atol=1e-6)
    assert both[1] != both[0] and both[1] == progress(Configurations.of([chosen]), 0)[0]
    trained = given.progress(dataclasses.replace(SETTINGS, snapshots=(0,)), every_knob=True).trained(chosen, 0)
    moved = jax.tree.map(lambda new, old: bool(np.any(np.asarray(new)[0] != np.asarray(old))), trained, given.params)
    assert jax.tree.leaves(moved) == jax.tree.leaves(given.network.trained(given.params, 1))
