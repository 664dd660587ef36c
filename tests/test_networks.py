"""Claims on the networks: sizes and costs counted by hand from the papers' descriptions, and that they train."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from distreal_jax.errors import InputError
from distreal_jax.networks import NETWORKS, make_network

USUAL_SHAPE = {
    "digits_cnn": (8, 8, 1),
    "small_cnn": (28, 28, 1),
    "leaf_cnn": (28, 28, 1),
    "resnet20": (32, 32, 3),
    "densenet40": (32, 32, 3),
}
PUBLISHED_MACS = {"resnet20": 40.8e6, "densenet40": 72.4e6}


class HandCount:
    """Adds up parameters and multiply-accumulates of layers, in the order in which a paper lists them."""

    def __init__(self) -> None:
        self.parameters = 0
        self.macs = 0

    def conv(self, side, kernel, features_in, features, bias=False):
        """A convolution whose result is side x side."""
        weights = kernel * kernel * features_in * features
        self.parameters += weights + (features if bias else 0)
        self.macs += side * side * weights

    def norm(self, features):
        self.parameters += 2 * features

    def dense(self, features_in, features):
        self.parameters += features_in * features + features
        self.macs += features_in * features


def count_digits_cnn() -> HandCount:
    count = HandCount()
    count.conv(8, 3, 1, 16, bias=True)
    count.conv(8, 3, 16, 32, bias=True)
    count.conv(4, 3, 32, 32, bias=True)
    count.dense(4 * 4 * 32, 64)
    count.dense(64, 10)
    return count


def count_leaf_cnn() -> HandCount:
    count = HandCount()
    count.conv(28, 5, 1, 32, bias=True)
    count.conv(14, 5, 32, 64, bias=True)
    count.dense(7 * 7 * 64, 512)
    count.dense(512, 10)
    return count


def count_small_cnn() -> HandCount:
    count = HandCount()
    count.conv(28, 3, 1, 16, bias=True)
    count.conv(14, 3, 16, 32, bias=True)
    count.dense(7 * 7 * 32, 128)
    count.dense(128, 10)
    return count


def count_resnet20() -> HandCount:
    count = HandCount()
    count.conv(32, 3, 3, 16)
    count.norm(16)
    for side, features_in, features in ((32, 16, 16), (16, 16, 32), (8, 32, 64)):
        count.conv(side, 3, features_in, features)
        for _ in range(5):
            count.conv(side, 3, features, features)
        for _ in range(6):
            count.norm(features)
        if features_in != features:
            count.conv(side, 1, features_in, features)
            count.norm(features)
    count.dense(64, 10)
    return count


def count_densenet40() -> HandCount:
    count = HandCount()
    count.conv(32, 3, 3, 24)
    for side, features_in in ((32, 24), (16, 48), (8, 60)):
        for features in range(features_in, features_in + 72, 12):
            count.norm(features)
            count.conv(side, 1, features, 48)
            count.norm(48)
            count.conv(side, 3, 48, 12)
        if side > 8:
            count.norm(features_in + 72)
            count.conv(side, 1, features_in + 72, (features_in + 72) // 2)
    count.norm(132)
    count.dense(132, 10)
    return count


HAND_COUNTS = {
    "digits_cnn": count_digits_cnn,
    "small_cnn": count_small_cnn,
    "leaf_cnn": count_leaf_cnn,
    "resnet20": count_resnet20,
    "densenet40": count_densenet40,
}


def shapes_of_usual_network(name: str) -> nnx.Module:
    """The network in evaluation mode with shapes in place of arrays: counting needs no numbers."""
    network = nnx.eval_shape(lambda: make_network(name, image_shape=USUAL_SHAPE[name], num_classes=10, seed=0))
    network.eval()
    return network


@nnx.jit
def logits_of(network: nnx.Module, images: jax.Array) -> jax.Array:
    return network(images)


def number_of_parameters(network: nnx.Module) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


def observed_macs(network: nnx.Module, image_shape: tuple[int, int, int]) -> int:
    """Forward multiply-accumulates of one image, from the shapes that each layer's kernel and result are seen to have."""
    total = 0

    def observe(next_function, arguments, keywords):
        nonlocal total
        result = next_function(*arguments, **keywords)
        layer = arguments[0]
        positions = math.prod(result.shape[1:-1])
        total += positions * math.prod(layer.kernel.shape)
        return result

    with pytest.MonkeyPatch.context() as patch:
        for kind in (nnx.Conv, nnx.Linear):
            original = kind.__call__
            patch.setattr(kind, "__call__", lambda *a, _original=original, **k: observe(_original, a, k))
        nnx.eval_shape(lambda network, x: network(x), network, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return total


def test_every_network_is_counted_here():
    assert (
        set(HAND_COUNTS)
        == set(USUAL_SHAPE)
        == set(NETWORKS)
        == {"digits_cnn", "small_cnn", "leaf_cnn", "resnet20", "densenet40"}
    )


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        ("digits_cnn", 47_530, 484_992),
        ("small_cnn", 16 * 10 + 32 * (16 * 9 + 1) + 128 * (32 * 49 + 1) + 10 * 129, 1_218_048),
        ("leaf_cnn", 1_663_370, 12_273_152),
        ("resnet20", 272_474, 40_813_184),
        ("densenet40", 176_122, 72_365_352),
    ],
)
def test_sizes_and_costs_are_those_counted_by_hand(name, parameters, macs):
    by_hand = HAND_COUNTS[name]()
    assert (by_hand.parameters, by_hand.macs) == (parameters, macs)
    network = shapes_of_usual_network(name)
    assert number_of_parameters(network) == parameters
    assert observed_macs(network, USUAL_SHAPE[name]) == macs


