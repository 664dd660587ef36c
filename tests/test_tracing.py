"""Claims about a trace: it finds the filters of any network, runs its sub-networks, counts their cost, or says why not.

The decisive claim is `test_masked_equals_compact`: a network whose dropped filters are zero computes what the smaller
network computes. Groups and costs that are expected of each network are derived by hand.

Networks are built abstractly, without computing initial weights; where values matter, the tests choose them.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from distreal_jax.errors import InputError
from distreal_jax.networks import make_network
from distreal_jax.step import forward, split_variables
from distreal_jax.tracing import trace_network
from tests.small_networks import Net, conv, dense, trace

IMAGES = (2, 6, 6, 3)  # 36 positions
SEQUENCE = (2, 7, 3)  # 7 positions
QUICKLY = {"xla_backend_optimization_level": 0}  # what is compiled here runs once


def kernel(*shape):
    return nnx.Param(jnp.zeros(shape))


def over_positions(x):
    """The mean over all positions."""
    return x.mean(axis=tuple(range(1, x.ndim - 1)))


class Case(NamedTuple):
    """A network, and what is expected of its trace."""

    build: Callable[[], nnx.Module]
    groups: list[tuple[str, int, bool]]  # name, filters, convolutional
    macs: Callable[..., int]  # of the widths
    shape: tuple[int, ...]


CASES: dict[str, Case] = {}


def expect(groups, macs, shape=IMAGES, name=None):
    """Registers the function that builds a network; `groups` is written as in "conv:8 hidden:7:dense"."""

    def register(build):
        parts = [group.split(":") for group in groups.split()]
        CASES[name or build.__name__] = Case(build, [(p[0], int(p[1]), "dense" not in p) for p in parts], macs, shape)
        return build

    return register


# Chains, sums, concatenations, flattening.


@expect("conv1:8 conv2:6", lambda a, b: 36 * 9 * 3 * a + 9 * 9 * a * b + 4 * b)
def chain():
    def run(net, x):
        return net.out(over_positions(nnx.relu(net.conv2(nnx.relu(net.conv1(x))))))

    return Net(run, conv1=conv(3, 8), conv2=conv(8, 6, strides=2), out=dense(6, 4))


@expect("conv:6", lambda a: 36 * 9 * 3 * a + 36 * a * 4)
def convolution_as_classifier():
    def run(net, x):
        return over_positions(net.classifier(nnx.relu(net.conv(x))))

    return Net(run, conv=conv(3, 6), classifier=conv(6, 4, 1))


@expect("conv2:5", lambda b: 36 * 9 * (3 * 3 + 3 * b) + 4 * b)
def sum_with_the_image():
    def run(net, x):
        return net.out(over_positions(nnx.relu(net.conv2(nnx.relu(x + net.conv1(x))))))

    return Net(run, conv1=conv(3, 3), conv2=conv(3, 5), out=dense(5, 4))


@expect(
    "stem:6 conv1:5 projection:8 conv3:7",
    lambda s, a, p, b: 36 * 9 * (3 * s + 2 * s * a) + 9 * (s * p + 9 * s * b + 9 * b * p) + 4 * p,
)
def residual_sums():
    def run(net, x):
        x = nnx.relu(net.stem(x))
        x = nnx.relu(x + net.conv2(nnx.relu(net.conv1(x))))
        x = nnx.relu(net.projection(x) + net.conv4(nnx.relu(net.conv3(x))))
        return net.out(over_positions(x))

    return Net(
        run,
        stem=conv(3, 6),
        conv1=conv(6, 5),
        conv2=conv(5, 6),
        projection=conv(6, 8, 1, strides=2),
        conv3=conv(6, 7, strides=2),
        conv4=conv(7, 8),
        out=dense(8, 4),
    )


@expect("conv1:6 conv2:4", lambda a, b: 36 * 9 * (3 * a + a * (a + b)) + 4 * (a + b))
def shortcut_padded_by_the_difference():
    def run(net, x):
        x = nnx.relu(net.conv1(x))
        y = net.conv2(x)
        return net.out(over_positions(y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))))

    return Net(run, conv1=conv(3, 6), conv2=conv(6, 10), out=dense(10, 4))


@expect("conv1:4 conv2:5 conv3:3", lambda a, b, c: 36 * 9 * (3 * a + a * b + (a + b) * c) + 4 * (3 + a + b + c) * 4)
def dense_concatenations():
    def run(net, x):
        first = nnx.relu(net.conv1(x))
        both = jnp.concatenate([first, nnx.relu(net.conv2(first))], axis=-1)
        third = nnx.relu(net.conv3(net.norm(both)))
        x = nnx.max_pool(jnp.concatenate([x, both, third], axis=-1), (3, 3), strides=(3, 3))
        return net.out(x.reshape(x.shape[0], -1))

    norm = nnx.BatchNorm(9, rngs=nnx.Rngs(0))
    return Net(run, conv1=conv(3, 4), conv2=conv(4, 5), norm=norm, conv3=conv(9, 3), out=dense(4 * 15, 4))


@expect("conv:5 hidden:7:dense", lambda a, h: 36 * 9 * 3 * a + 9 * a * h + 4 * h)
def flatten_after_pooling():
    def run(net, x):
        x = nnx.max_pool(nnx.relu(net.conv(x)), (2, 2), strides=(2, 2))
        return net.out(nnx.relu(net.hidden(x.reshape(x.shape[0], -1))))

    return Net(run, conv=conv(3, 5), hidden=dense(9 * 5, 7), out=dense(7, 4))


@expect("conv:6", lambda a: 36 * 9 * 3 * a + (5 * 12 * 5 + 12 * 5 * 12) * a + 144 * a * 4)
def whatever_moves_positions_alone():
    """Resizing is itself two products, along height and along width."""

    def run(net, x):
        x = jnp.roll(nnx.avg_pool(net.conv(x), (2, 2)), 1, axis=1)[:, ::-1]
        x = jax.image.resize(x, (x.shape[0], 12, 12, x.shape[-1]), "bilinear")
        return net.out(x.reshape(x.shape[0], -1))

    return Net(run, conv=conv(3, 6, padding="CIRCULAR"), out=dense(144 * 6, 4))


@expect("conv:6", lambda a: 36 * 9 * (3 * a + a + 2 * a) + 4 * a)
def one_kernel_for_every_channel():
    """Channels that a convolution is vmapped over are examples of it, or groups of it."""

    def run(net, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        one = lambda x, kernel: jax.lax.conv_general_dilated(x[..., None], kernel, (1, 1), "SAME", dimension_numbers=numbers)  # noqa: E731
        x = net.conv(x)
        x = jax.vmap(lambda x: one(x, net.shared[...])[..., 0], in_axes=-1, out_axes=-1)(x)
        x = jax.vmap(lambda x, kernel: one(x, kernel).mean(-1), in_axes=(-1, -1), out_axes=-1)(x, net.own[...])
        return net.out(over_positions(nnx.relu(x)))

    return Net(run, conv=conv(3, 6), shared=kernel(3, 3, 1, 1), own=kernel(3, 3, 1, 2, 6), out=dense(6, 4))


@expect("conv:8 up:6:dense down:8:dense", lambda a, b, c: 36 * (9 * 3 * a + a * b + b * c) + 4 * c)
def experts():
    """Each position goes through the matrices of one of three experts."""

    def run(net, x):
        rows = net.conv(x).reshape(-1, net.up.shape[1])
        sizes = jnp.array([len(rows) // 2, 0, len(rows) - len(rows) // 2], jnp.int32)
        rows = jax.lax.ragged_dot(nnx.relu(jax.lax.ragged_dot(rows, net.up[...], sizes)), net.down[...], sizes)
        return net.out(over_positions(rows.reshape(*x.shape[:-1], -1)))

    return Net(run, conv=conv(3, 8), up=kernel(3, 8, 6), down=kernel(3, 6, 8), out=dense(8, 4))


# Normalisation; a block of channels that a GroupNorm takes statistics over is one filter.


def normalised(norm, channels_of_filter=1):
    def run(net, x):
        return net.out(over_positions(nnx.relu(net.conv2(nnx.relu(net.norm(net.conv1(x)))))))

    filters = 8 // channels_of_filter

    @expect(
        f"conv1:{filters} conv2:6",
        lambda a, b: 36 * 9 * channels_of_filter * a * (3 + b) + 4 * b,
        name=f"normalised_by_{norm.__name__}",
    )
    def build():
        return Net(run, conv1=conv(3, 8), norm=norm(), conv2=conv(8, 6), out=dense(6, 4))

    return norm


@normalised
def batch_norm():
    return nnx.BatchNorm(8, rngs=nnx.Rngs(0))


@normalised
def instance_norm():
    return nnx.InstanceNorm(8, rngs=nnx.Rngs(0))


@normalised
def layer_norm():
    return nnx.LayerNorm(8, rngs=nnx.Rngs(0))


@normalised
def layer_norm_of_the_whole_image():
    return nnx.LayerNorm(8, reduction_axes=(1, 2, 3), feature_axes=-1, rngs=nnx.Rngs(0))


@normalised
def layer_norm_without_parameters():
    return nnx.LayerNorm(8, use_scale=False, use_bias=False, rngs=nnx.Rngs(0))


@normalised
def rms_norm():
    return nnx.RMSNorm(8, rngs=nnx.Rngs(0))


@normalised
def group_norm_of_one_group():
    return nnx.GroupNorm(8, num_groups=1, rngs=nnx.Rngs(0))


@functools.partial(normalised, channels_of_filter=2)
def group_norm_of_four_groups():
    return nnx.GroupNorm(8, num_groups=4, rngs=nnx.Rngs(0))


@functools.partial(normalised, channels_of_filter=4)
def group_norm_by_size():
    return nnx.GroupNorm(8, num_groups=None, group_size=4, rngs=nnx.Rngs(0))


# Kinds of convolutions.


def separable(net, x):
    return net.out(over_positions(nnx.relu(net.pointwise(nnx.relu(net.depthwise(nnx.relu(net.conv(x))))))))


@expect("conv:6 pointwise:5", lambda a, b: 36 * (9 * 3 * a + 9 * a + a * b) + 4 * b)
def depthwise():
    return Net(
        separable, conv=conv(3, 6), depthwise=conv(6, 6, feature_group_count=6), pointwise=conv(6, 5, 1), out=dense(5, 4)
    )


@expect("conv:6 pointwise:5", lambda a, b: 36 * (9 * 3 * a + 9 * 2 * a + 2 * a * b) + 4 * b)
def depthwise_of_multiplier_two():
    return Net(
        separable, conv=conv(3, 6), depthwise=conv(6, 12, feature_group_count=6), pointwise=conv(12, 5, 1), out=dense(5, 4)
    )


@expect("conv:4 pointwise:5", lambda a, b: 36 * (9 * 3 * 2 * a + 9 * 2 * 3 * a + 3 * a * b) + 4 * b)
def grouped():
    """Four groups, each from two channels to three; a group is one filter."""
    return Net(
        separable, conv=conv(3, 8), depthwise=conv(8, 12, feature_group_count=4), pointwise=conv(12, 5, 1), out=dense(5, 4)
    )


@expect("conv:5 transposed:6", lambda a, b: 36 * 9 * (3 * a + a * b) + 4 * b)
def transposed():
    """Each of 36 positions that go in is multiplied with the whole window."""

    def run(net, x):
        return net.out(over_positions(nnx.relu(net.transposed(nnx.relu(net.conv(x))))))

    return Net(
        run, conv=conv(3, 5), transposed=nnx.ConvTranspose(5, 6, (3, 3), strides=(2, 2), rngs=nnx.Rngs(0)), out=dense(6, 4)
    )


@expect("conv1:5 conv2:6", lambda a, b: 16 * 9 * 3 * a + 4 * 9 * a * b + 4 * b)
def kernels_centred_over_their_window():
    def centred(x, kernel):
        kernel = kernel - kernel.mean(axis=(0, 1), keepdims=True)
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def run(net, x):
        return net.out(over_positions(nnx.relu(centred(nnx.relu(centred(x, net.conv1[...])), net.conv2[...]))))

    return Net(run, conv1=kernel(3, 3, 3, 5), conv2=kernel(3, 3, 5, 6), out=dense(6, 4))


@expect("conv1:6 conv2:5", lambda a, b: 4 * 3 * 3 * a + 4 * 3 * a * b + 4 * b, SEQUENCE)
def one_dimensional():
    def run(net, x):
        return net.out(over_positions(nnx.relu(net.conv2(nnx.relu(net.norm(net.conv1(x)))))))

    return Net(
        run,
        conv1=nnx.Conv(3, 6, (3,), strides=2, rngs=nnx.Rngs(0)),
        norm=nnx.BatchNorm(6, rngs=nnx.Rngs(0)),
        conv2=nnx.Conv(6, 5, (3,), padding="CAUSAL", rngs=nnx.Rngs(0)),
        out=dense(5, 4),
    )


# Gates, blocks of channels, weights that are shared.


@expect("conv:8 squeeze:3:dense", lambda a, s: 36 * 9 * 3 * a + 2 * a * s + 4 * a)
def squeeze_and_excite():
    def run(net, x):
        x = nnx.relu(net.conv(x))
        gate = nnx.sigmoid(net.excite(nnx.relu(net.squeeze(over_positions(x)))))
        return net.out(over_positions(x * gate[:, None, None, :]))

    return Net(run, conv=conv(3, 8), squeeze=dense(8, 3), excite=dense(3, 8), out=dense(8, 4))


@expect("conv:5", lambda a: 36 * 9 * 3 * 2 * a + 4 * a)
def gated_linear_unit():
    def run(net, x):
        values, gates = jnp.split(net.conv(x), 2, axis=-1)
        return net.out(over_positions(values * nnx.sigmoid(gates)))

    return Net(run, conv=conv(3, 10), out=dense(5, 4))


@expect("conv1:4 conv2:5", lambda a, b: 36 * 9 * 2 * a * (3 + b) + 4 * b)
def shuffle_inside_blocks():
    def run(net, x):
        x = nnx.relu(net.conv1(x))
        blocks = x.reshape(*x.shape[:-1], -1, 2)
        return net.out(over_positions(nnx.relu(net.conv2(jnp.swapaxes(blocks, -1, -2).reshape(x.shape)))))

    return Net(run, conv1=conv(3, 8), conv2=conv(8, 5), out=dense(5, 4))


@expect("conv:6", lambda a: 36 * 9 * (3 * a + 2 * a * a) + 4 * a)
def shared_layer():
    def run(net, x):
        x = nnx.relu(net.conv(x))
        for _ in range(2):
            x = nnx.relu(net.shared(x))
        return net.out(over_positions(x))

    return Net(run, conv=conv(3, 6), shared=conv(6, 6), out=dense(6, 4))


@expect("encode:6:dense", lambda a: 7 * 2 * 3 * a + 3 * 4, SEQUENCE)
def tied_autoencoder():
    def run(net, x):
        return net.out(over_positions(jnp.tanh(x @ net.encode[...]) @ net.encode[...].T))

    return Net(run, encode=kernel(3, 6), out=dense(3, 4))


@expect("first:6:dense", lambda a: 7 * (3 * a + a * 4), SEQUENCE)
def kernels_on_the_left():
    def run(net, x):
        x = jnp.tanh(jnp.einsum("ch,npc->nph", net.first[...], x))
        return over_positions(jnp.einsum("hd,nph->npd", net.second[...], x))

    return Net(run, first=kernel(3, 6), second=kernel(6, 4))


# Sequences.


@expect("embed:6:dense hidden:5:dense", lambda a, b: 7 * (3 * a + a * b) + 4 * b, SEQUENCE)
def positional_embedding():
    def run(net, x):
        return net.out(over_positions(nnx.gelu(net.hidden(net.embed(x) + net.position[...][None]))))

    return Net(run, embed=dense(3, 6), position=kernel(7, 6), hidden=dense(6, 5), out=dense(5, 4))


@expect("embed:6:dense hidden:5:dense", lambda a, b: 7 * 3 * a + 8 * 2 * a * b + 4 * a, SEQUENCE)
def class_token():
    def run(net, x):
        token = jnp.broadcast_to(net.token[...], (x.shape[0], 1, net.token.shape[-1]))
        x = jnp.concatenate([token, net.embed(x)], axis=1)
        return net.out((x + net.back(nnx.gelu(net.hidden(x))))[:, 0])

    return Net(run, embed=dense(3, 6), token=kernel(1, 1, 6), hidden=dense(6, 5), back=dense(5, 6), out=dense(6, 4))


@expect(
    "embed:6:dense query:3:dense value:5:dense",
    lambda e, q, v: 7 * e * (3 + 2 * q + 2 * v) + 49 * (q + v) + 4 * e,
    SEQUENCE,
)
def attention():
    """Of a single head the channels are filters; the root of their number scales the products."""

    def run(net, x):
        x = net.embed(x)
        query, key, value = net.query(x), net.key(x), net.value(x)
        weights = nnx.softmax(jnp.einsum("npd,nqd->npq", query, key) / np.sqrt(query.shape[-1]), axis=-1)
        return net.out(over_positions(x + net.back(jnp.einsum("npq,nqd->npd", weights, value))))

    return Net(
        run, embed=dense(3, 6), query=dense(6, 3), key=dense(6, 3), value=dense(6, 5), back=dense(5, 6), out=dense(6, 4)
    )


@expect("embed:6:dense query:4:dense", lambda e, h: 7 * e * (3 + 4 * 2 * h) + 49 * 2 * 2 * h + 4 * e, SEQUENCE)
def attention_of_several_heads():
    """Two channels a head; a head is one filter."""

    def run(net, x):
        x = net.embed(x)
        query, key, value = (layer(x).reshape(*x.shape[:2], -1, 2) for layer in (net.query, net.key, net.value))
        weights = nnx.softmax(jnp.einsum("nphd,nqhd->nhpq", query, key), axis=-1)
        heads = jnp.einsum("nhpq,nqhd->nphd", weights, value)
        return net.out(over_positions(x + net.back(heads.reshape(*x.shape[:2], -1))))

    return Net(
        run, embed=dense(3, 6), query=dense(6, 8), key=dense(6, 8), value=dense(6, 8), back=dense(8, 6), out=dense(6, 4)
    )


# Ways to write a network.


@expect("conv:6", lambda a: 36 * 9 * 3 * a + 4 * a)
def log_softmax_at_the_end():
    def run(net, x):
        return nnx.log_softmax(net.out(over_positions(nnx.relu(net.conv(x)))))

    return Net(run, conv=conv(3, 6), out=dense(6, 4))


@expect("conv:6", lambda a: 36 * 9 * 3 * a + 4 * a)
def dropout_of_the_image():
    def run(net, x):
        return net.out(over_positions(nnx.relu(net.conv(net.dropout(x)))))

    return Net(run, dropout=nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=1)), conv=conv(3, 6), out=dense(6, 4))


@expect("layers.0:6 layers.3:5", lambda a, b: 36 * 9 * (3 * a + a * b) + 4 * b)
def sequential():
    return nnx.Sequential(
        conv(3, 6), nnx.BatchNorm(6, rngs=nnx.Rngs(0)), nnx.relu, conv(6, 5), nnx.relu, over_positions, dense(5, 4)
    )


class Compiled(nnx.Module):
    def __init__(self):
        self.block, self.out = Rematerialised(), dense(6, 4)

    @nnx.jit
    def __call__(self, x):
        return self.out(over_positions(self.block(x)))


class Rematerialised(nnx.Module):
    def __init__(self):
        self.conv, self.norm = conv(3, 6), nnx.BatchNorm(6, rngs=nnx.Rngs(0))

    @nnx.remat
    def __call__(self, x):
        return nnx.relu(self.norm(self.conv(x)))


@expect("block.conv:6", lambda a: 36 * 9 * 3 * a + 4 * a)
def compiled_and_rematerialised():
    return Compiled()


@expect("", lambda: 7 * 3 * 4, SEQUENCE)
def nothing_to_drop():
    return Net(lambda net, x: over_positions(net.out(x)), out=dense(3, 4))


class Traced(NamedTuple):
    """A traced network with variables that leave nothing at zero or one."""

    network: object
    params: object
    others: object
    images: jax.Array
    masked: Callable[..., jax.Array]


@functools.cache
def traced(name) -> Traced:
    build, _, _, shape = CASES[name]
    network = trace(build, (1, *shape[1:]))
    generator = np.random.default_rng(1)

    def value(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(3)
        return generator.normal(0, 0.5, leaf.shape).astype(leaf.dtype)

    params, others = jax.tree.map(value, split_variables(nnx.eval_shape(build)))
    images = generator.normal(size=shape).astype(np.float32)

    def masked(masks):
        variables = network.mask((params, others), masks)
        return output(network, variables, images, kept=masks)

    return Traced(network, params, others, images, jax.jit(masked, compiler_options=QUICKLY))


def output(network, variables, images, kept=None):
    """In training mode, where normalisation uses the statistics of the mini-batch."""
    return forward(
        network,
        *variables,
        images,
        train=True,
        convolution="library",
        kept=kept,
        key=jax.random.key(2),
    )[0]


def any_kept(full_widths):
    """For each group, some of its filters in any order."""
    return st.tuples(
        *(
            st.tuples(st.permutations(range(filters)), st.integers(1, filters)).map(lambda drawn: drawn[0][: drawn[1]])
            for filters in full_widths
        )
    )


@pytest.mark.parametrize("name", CASES)
class TestOfEveryNetwork:
    def test_finds_the_filters(self, name):
        found = [(group.name, group.filters, group.convolutional) for group in traced(name).network.filter_groups]
        assert found == CASES[name].groups

    @given(data=st.data())
    @settings(max_examples=20)
    def test_counts_macs_of_any_widths(self, name, data):
        network = traced(name).network
        widths = data.draw(st.tuples(*(st.integers(1, filters) for filters in network.full_widths)))
        assert network.macs(widths) == CASES[name].macs(*widths)

    @given(data=st.data())
    @settings(max_examples=3)
    def test_masked_equals_compact(self, name, data):
        network, params, others, images, masked = traced(name)
        kept = [np.array(chosen) for chosen in data.draw(any_kept(network.full_widths))]
        masks = [np.isin(np.arange(filters), chosen) for filters, chosen in zip(network.full_widths, kept, strict=True)]
        compact = jax.jit(
            lambda kept: output(network, network.take((params, others), kept), images), compiler_options=QUICKLY
        )
        expected = np.asarray(compact(kept))
        np.testing.assert_allclose(masked(masks), expected, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(expected).max()))


# What can't be followed, or has to be written otherwise.


class Operation(nnx.Module):
    """A layer without parameters."""

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return self.function(x)


def with_layer(function, channels_after=8):
    """A network of 8 filters in whose middle the function stands as the layer `odd`."""

    def run(net, x):
        return net.out(over_positions(net.odd(nnx.relu(net.conv(x)))))

    return Net(run, conv=conv(3, 8), odd=Operation(function), out=dense(channels_after, 4))


KEEPING_WHOLE = {
    "sort": lambda x: jnp.sort(x, axis=-1),
    "cumsum": lambda x: jnp.cumsum(x, axis=-1),
    "cumsum of a gate": lambda x: x * jnp.cumsum(x, axis=-1),
    "top_k": lambda x: x * jax.lax.top_k(x, 2)[0].sum(axis=-1, keepdims=True),
    "argmax": lambda x: x * jnp.argmax(x, axis=-1, keepdims=True),
    "fft": lambda x: jnp.fft.fft(x).real,
    "reduce_window_sum": lambda x: x / (1 + jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 1, 1, 3), (1, 1, 1, 1), "SAME")),
    "reduce": lambda x: x + jax.lax.reduce(x, 0.0, lambda a, b: a * b + 1, (1, 2))[:, None, None, :],
    "rev": lambda x: x[..., ::-1],
    "slice of a roll": lambda x: jnp.roll(x, 2, axis=-1),
}


@pytest.mark.parametrize("operation", KEEPING_WHOLE)
def test_what_can_not_be_done_to_fewer_channels_keeps_them_whole_and_is_named(operation):
    network = trace(lambda: with_layer(KEEPING_WHOLE[operation]), (1, 6, 6, 3))
    (whole,) = network.kept_whole
    assert (whole.layer, whole.filters) == ("conv", 8)
    assert re.fullmatch(rf"layer 'odd' \(primitive '{operation.split()[0]}' at test_tracing.py:\d+\), .*", whole.reason)


def split_in_halves(filters):
    """Two halves that go different ways, and are no halves once they keep different numbers."""

    def run(net, x):
        left, right = net.odd(net.conv(x))
        return net.out(over_positions(nnx.relu(net.conv2(nnx.relu(left))))) + net.out2(over_positions(right))

    halves = Operation(lambda x: jnp.split(x, 2, axis=-1))
    layers = dict(conv=conv(3, 2 * filters), conv2=conv(filters, 5), out=dense(5, 4), out2=dense(filters, 4))
    return Net(run, odd=halves, **layers)


def split_unequally():
    def run(net, x):
        left, right = net.odd(net.conv(x))
        return net.out(over_positions(nnx.relu(net.conv2(nnx.relu(left))))) + net.out2(over_positions(right))

    parts = Operation(lambda x: jnp.split(x, [3], axis=-1))
    return Net(run, odd=parts, conv=conv(3, 8), conv2=conv(3, 5), out=dense(5, 4), out2=dense(5, 4))


HARD_CODED = {
    "a flatten": lambda: Net(
        lambda net, x: net.out(net.odd(net.conv(x))),
        conv=conv(3, 8),
        odd=Operation(lambda x: x.reshape(-1, 288)),
        out=dense(288, 4),
    ),
    "a sum with a broadcast": lambda: with_layer(lambda x: x + jnp.ones((1, 1, 1, 8))),
}


@pytest.mark.parametrize("what", HARD_CODED)
def test_a_hard_coded_count_is_refused_with_layer_and_remedy(what):
    shown = (
        r"(layer '\w+'|the network's own __call__) hard-codes a number of channels.*; take the count from the array's shape"
    )
    with pytest.raises(InputError, match=shown) as refusal:
        trace(HARD_CODED[what], (1, 6, 6, 3))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_of_channels_that_are_split_in_halves_as_many_are_dropped_from_each(count):
    network = trace(lambda: split_in_halves(count), (1, 6, 6, 3))
    assert [(group.name, group.filters) for group in network.filter_groups] == [("conv", count), ("conv2", 5)]
    assert not network.kept_whole


def test_of_channels_that_are_split_unequally_those_whose_number_is_not_written_down_are_filters():
    network = trace(split_unequally, (1, 6, 6, 3))
    assert [(group.name, group.filters) for group in network.filter_groups] == [("conv", 5), ("conv2", 5)]


def test_a_number_that_is_no_known_function_of_the_count_is_refused():
    said = r"layer 'odd' computes with the number of channels: 64.0 in primitive 'mul'.*; .* keep the layers before it whole"
    with pytest.raises(InputError, match=said):
        trace(lambda: with_layer(lambda x: x * 2.0 ** min(x.shape[-1], 6)), (1, 6, 6, 3))


@pytest.mark.parametrize(
    ("model", "example", "said"),
    [
        (lambda x: x, jnp.zeros((1, 6, 6, 3)), "expected a flax.nnx.Module, was given function; "),
        (chain(), jnp.zeros(()), "example_input holds no example; give an array with a leading batch axis"),
        (chain(), jnp.zeros((0, 6, 6, 3)), "example_input holds no example; give an array with a leading batch axis"),
        (chain(), jnp.zeros((1, 6, 6, 1)), r"does not run on float32 \[1, 6, 6, 1\] .*; give an example"),
        (Net(lambda net, x: ()), jnp.zeros((1, 3)), "to nothing; give an example_input"),
        (chain(), {"a": jnp.zeros((1, 3)), "b": jnp.zeros((2, 3))}, "give all of them the same leading batch axis"),
        (Net(lambda net, x: net.out(x).T, out=dense(3, 4)), jnp.zeros((2, 3)), "give an example_input with a leading batch"),
    ],
)
def test_what_is_no_network_or_no_example_ends_in_one_line(model, example, said):
    with pytest.raises(InputError, match=said) as refusal:
        trace_network(model, example)
    assert "\n" not in str(refusal.value)


def test_widths_that_do_not_fit_are_refused():
    network = traced("chain").network
    with pytest.raises(InputError, match="1 widths given for 2 filter groups; give one for each"):
        network.macs([3])
    with pytest.raises(InputError, match=r"width 0 of group 'conv2' is outside \[1, 6\]; keep at least one"):
        network.macs([3, 0])
    with pytest.raises(InputError, match=r"width 9 of group 'conv1' is outside \[1, 8\]"):
        network.macs([9, 1])


def test_tracing_leaves_the_model_as_it_was():
    model = sequential()
    graphdef, state = nnx.split(model)
    trace_network(model, jnp.zeros((1, 6, 6, 3)))
    graphdef_after, state_after = nnx.split(model)
    assert graphdef_after == graphdef
    assert type(model.layers[0]) is nnx.Conv
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(state_after), strict=True))


def test_classes_that_register_their_subclasses_are_not_told_of_the_trace():
    """Before Flax's class or behind it, in networks, layers and variables; some demand an argument."""
    registered = []

    class Registry:
        def __init_subclass__(cls, *, key, **kwargs):
            registered.append(key)
            super().__init_subclass__(**kwargs)

    class Network(nnx.Module, Registry, key="network"):
        def __init__(self):
            self.layer = Layer(3, 6, rngs=nnx.Rngs(0))
            self.out = dense(6, 4)
            self.calls = Calls(jnp.zeros(()))

        def __call__(self, x):
            self.calls[...] += 1
            return self.out(self.layer(x))

    class Layer(Registry, nnx.Linear, key="layer"):
        def __call__(self, x):
            return nnx.relu(super().__call__(x))

    class Calls(nnx.Variable):
        def __init_subclass__(cls):
            raise AssertionError("it has no subclass")

    assert [group.name for group in trace(Network, (1, 3)).filter_groups] == ["layer"]
    assert registered == ["network", "layer"]


