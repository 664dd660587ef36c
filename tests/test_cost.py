"""Claims about cost: `macs` agrees with what XLA counts of the compiled program.

XLA counts two operations for each multiply-accumulate of a product and one for each result of elementwise arithmetic, twice
where fusion computes it twice. Convolutions are in the form of patches times matrix, as XLA counts a padded convolution at
valid positions only (`test_xla_leaves_padded_positions_out`); and of a loop it counts the body once, so a step stands alone.

Elementwise work is proportional to activations, so to the widths; products of neighbouring layers to their squares. Along
widths of 1/4, 1/2 and 3/4 of each group the second difference of XLA's count is therefore that of the products alone, and
has to be that of `macs` exactly.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from distreal_jax.networks import make_network
from distreal_jax.step import Batch, LocalStep, forward, split_variables
from distreal_jax.tracing import trace_network

BATCH = 2
QUICKLY = {"xla_backend_optimization_level": 0}  # what is compiled here never runs
NO_FUSION = {**QUICKLY, "xla_disable_hlo_passes": "fusion"}
QUARTERS = (1, 2, 3)


@functools.cache
def traced(name):
    """A network for 8x8 images of one channel, traced without computing initial weights."""
    model = nnx.eval_shape(lambda: make_network(name, image_shape=(8, 8, 1), num_classes=10, seed=0))
    return trace_network(model, jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)), *split_variables(model)


def lowered_forward(name, widths, convolution="patches"):
    network, *variables = traced(name)

    def logits(params, others, images):
        return forward(network, params, others, images, train=False, convolution=convolution)[0]

    images = jax.ShapeDtypeStruct((BATCH, 8, 8, 1), jnp.float32)
    return jax.jit(logits).lower(*(network.shapes(tree, widths) for tree in variables), images)


def lowered_step(name, widths):
    """Forward, backward and update of plain SGD."""
    network, params, others = traced(name)
    others = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), network.shapes(others, widths))
    step = LocalStep(network, optax.sgd(0.1), others, convolution="patches")
    learner = jax.eval_shape(step.start, network.shapes(params, widths))
    batch = Batch(jax.ShapeDtypeStruct((BATCH, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((BATCH,), jnp.int32))
    return jax.jit(step.ordinary).lower(learner, learner.params, batch, jax.random.key(0))


def operations(program):
    return program.cost_analysis()["flops"]


def at_quarters(name):
    return [[filters * quarter // 4 for filters in traced(name)[0].full_widths] for quarter in QUARTERS]


def elementwise_of_digits_cnn(a, b, c, h):
    """Bias and ReLU of every activation, three maxima for each tile of a 2x2 pooling, bias of the classifier."""
    return 2 * 64 * (a + b) + 3 * 16 * b + 2 * 16 * c + 2 * h + 10


def elementwise_of_leaf_cnn(a, b, h):
    return 2 * 64 * a + 3 * 16 * a + 2 * 16 * b + 3 * 4 * b + 2 * h + 10


@pytest.mark.parametrize(
    ("name", "widths", "elementwise"),
    [
        ("digits_cnn", (16, 32, 32, 64), elementwise_of_digits_cnn),
        ("digits_cnn", (5, 17, 31, 3), elementwise_of_digits_cnn),
        ("leaf_cnn", (32, 64, 512), elementwise_of_leaf_cnn),
        ("leaf_cnn", (11, 50, 64), elementwise_of_leaf_cnn),
    ],
)
def test_xla_counts_macs_and_the_elementwise_operations(name, widths, elementwise):
    """To the last operation, for the networks whose elementwise operations are easily counted by hand."""
    counted = operations(lowered_forward(name, widths).compile(compiler_options=NO_FUSION))
    assert counted == BATCH * (2 * traced(name)[0].macs(widths) + elementwise(*widths))


def test_xla_leaves_padded_positions_out():
    """Of the elements under 3x3 windows, 22 x 22 of 24 x 24 lie inside an 8x8 image, and 10 x 10 of 12 x 12 inside a 4x4."""
    widths = a, b, c, h = 5, 17, 31, 3
    counted = operations(lowered_forward("digits_cnn", widths, "library").compile(compiler_options=NO_FUSION))
    inside = 22**2 * (a + a * b) + 10**2 * b * c + 16 * c * h + 10 * h
    assert counted == BATCH * (2 * inside + elementwise_of_digits_cnn(*widths))
    assert traced("digits_cnn")[0].macs(widths) == 24**2 * (a + a * b) + 12**2 * b * c + 16 * c * h + 10 * h


@pytest.mark.parametrize("name", ["digits_cnn", "leaf_cnn", "resnet20", "densenet40"])
def test_xla_counts_the_products_of_a_compiled_forward_pass_as_macs_does(name):
    network = traced(name)[0]
    macs = np.array([network.macs(widths) for widths in at_quarters(name)])
    counted = np.array([operations(lowered_forward(name, w).compile(compiler_options=QUICKLY)) for w in at_quarters(name)])
    assert np.diff(counted, 2) == 2 * BATCH * np.diff(macs, 2)
    elementwise = counted - 2 * BATCH * macs
    assert (elementwise > 0).all()
    assert (elementwise < 0.5 * counted).all()


@pytest.mark.parametrize(
    ("name", "compiled"), [("digits_cnn", True), ("leaf_cnn", False), ("resnet20", False), ("densenet40", False)]
)
def test_xla_counts_three_forward_passes_for_a_training_step(name, compiled):
    """One forward, one for the gradient of the kernels, one for that of the activations (the first layer needs none).

    The update takes two operations for each parameter. XLA's count is rounded to single precision. The steps of larger
    networks, which take long to compile, are counted as they are handed to XLA.
    """
    network = traced(name)[0]
    programs = [lowered_step(name, widths) for widths in at_quarters(name)]
    counted = [operations(p.compile(compiler_options=NO_FUSION) if compiled else p) for p in programs]
    macs = [network.macs(widths) for widths in at_quarters(name)]
    parameters = [network.variables(widths) for widths in at_quarters(name)]
    products = np.diff(counted, 2) - 2 * np.diff(parameters, 2)
    np.testing.assert_allclose(products, 3 * 2 * BATCH * np.diff(macs, 2), rtol=1e-5)