@pytest.mark.parametrize("name", PUBLISHED_MACS)
def test_costs_are_the_published_ones(name):
    assert HAND_COUNTS[name]().macs == pytest.approx(PUBLISHED_MACS[name], abs=0.05e6)


@settings(max_examples=12)
@given(
    name=st.sampled_from(list(NETWORKS)),
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    channels=st.integers(1, 4),
    num_classes=st.integers(1, 12),
)
def test_every_network_fits_any_image_that_its_pooling_leaves_something_of(name, height, width, channels, num_classes):
    def logits():
        network = make_network(name, image_shape=(height, width, channels), num_classes=num_classes, seed=0)
        network.eval()
        return network(jnp.zeros((3, height, width, channels)))

    abstract = jax.eval_shape(logits)
    assert abstract.shape == (3, num_classes)
    assert abstract.dtype == jnp.float32


@pytest.mark.parametrize("name", NETWORKS)
def test_the_smallest_image_gives_finite_logits_and_a_smaller_one_is_refused(name):
    side = NETWORKS[name].smallest_side
    network = make_network(name, image_shape=(side, side, 1), num_classes=3, seed=0)
    network.eval()
    assert np.isfinite(logits_of(network, jnp.ones((2, side, side, 1)))).all()
    with pytest.raises(InputError, match=f"at least {side}x{side}, these are {side}x{side - 1}"):
        make_network(name, image_shape=(side, side - 1, 1), num_classes=3, seed=0)


def test_weights_depend_on_the_seed_alone():
    one, same, other = (
        jax.tree.leaves(nnx.state(make_network("digits_cnn", image_shape=(8, 8, 1), num_classes=10, seed=seed), nnx.Param))
        for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True) if a.ndim > 1)


def test_kernels_start_with_the_variance_of_he_before_a_relu_and_of_lecun_in_the_classifier():
    network = make_network("leaf_cnn", image_shape=(28, 28, 1), num_classes=100, seed=0)
    for layer, gain in ((network.conv2, 2), (network.hidden, 2), (network.classifier, 1)):
        weights = np.asarray(layer.kernel[...])
        fan_in = math.prod(weights.shape[:-1])
        assert weights.var() == pytest.approx(gain / fan_in, rel=0.05)


@pytest.mark.parametrize("name", ["resnet20", "densenet40"])
def test_batch_norm_uses_the_mini_batch_in_training_and_the_running_average_in_evaluation(name):
    network = make_network(name, image_shape=(8, 8, 1), num_classes=3, seed=0)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    network.eval()
    alone, together = logits_of(network, images[:1]), logits_of(network, images)[:1]
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-4)
    before = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
    network.train()
    in_training = logits_of(network, images)[:1]
    after = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
    assert not np.allclose(alone, in_training, atol=1e-2)
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
    assert all(jax.tree.leaves(moved))


def test_digits_cnn_learns_the_digits():
    digits = load_digits()
    images = jnp.asarray(digits.images[..., None] / 16, jnp.float32)
    labels = jnp.asarray(digits.target)
    order = jax.random.permutation(jax.random.key(0), len(labels))
    train, held_out = order[:1440], order[1440:]
    graph, params = nnx.split(make_network("digits_cnn", image_shape=(8, 8, 1), num_classes=10, seed=0))
    optimizer = optax.sgd(0.1)

    def loss(params, batch):
        logits = nnx.merge(graph, params)(images[batch])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()

    @jax.jit
    def step(carry, batch):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    carry = (params, optimizer.init(params))
    for epoch in range(12):
        for batch in jax.random.permutation(jax.random.key(epoch), train).reshape(-1, 32):
            carry = step(carry, batch)
    predictions = nnx.merge(graph, carry[0])(images[held_out]).argmax(-1)
    assert float((predictions == labels[held_out]).mean()) > 0.97


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"name": "vgg"}, "unknown network 'vgg'; choose from: digits_cnn, small_cnn, leaf_cnn, resnet20, densenet40"),
        ({"image_shape": (8, 8)}, r"image shape \(8, 8\) is not \(height, width, channels\)"),
        ({"image_shape": (8, 8, 0)}, r"image shape \(8, 8, 0\) is not"),
        ({"image_shape": (2, 8, 1)}, "leaf_cnn needs images of at least 4x4, these are 2x8; choose from: digits_cnn"),
        ({"image_shape": (1, 1, 1)}, "leaf_cnn needs images of at least 4x4, these are 1x1; resize the images"),
        ({"num_classes": 0}, "0 classes"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_bad_input_is_refused_in_one_line(wrong, line):
    given = {"name": "leaf_cnn", "image_shape": (28, 28, 1), "num_classes": 10, "seed": 0} | wrong
    with pytest.raises(InputError, match=line) as caught:
        make_network(given.pop("name"), **given)
    assert "\n" not in str(caught.value)