def half(x):
    return 4


def test_a_network_is_traced_anew_when_what_it_calls_is_another(monkeypatch):
    def run(net, x):
        x = net.first(x)
        return net.out(net.second(x[..., : half(x)] * x[..., half(x) :]).mean((1, 2)))

    model = Net(run, first=conv(1, 8), second=conv(4, 6), out=dense(6, 10))
    assert [group.filters for group in trace_network(model, jnp.zeros((1, 4, 4, 1))).filter_groups] == [6]
    monkeypatch.setitem(globals(), "half", lambda x: x.shape[-1] // 2)
    assert [group.filters for group in trace_network(model, jnp.zeros((1, 4, 4, 1))).filter_groups] == [4, 6]
    model = make_network("digits_cnn", image_shape=(8, 8, 1), num_classes=10, seed=0)
    assert trace_network(model, jnp.zeros((1, 8, 8, 1))) is trace_network(model, jnp.zeros((1, 8, 8, 1)))


def test_the_batch_of_the_example_does_not_matter():
    one, four = (trace(dense_concatenations, (batch, 6, 6, 3)) for batch in (1, 4))
    assert one.filter_groups == four.filter_groups
    assert one.macs() == four.macs()
    assert one.signature() == four.signature()


def test_products_of_what_is_learnt_count_where_each_example_has_its_own():
    """Queries are learnt, and go through their layer once for each example; the square of a kernel is of no example."""

    def run(net, x):
        queries = net.query(jnp.tile(net.queries[...], (len(x), 1, 1)))
        weights = nnx.softmax(queries @ net.key(x).swapaxes(1, 2))
        square = jnp.sum(net.out.kernel[...].T @ net.out.kernel[...])
        return net.out((weights @ x).mean(axis=1)) * square

    def build():
        return Net(run, queries=nnx.Param(jnp.ones((2, 6))), query=dense(6, 4), key=dense(5, 4), out=dense(5, 7))

    assert trace(build, (1, 3, 5)).macs() == 2 * 6 * 4 + 3 * 5 * 4 + 2 * 3 * 4 + 2 * 3 * 5 + 5 * 7


def test_groups_that_one_layer_creates_are_numbered():
    def run(net, x):
        left, right = jnp.split(net.conv(x), [net.left.kernel.shape[2]], axis=-1)
        return net.out(over_positions(nnx.relu(net.left(left)))) + net.out2(over_positions(right))

    def build():
        return Net(run, conv=conv(3, 8), left=conv(3, 5), out=dense(5, 4), out2=dense(5, 4))

    groups = trace(build, (1, 6, 6, 3)).filter_groups
    assert [(group.name, group.filters) for group in groups] == [("conv[0]", 3), ("conv[1]", 5), ("left", 5)]


def test_groups_say_whether_a_normalisation_follows():
    names = ("normalised_by_batch_norm", "normalised_by_layer_norm_without_parameters", "chain")
    assert [[group.normalised for group in traced(name).network.filter_groups] for name in names] == [
        [True, False],
        [True, False],
        [False, False],
    ]


# The networks of the experiments.


@functools.cache
def real_network(name):
    side, channels = {"digits_cnn": (8, 1), "leaf_cnn": (28, 1)}.get(name, (32, 3))
    shape = (side, side, channels)
    return trace(lambda: make_network(name, image_shape=shape, num_classes=10, seed=0), (1, *shape))


def groups_of_resnet20():
    """A stage shares one stream, created by the first convolution or the projection; each block has one group inside."""
    groups = [("conv", 16), *((f"blocks.{block}.conv1", 16) for block in range(3))]
    for stage, filters in ((1, 32), (2, 64)):
        groups.append((f"blocks.{3 * stage}.projection", filters))
        groups += [(f"blocks.{3 * stage + block}.conv1", filters) for block in range(3)]
    return groups


def groups_of_densenet40():
    """The first convolution, two groups for each of 18 layers, and two transitions: (24 + 6 * 12) / 2, (48 + 6 * 12) / 2."""
    groups = [("conv", 24)]
    for layer in range(20):
        if layer in (6, 13):
            groups.append((f"layers.{layer}.conv", 48 if layer == 6 else 60))
        else:
            groups += [(f"layers.{layer}.bottleneck", 48), (f"layers.{layer}.conv", 12)]
    return groups


def macs_of_digits_cnn(a, b, c, h):
    return 64 * 9 * (a + a * b) + 16 * (9 * b * c + c * h) + 10 * h


def macs_of_leaf_cnn(a, b, h):
    return 784 * 25 * a + 196 * 25 * a * b + 49 * b * h + 10 * h


def macs_of_resnet20(*widths):
    macs, streams = 1024 * 9 * 3 * widths[0], widths[::4]
    for stage, (positions, stream) in enumerate(zip((1024, 256, 64), streams, strict=True)):
        before = streams[max(0, stage - 1)]
        inside = widths[4 * stage + 1 : 4 * stage + 4]
        macs += positions * 9 * (before * inside[0] + stream * (inside[1] + inside[2]) + stream * sum(inside))
        macs += positions * before * stream if stage else 0
    return macs + 10 * streams[-1]


def macs_of_densenet40(*widths):
    remaining = iter(widths)
    stream = next(remaining)
    macs, positions = 1024 * 9 * 3 * stream, 1024
    for block in range(3):
        if block:
            transition = next(remaining)
            macs += positions * stream * transition
            stream, positions = transition, positions // 4
        for _ in range(6):
            bottleneck, growth = next(remaining), next(remaining)
            macs += positions * (stream * bottleneck + 9 * bottleneck * growth)
            stream += growth
    return macs + 10 * stream


REAL = {
    "digits_cnn": ([("conv1", 16), ("conv2", 32), ("conv3", 32), ("hidden", 64)], macs_of_digits_cnn),
    "leaf_cnn": ([("conv1", 32), ("conv2", 64), ("hidden", 512)], macs_of_leaf_cnn),
    "resnet20": (groups_of_resnet20(), macs_of_resnet20),
    "densenet40": (groups_of_densenet40(), macs_of_densenet40),
}


@pytest.mark.parametrize("name", REAL)
class TestOfTheExperimentsNetworks:
    def test_finds_the_filters(self, name):
        groups = real_network(name).filter_groups
        assert [(group.name, group.filters) for group in groups] == REAL[name][0]
        assert [group.name for group in groups if not group.convolutional] == [
            group for group, _ in REAL[name][0] if group == "hidden"
        ]

    @given(data=st.data())
    @settings(max_examples=20)
    def test_counts_macs_of_any_widths(self, name, data):
        network = real_network(name)
        widths = data.draw(st.tuples(*(st.integers(1, filters) for filters in network.full_widths)))
        assert network.macs(widths) == REAL[name][1](*widths)
        assert network.macs_of_many([widths, network.full_widths]).tolist() == [network.macs(widths), network.macs()]

    def test_signature_tells_networks_apart(self, name):
        others = {real_network(other).signature() for other in REAL if other != name}
        assert real_network(name).signature() not in others
