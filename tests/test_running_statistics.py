"""Claims about running statistics: a user's own normalisation is evaluated as Flax's is."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from distreal_jax.fleet.running_statistics import keeps_statistics_of_its_own, of_this_batch_alone, statistics_of
from distreal_jax.step import forward, split_variables
from distreal_jax.tracing import trace_network


class OwnBatchNorm(nnx.Module):
    def __init__(self, channels):
        self.mean, self.var = nnx.BatchStat(jnp.full(channels, 3.0)), nnx.BatchStat(jnp.ones(channels))
        self.peak = nnx.BatchStat(jnp.zeros(channels))
        self.use_running_average = False

    def __call__(self, x):
        if self.use_running_average:
            return (x - self.mean[...][None]) * jax.lax.rsqrt(self.var[...][None] + 1e-5)
        mean, var = x.mean(0), x.var(0)
        self.mean[...] = 0.99 * self.mean[...] + 0.01 * mean
        self.var[...] = 0.99 * self.var[...] + 0.01 * var
        self.peak[...] = jnp.maximum(self.peak[...], x.max(0))  # no running mean
        return (x - mean[None]) * jax.lax.rsqrt(var[None] + 1e-5)


def estimated(norm):
    x = np.random.default_rng(0).normal(2, 3, (50, 4)).astype(np.float32)
    network = trace_network(norm, x[:1])
    params, others = split_variables(norm)

    def update(others):
        return forward(network, params, others, x, train=True, convolution="library", around=of_this_batch_alone)[1]

    own = keeps_statistics_of_its_own(network, params, others)
    return own, nnx.to_pure_dict(statistics_of(update, others) if own else update(others)), x


def test_statistics_of_a_normalisation_of_ones_own_are_those_of_the_batch_as_of_flax():
    own, of_own, x = estimated(OwnBatchNorm(4))
    flax_has_its_own, of_flax, _ = estimated(nnx.BatchNorm(4, momentum=0.99, rngs=nnx.Rngs(0)))
    assert own and not flax_has_its_own
    for name, expected in (("mean", x.mean(0)), ("var", x.var(0))):
        np.testing.assert_allclose(of_flax[name], expected, rtol=1e-5)
        np.testing.assert_allclose(of_own[name], expected, rtol=1e-4)


def test_a_statistic_that_is_no_running_mean_is_what_a_step_makes_of_it():
    _, of_own, x = estimated(OwnBatchNorm(4))
    np.testing.assert_allclose(of_own["peak"], x.max(0), rtol=1e-6)
