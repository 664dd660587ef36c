"""Claims about what masked and compact execution do beside zeroing and gathering filters, as JAX computes it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from distreal_jax.step import Batch, LocalStep, split_variables
from distreal_jax.tracing import trace_network
from distreal_jax.tracing.counts import Numbers, fit
from distreal_jax.tracing.inner import Place
from distreal_jax.tracing.layout import LengthOfAxis
from tests.small_networks import Net, conv, dense

IMAGES = np.random.default_rng(0).normal(size=(4, 4, 4, 1)).astype(np.float32)
KEY = jax.random.key(3)
KEPT = [np.array([1, 2, 6]), np.array([0, 4, 5, 9])]
quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # it runs once


@pytest.fixture(scope="module")
def step_and_learner():
    """Of a network with statistics over channels, a softmax of large numbers, and two kinds of random numbers."""

    def run(net, x):
        x = net.norm(net.dropout(nnx.relu(net.first(x))))
        x = nnx.softmax(100 * net.second(x) - 200)
        x = x * jax.random.uniform(net.noise.noise(), x.shape) / x.mean(-1, keepdims=True)
        return net.classifier(x.mean((1, 2)))

    layers = dict(dropout=nnx.Dropout(0.5, broadcast_dims=(1,), rngs=nnx.Rngs(1)), noise=nnx.Rngs(noise=2))
    norm = nnx.LayerNorm(8, rngs=nnx.Rngs(0))
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


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda c, _: float(c), (1.0, 0.0)),
        (lambda c, _: 9.0 * c - 1, (1.0, -1.0)),
        (lambda c, _: 1 / np.sqrt(c), (-0.5, 0.0)),
        (lambda c, _: 3 * np.sqrt(np.float32(c)), (0.5, 0.0)),
        (lambda _, d: 1.0 / d, (-1.0, 0.0)),
        (lambda c, d: float(c * d), None),
        (lambda c, _: np.log(c), None),
    ],
)
def test_a_number_is_found_to_be_a_function_of_a_number_of_channels(function, found):
    widths = [(3, 7), (5, 2), (8, 6), (2, 10)]
    lengths = [LengthOfAxis(0, (1, 0)), LengthOfAxis(0, (0, 1))]
    numbers = Numbers(Place("", 0, "div", 0), 1, function(8, 12), tuple(function(*each) for each in widths))
    counted = fit(numbers, widths, (8, 12), lengths)
    assert (None if counted is None else (counted.power, counted.offset)) == found
