"""Claims about what masked and compact execution do beside zeroing and gathering filters, as JAX computes it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from distreal_jax.errors import InputError
from distreal_jax.step import Batch, LocalStep, forward, split_variables
from distreal_jax.tracing import trace_network
from distreal_jax.tracing.counts import Numbers, fit
from distreal_jax.tracing.inner import Place
from distreal_jax.tracing.layout import LengthOfAxis
from tests.small_networks import Net, conv, dense

IMAGES = np.random.default_rng(0).normal(size=(4, 4, 4, 1)).astype(np.float32)
KEY = jax.random.key(3)
KEPT = [np.array([1, 2, 6]), np.array([0, 4, 5, 9])]
quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # it runs once


@jax.custom_vjp
def rounded(x, steps):
    """To steps of each channel, as multiples of the mean of all; the derivative passes the rounding by."""
    return jnp.round(x / steps) * steps / jnp.abs(x).mean(-1, keepdims=True)


def pass_by(saved, cotangent):
    (x, steps), mean = saved, jnp.abs(saved[0]).mean(-1, keepdims=True)
    return cotangent / mean, (cotangent * x / steps).sum((0, 1, 2), keepdims=True) / x.shape[-1]


rounded.defvjp(lambda x, steps: (rounded(x, steps), (x, steps)), pass_by)


@pytest.fixture(scope="module")
def step_and_learner():
    """Of a network with statistics over channels, a softmax of large numbers, and two kinds of random numbers.

    It also has a derivative of its own, which looks at channels together and counts them.
    """

    def run(net, x):
        x = jax.checkpoint(jax.jit(rounded))(net.first(x), net.steps[...])
        x = net.norm(net.dropout(nnx.relu(x)))
        x = nnx.softmax(100 * net.second(x) - 200)
        x = x * jax.random.uniform(net.noise.noise(), x.shape) / x.mean(-1, keepdims=True)
        return net.classifier(x.mean((1, 2)))

    layers = dict(dropout=nnx.Dropout(0.5, broadcast_dims=(1,), rngs=nnx.Rngs(1)), noise=nnx.Rngs(noise=2))
    norm = nnx.LayerNorm(8, rngs=nnx.Rngs(0))
    layers["steps"] = nnx.Param(jnp.linspace(0.1, 0.2, 8).reshape(1, 1, 1, 8))
    model = Net(run, first=conv(1, 8), norm=norm, second=conv(8, 12), classifier=dense(12, 10), **layers)
    params, others = split_variables(model)
    step = LocalStep(trace_network(model, IMAGES[:1]), optax.sgd(0.1), others, convolution="library")
    return step, step.start(params)


def test_the_three_executions_of_a_step_draw_the_same_for_each_filter_and_look_at_those_that_are_kept(step_and_learner):
    step, learner = step_and_learner
    batch = Batch(IMAGES, jnp.arange(4))
    masks = [jnp.isin(jnp.arange(count), chosen) for count, chosen in zip((8, 12), KEPT, strict=True)]
    within = [np.array([1, 2, 3, 6, 7]), np.array([0, 1, 4, 5, 8, 9])]
    compact = quickly(step.compact)
    updated = [
        quickly(step.masked)(learner, learner.params, batch, KEY, masks),
        compact(learner, learner.params, batch, KEY, KEPT),
        quickly(step.masked_within)(learner, learner.params, batch, KEY, within, masks),
    ]
    for other in updated[1:]:
        for one, another in zip(jax.tree.leaves(updated[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(one, another, rtol=1e-4, atol=1e-6)
    other_key = compact(learner, learner.params, batch, jax.random.key(4), KEPT)
    assert not np.allclose(updated[1][1], other_key[1], rtol=1e-3)


class Own(nnx.Module):
    """A layer of one's own, of parameters as Flax would begin them."""

    def __init__(self, call, **shapes):
        self.call = call
        for name, shape in shapes.items():
            setattr(self, name, nnx.Param(jax.random.normal(jax.random.key(len(shape)), shape)))

    def __call__(self, x):
        return self.call(self, x)


def own_norm(of):
    return lambda: dict(odd=Own(lambda layer, x: of(x) * layer.scale[...][None, None, None], scale=(8,)))


def standardised(layer, x):
    kernel = jax.nn.standardize(layer.kernel[...], axis=(0, 1, 2))
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def respond(x):
    size = jnp.abs(x).mean((1, 2), keepdims=True)
    return x * size / (1e-3 + size.mean(-1, keepdims=True))


