"""Networks as small as a claim needs: layers, and how they are called."""

import jax
import jax.numpy as jnp
from flax import nnx

from distreal_jax.tracing import trace_network


class Net(nnx.Module):
    """Any network: its layers, and how they are called."""

    def __init__(self, run, **layers):
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, x):
        return self.run(self, x)


def conv(features_in, features, window=3, **options):
    return nnx.Conv(features_in, features, (window, window), rngs=nnx.Rngs(0), **options)


def dense(features_in, features, **options):
    return nnx.Linear(features_in, features, rngs=nnx.Rngs(0), **options)


def trace(build, shape, **options):
    return trace_network(nnx.eval_shape(build), jax.ShapeDtypeStruct(shape, jnp.float32), **options)
