"""Claims about cost: `macs` agrees with what XLA counts of the compiled program.

XLA counts two operations for each multiply-accumulate of a product and one for each result of elementwise arithmetic, twice
where fusion computes it twice. Convolutions are in the form of patches times matrix, as XLA counts a padded convolution at
valid positions only (`test_xla_leaves_padded_positions_out`); and of a loop it counts the body once, so a step stands alone.

Elementwise work is proportional to activations, so to the widths; products of neighbouring layers to their squares. Along
widths of 1/4, 1/2 and 3/4 of each group the second difference of XLA's count is therefore that of the products alone, and
has to be that of `macs` exactly.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from distreal_jax.errors import InputError
from distreal_jax.networks import make_network
from distreal_jax.step import Batch, Knobs, LocalStep, forward, split_variables
from distreal_jax.tracing import trace_network
from tests.small_networks import Net, dense, trace

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


def lowered_step(name, widths, depth=0):
    """Forward, backward and update of plain SGD, with the first layers frozen."""
    network, params, others = traced(name)
    others = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), network.shapes(others, widths))
    step = LocalStep(network, optax.sgd(0.1), others, convolution="patches")
    learner = jax.eval_shape(step.start, network.shapes(params, widths))
    batch = Batch(jax.ShapeDtypeStruct((BATCH, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((BATCH,), jnp.int32))
    train = functools.partial(step.ordinary, knobs=Knobs(depth))
    return jax.jit(train).lower(learner, learner.params, batch, jax.random.key(0))


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
    ("name", "depth", "compiled"),
    [
        *(("digits_cnn", depth, depth in (0, 2)) for depth in range(5)),
        *(("leaf_cnn", depth, False) for depth in (0, 2)),
        *(("resnet20", depth, False) for depth in (0, 7, 8, 12, 21)),
        ("densenet40", 0, False),
    ],
)
def test_xla_counts_the_products_of_a_training_step_as_training_macs_does(name, depth, compiled):
    """The forward pass of all layers, the gradients of the trained kernels, and of activations down to the first of them.

    The update takes two operations for each parameter. XLA's count is rounded to single precision. Two steps are counted as
    XLA compiles them, which takes long, the others as they are handed to it.
    """
    network, params, _ = traced(name)
    programs = [lowered_step(name, widths, depth) for widths in at_quarters(name)]
    counted = [operations(p.compile(compiler_options=NO_FUSION) if compiled else p) for p in programs]
    macs = [network.training_macs(widths, depth) for widths in at_quarters(name)]
    marks = jax.tree.leaves(network.trained(params, depth))
    shapes = [jax.tree.leaves(network.shapes(params, widths)) for widths in at_quarters(name)]
    trained = [sum(leaf.size for leaf, mark in zip(leaves, marks, strict=True) if mark) for leaves in shapes]
    products = np.diff(counted, 2) - 2 * np.diff(trained, 2)
    np.testing.assert_allclose(products, 2 * BATCH * np.diff(macs, 2), rtol=1e-5)


def test_training_macs_by_hand():
    """digits_cnn: three convolutions, a hidden layer and the classifier, one after the other."""
    network, widths = traced("digits_cnn")[0], (5, 17, 31, 3)
    a, b, c, h = widths
    layers = 24**2 * a, 24**2 * a * b, 12**2 * b * c, 16 * c * h, 10 * h
    assert network.order.layers == ("conv1", "conv2", "conv3", "hidden", "classifier")
    for depth in range(5):
        kernels, activations = sum(layers[depth:]), sum(layers[depth + 1 :])
        assert network.training_macs(widths, depth) == sum(layers) + kernels + activations


@pytest.mark.parametrize("depth", [-1, 5, 1.5])
def test_a_depth_that_the_network_has_not_is_refused(depth):
    with pytest.raises(InputError, match=f"depth {depth} given for a network of 5 layers; expected a whole number from 0"):
        traced("digits_cnn")[0].training_macs(None, depth)


class Reached(nnx.Module):
    """Layers beside each other, one that is shared, one whose gradient is stopped, a table of rows that are looked up."""

    def __init__(self, rngs):
        self.rows = nnx.Embed(7, 4, rngs=rngs)
        self.left, self.right = nnx.Linear(4, 6, rngs=rngs), nnx.Linear(4, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.stopped, self.shared, self.last = (nnx.Linear(6, 6, rngs=rngs) for _ in range(3))

    def __call__(self, tokens):
        x = self.rows(tokens)
        x = self.norm(self.left(x)) + self.right(x)
        x = jax.lax.stop_gradient(self.stopped(x)) + x
        return self.last(self.shared(self.shared(x)))


def test_what_a_gradient_reaches_follows_the_network_and_not_the_order_of_its_attributes():
    network = trace_network(Reached(nnx.Rngs(0)), jnp.zeros((2, 3), jnp.int32), proof=False)
    assert network.order.layers == ("rows", "left", "right", "stopped", "shared", "last")
    assert network.order.of["norm", "scale"] == 1
    assert network.cost.reached == ((0, 1), (0, 2), (-1, -1), (2, 4), (4, 4), (4, 5))
    left, wide = 3 * 4 * 6, 3 * 6 * 6
    full = left * 3 * 2 + wide * (1 + 3 * 3)
    assert network.training_macs() == full
    assert network.training_macs(None, 1) == full - 2 * left  # no gradient of the rows
    assert network.training_macs(None, 5) == 2 * left + 4 * wide + wide


def loop(net, x):
    def body(carry, _):
        one, other = carry
        return (net.b(one), jax.lax.stop_gradient(net.c(other))), None

    (one, other), _ = jax.lax.scan(body, (x, x), length=2)
    return net.out(one + other)


# What is done to what the first layer gives; and how often its product, those of two layers and that of the last are
# computed. The first needs no gradient of its input.
PASSES = {
    "a target": (lambda net, x: net.out(net.b(x) - jax.lax.stop_gradient(net.c(x))), (2, 3, 1, 3)),
    "layers below": (lambda net, x: net.out(net.b(jax.lax.stop_gradient(net.c(x)))), (1, 2, 1, 3)),
    "parameters": (lambda net, x: net.out(net.b(x @ jax.lax.stop_gradient(net.c.kernel[...]))), (2, 3, 2, 3)),
    "a gate that is rounded": (lambda net, x: net.out(net.b(x) * jnp.round(nnx.sigmoid(net.c(x)))), (2, 3, 1, 3)),
    "a choice": (lambda net, x: net.out(jnp.where(net.c(x) > 0, net.b(x), x)), (2, 3, 1, 3)),
    "an output of whole numbers": (lambda net, x: (net.out(net.b(x)), jnp.argmax(net.c(x), -1)), (2, 3, 1, 3)),
    "an output beside others": (lambda net, x: (net.out(net.b(x)), net.c(x)), (2, 3, 3, 3)),
    "statistics": (lambda net, x: net.out(net.b(x) + 0 * jax.lax.stop_gradient(net.norm(net.c(x)))), (2, 3, 1, 3)),
    "a loop": (loop, (2, 6, 2, 3)),
    "a branch": (
        lambda net, x: net.out(jax.lax.cond(x.sum() > 0, net.b, lambda y: jax.lax.stop_gradient(net.c(y)), x)),
        (2, 3, 1, 3),
    ),
}


@pytest.mark.parametrize("what", PASSES)
def test_gradients_that_do_not_come_to_the_loss_cost_nothing(what):
    function, passes = PASSES[what]

    def build():
        layers = dict(a=dense(3, 4), b=dense(4, 4), c=dense(4, 4), norm=nnx.BatchNorm(4, rngs=nnx.Rngs(0)), out=dense(4, 5))
        return Net(lambda net, x: function(net, net.a(x)), **layers)

    network = trace(build, (1, 3), proof=False)
    assert network.training_macs() == sum(n * macs for n, macs in zip(passes, (12, 16, 16, 20), strict=True))


def test_work_that_is_in_no_count_is_named():
    def run(net, x):
        x = jnp.fft.rfft(net.a(x), axis=1).real
        return net.out(x @ jnp.linalg.cholesky(jnp.eye(4)[None] + jnp.einsum("npi,npj->nij", x, x)))

    network = trace(lambda: Net(run, a=dense(3, 4), out=dense(4, 5)), (1, 6, 3), proof=False)
    assert [re.search("'[a-z]+'", where).group() for where in network.uncounted] == ["'fft'", "'cholesky'"]
    assert "not counted: the network's own __call__ (primitive 'fft' at test_cost.py:" in str(network)
    assert not traced("resnet20")[0].uncounted