# A layer between two convolutions, or the second of these; and how many times a factor on the first one's filters counts.
TAKEN_IN = {
    "nothing": (dict, 1),
    "a kernel that is transposed": (lambda: dict(second=Own(lambda layer, x: x @ layer.kernel[...].T, kernel=(12, 8))), 1),
    "a kernel that is reshaped": (
        lambda: dict(second=Own(lambda layer, x: x @ layer.kernel[...].reshape(x.shape[-1], -1), kernel=(8, 3, 4))),
        1,
    ),
    "a kernel that is standardised": (lambda: dict(second=Own(standardised, kernel=(3, 3, 8, 12))), 1),
    "a spectral normalisation": (lambda: dict(second=nnx.SpectralNorm(conv(8, 12), rngs=nnx.Rngs(0))), 1),
    "a remat": (lambda: dict(second=Own(nnx.remat(lambda layer, x: x @ layer.kernel[...]), kernel=(8, 12))), 1),
    "a root mean square": (own_norm(lambda x: x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)), 0),
    "a power of a mean square": (own_norm(lambda x: x * (jnp.mean(x**2, -1, keepdims=True) + 1e-6) ** -0.5), 0),
    "a mean and a variance": (
        own_norm(lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)),
        0,
    ),
    "statistics of the batch": (
        own_norm(lambda x: (x - x.mean((0, 1, 2), keepdims=True)) / (x.std((0, 1, 2), keepdims=True) + 1e-3)),
        0,
    ),
    "a length": (own_norm(lambda x: x / (1e-3 + jnp.linalg.norm(x, axis=-1, keepdims=True))), 0),
    "a softmax": (own_norm(nnx.softmax), 0),
    "a gate": (own_norm(lambda x: x * nnx.sigmoid(x)), 1),
    "a response that is divided by its mean": (own_norm(respond), 1),
}


@pytest.mark.parametrize("what", TAKEN_IN)
def test_a_product_takes_in_what_all_filters_would_give_once(what):
    """Whatever is done to its kernel, or where it lies; not where what it takes in is normalised, by whatever layer."""
    layers, times = TAKEN_IN[what]

    def run(net, x):
        return net.second(net.odd(nnx.relu(net.first(x))))

    nothing = Own(lambda _, x: x)
    model = Net(run, **{"first": conv(1, 8), "odd": nothing, "second": conv(8, 12, use_bias=False), **layers()})
    network = trace_network(model, IMAGES[:1], proof=False)
    assert [(group.filters, group.normalised) for group in network.filter_groups] == [(8, times == 0)]
    variables, kept, masks = split_variables(model), [np.array([1, 2, 6])], [np.isin(np.arange(8), [1, 2, 6])]

    def outputs(network, params, others, kept=None, rescaled=None):
        return forward(network, params, others, IMAGES, train=True, convolution="library", kept=kept, rescaled=rescaled)[0]

    small, masked = network.narrowed([3]), network.mask(variables, masks)
    plain = outputs(small, *network.take(variables, kept))
    for found in (outputs(small, *network.take(variables, kept), None, [3]), outputs(network, *masked, masks, [3])):
        np.testing.assert_allclose(found, plain * (8 / 3) ** times, rtol=2e-4, atol=2e-5)


def test_a_table_that_looks_up_and_multiplies_is_rescaled_where_it_multiplies():
    table = nnx.Embed(7, 8, rngs=nnx.Rngs(0))
    model = Net(lambda net, x: net.table.attend(nnx.relu(net.table(x))), table=table)
    tokens = np.arange(6).reshape(2, 3)
    network = trace_network(model, tokens)
    params, others = network.take(split_variables(model), [np.array([0, 3])])
    found = [
        forward(network.narrowed([2]), params, others, tokens, train=True, convolution="library", rescaled=rescaled)[0]
        for rescaled in ([2], None)
    ]
    np.testing.assert_allclose(found[0], 4 * found[1], rtol=1e-6)


@jax.custom_jvp
def multiplied(x, kernel):
    return x @ kernel


multiplied.defjvp(lambda primals, tangents: (multiplied(*primals), tangents[0] @ primals[1] + primals[0] @ tangents[1]))


def test_a_product_with_a_derivative_of_its_own_is_refused_where_it_would_be_rescaled():
    own = Own(lambda layer, x: multiplied(x, layer.kernel[...]), kernel=(8, 3))
    model = Net(lambda net, x: net.own(net.first(x)), first=dense(4, 8), own=own)
    params, others = split_variables(model)
    network = trace_network(model, np.ones((1, 4), np.float32))
    LocalStep(network, optax.sgd(0.1), others).start(params)
    with pytest.raises(InputError, match=r"layer 'own' multiplies inside a function .*; train with rescale=False, or keep"):
        LocalStep(network, optax.sgd(0.1), others, rescale=True).start(params)


def test_what_is_computed_again_is_so_in_a_step_that_rescales():
    again = Own(nnx.remat(lambda layer, x: x @ layer.kernel[...]), kernel=(8, 3))
    model = Net(lambda net, x: net.again(net.first(x)), first=dense(4, 8), again=again)
    params, others = split_variables(model)
    batch = Batch(np.ones((2, 4), np.float32), np.arange(2))
    step = LocalStep(trace_network(model, batch.inputs), optax.sgd(0.1), others, rescale=True)
    program = jax.make_jaxpr(lambda params: step.compact(step.start(params), None, batch, KEY, [np.arange(3)]))(params)
    assert "prevent_cse" in str(program)


@pytest.fixture(scope="module")
def step_of_other_forms():
    """Of a network with a product of three arrays, which begins with the cheapest two, and one of a matrix per example."""

    def run(net, x):
        one, other = nnx.sigmoid(net.one(x)), nnx.sigmoid(net.other(x))
        flat = one.reshape(len(x), 16, -1)
        weights = nnx.softmax(jnp.matmul(flat, flat.swapaxes(1, 2)))
        product = jnp.einsum("nhwi,ij,nhwj->nhw", one, net.form[...], other).reshape(len(x), 16, 1)
        return net.out(jnp.matmul(weights, product * other.reshape(len(x), 16, -1)).mean(1))

    form = nnx.Param(jax.random.normal(jax.random.key(0), (8, 7)))
    model = Net(run, one=conv(1, 8), other=conv(1, 7), form=form, out=dense(7, 10))
    params, others = split_variables(model)
    step = LocalStep(trace_network(model, IMAGES[:1]), optax.sgd(0.1), others, convolution="library")
    return step, step.start(params)


@pytest.mark.parametrize(("batch", "within"), [(4, (3, 6)), (1, (5, 5)), (4, (1, 3))])
def test_masked_execution_follows_the_steps_that_there_are_at_its_sizes(step_of_other_forms, batch, within):
    (step, learner), data = step_of_other_forms, Batch(IMAGES[:batch], jnp.arange(batch))
    kept = [np.arange(-(-width // 2)) for width in within]
    masks = [jnp.arange(count) < len(chosen) for count, chosen in zip((8, 7), kept, strict=True)]
    compact = quickly(step.compact)(learner, learner.params, data, KEY, kept)
    masked = quickly(step.masked_within)(learner, learner.params, data, KEY, [*map(np.arange, within)], masks)
    for one, another in zip(jax.tree.leaves(masked), jax.tree.leaves(compact), strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-4, atol=1e-6)


def test_kernels_that_another_order_would_rescale_are_refused(step_of_other_forms):
    (step, learner), data = step_of_other_forms, Batch(IMAGES[:4], jnp.arange(4))
    rescaling = dataclasses.replace(step, rescale=True)
    with pytest.raises(InputError, match=r"rescaling of inputs .* in other steps there .* train with rescale=False"):
        jax.eval_shape(rescaling.compact, learner, learner.params, data, KEY, [np.arange(2), np.arange(3)])


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda c, _: float(c), (1.0, 0.0, 0.0)),
        (lambda c, _: 9.0 * c - 1, (1.0, 0.0, -1.0)),
        (lambda c, _: 1 / np.sqrt(c), (-0.5, 0.0, 0.0)),
        (lambda c, _: 3 * np.sqrt(np.float32(c)), (0.5, 0.0, 0.0)),
        (lambda _, d: 1.0 / d, (-1.0, 0.0, 0.0)),
        (lambda c, _: np.float32(c**-0.25), (-0.25, 0.0, 0.0)),
        (lambda c, _: np.float32(1 / (c - 1)), (-1.0, -1.0, 0.0)),
        (lambda c, _: np.float32(np.sqrt(c + 1)), (0.5, 1.0, 0.0)),
        (lambda c, _: (c - 1) / c, (-1.0, 0.0, 1.0)),
        (lambda c, _: np.log(c), (0.0, 0.0, 0.0)),
        (lambda c, _: np.log1p(c), (0.0, 1.0, 0.0)),
        (lambda c, d: float(9 * c * d), (1.0, 0.0, 0.0)),
        (lambda c, d: float(9 * c * d - 1), (1.0, 0.0, -1.0)),
        (lambda c, d: np.sqrt(2 / (c + d)), (-0.5, 0.0, 0.0)),
        (lambda c, _: float((c + 2) // 3), None),
        (lambda c, _: float(c % 3), None),
        (lambda c, _: float(min(c, 6)), None),
        (lambda c, _: 2.0**-c, None),
    ],
)
def test_a_number_is_found_to_be_a_function_of_numbers_of_channels(function, found):
    widths = [(3, 7), (5, 2), (7, 6), (2, 10), (6, 3), (4, 11)]
    lengths = [LengthOfAxis(0, (1, 0)), LengthOfAxis(0, (0, 1))]
    numbers = Numbers(Place("", 0, "div", 0), 1, function(8, 12), tuple(function(*each) for each in widths))
    counted = fit(numbers, widths, (8, 12), lengths)
    if found is None:
        assert counted is None
        return
    assert (counted.power, counted.shift, round(counted.offset, 5)) == found
    for each in [*widths, (8, 12), (8, 1)]:
        np.testing.assert_allclose(counted.at(function(8, 12), each, (8, 12)), function(*each), rtol=1e-5)
