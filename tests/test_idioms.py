"""Claims about networks as people write them: their idioms are followed, and what their filters are is what one would say.

Each is traced with its proof: masked equals compact, outputs, gradients and statistics, or `trace_network` refuses.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from distreal_jax.tracing import trace_network
from tests.small_networks import Net, conv, dense, trace


def groups(network):
    return " ".join(f"{group.name}:{group.filters}:{group.kind}" for group in network.filter_groups)


def between(function, **layers):
    """conv 1->8, ReLU, the function, conv 8->12, ReLU, mean, classifier."""

    def run(net, x):
        x = function(net, nnx.relu(net.first(x)))
        return net.classifier(nnx.relu(net.second(x)).mean((1, 2)))

    return Net(run, first=conv(1, 8), second=conv(8, 12), classifier=dense(12, 10), **layers)


IMAGES = (1, 8, 8, 1)
BOTH = "first:8:conv second:12:conv"
# What moves, places or repeats positions carries channels along.
CARRYING = {
    "positions by index": lambda _, x: x[:, np.array([0, 2, 4, 6])],
    "positions by two indices": lambda _, x: x[:, np.array([0, 2]), np.array([1, 3])][:, None],
    "nearest resize": lambda _, x: jax.image.resize(x, (x.shape[0], 5, 5, x.shape[-1]), "nearest"),
    "tile": lambda _, x: jnp.tile(x, (1, 2, 1, 1)),
    "repeat": lambda _, x: jnp.repeat(x, 2, axis=2),
    "stack and mean": lambda _, x: jnp.stack([x, x[:, ::-1]], axis=1).mean(1),
    "cumulative sum of positions": lambda _, x: jnp.cumsum(x, axis=1),
    "sorted positions": lambda _, x: jnp.sort(x, axis=2),
    "roll": lambda _, x: jnp.roll(x, (1, 2), axis=(1, 2)),
    "spectrum of positions": lambda _, x: jnp.abs(jnp.fft.fft2(x, axes=(1, 2))) / 8,
    "spectrum of the transposed": lambda _, x: jnp.fft.rfft(jnp.moveaxis(x, -1, 1)).real.swapaxes(1, 3),
    "placed at a position": lambda _, x: x.at[:, 0].set(0.0),
    "added to a position": lambda _, x: x.at[:, :, 1].add(x[:, :, 2]),
    "dynamic slice of positions": lambda _, x: jax.lax.dynamic_slice_in_dim(x, 1, 4, axis=1),
    "dynamic update of positions": lambda _, x: jax.lax.dynamic_update_slice_in_dim(x, 2 * x[:, :2], 3, axis=1),
    "optimization barrier": lambda _, x: jax.lax.optimization_barrier(x),
    "the best positions": lambda _, x: jax.lax.top_k(x.swapaxes(1, 3), 3)[0].swapaxes(1, 3),
    "a loop": lambda _, x: jax.lax.fori_loop(0, 3, lambda _, y: nnx.relu(y + x), x),
    "a branch": lambda _, x: jax.lax.cond(x.shape[0] > 0, lambda y: y, lambda y: 2 * y, x),
    "a squeezed and expanded axis": lambda _, x: x[:, None].squeeze(1),
    "bits of numbers": lambda _, x: jnp.copysign(x, x - 0.2) * jnp.signbit(x - 0.3) + sum(jnp.frexp(x)),
    "bytes of numbers": lambda _, x: x * jax.lax.bitcast_convert_type(x, jnp.uint8).astype(x.dtype).mean(-1),
    "counts of bits": lambda _, x: x * jax.lax.population_count((9 * jnp.abs(x)).astype(jnp.uint32)).astype(x.dtype),
    "loops that end one by one": lambda _, x: (
        x + jax.lax.stop_gradient(jax.scipy.special.expi(1 + nnx.softplus(x[:, 0])))[:, None]
    ),
}
# What looks at channels together looks at those that are kept.
OVER_CHANNELS = {
    "mean and variance": lambda net, x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5),
    "deviation of a sample": lambda net, x: x / (x.std(-1, ddof=1, keepdims=True) + 0.1),
    "standardised examples": lambda net, x: jax.nn.standardize(x, axis=(1, 2, 3)),
    "root of a mean square": lambda net, x: (
        x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * net.scale[...][None, None, None]
    ),
    "length": lambda net, x: x / (jnp.linalg.norm(x, axis=-1, keepdims=True) / np.sqrt(x.shape[-1]) + 1e-3),
    "length by a product": lambda net, x: x * jax.lax.rsqrt(jnp.einsum("nhwc,nhwc->nhw", x, x)[..., None] + 1e-3),
    "numbers of channels": lambda net, x: (
        jnp.clip(x, 0, x.shape[-1] / 9) * x.shape[-1] ** -0.25 / np.sqrt(x.shape[-1] + 1)
        + x * np.log(x.shape[-1]) / (x.shape[-1] - 1)
    ),
    "numbers of two groups": lambda net, x: (
        x * jnp.abs(net.second.kernel[...]).mean() / np.sqrt(x.shape[-1] + net.second.kernel.shape[-1])
        + x / np.sqrt(x.shape[-1] * net.second.kernel.shape[-1])
    ),
    "softmax": lambda net, x: nnx.softmax(x),
    "logsumexp": lambda net, x: x - jax.nn.logsumexp(x, axis=-1, keepdims=True),
    "minimum and maximum": lambda net, x: (x - x.min(-1, keepdims=True)) / (1 + x.max(-1, keepdims=True)),
    "product and any": lambda net, x: x * jnp.prod(1 + x / 9, -1, keepdims=True) * jnp.any(x > 0, -1, keepdims=True),
    "global response": lambda net, x: (
        lambda gained: x * gained / (gained.mean(-1, keepdims=True) + 1e-6) * net.scale[...][None, None, None] + x
    )(jnp.linalg.norm(x, axis=(1, 2), keepdims=True)),
    "attention to positions": lambda net, x: (
        x * nnx.sigmoid(net.spatial(jnp.concatenate([x.mean(-1, keepdims=True), x.max(-1, keepdims=True)], -1)))
    ),
    "in a loop": lambda net, x: jax.lax.fori_loop(0, 3, lambda _, y: nnx.softmax(y + x), x),
    "in a branch": lambda net, x: jax.lax.cond(x.sum() > 0, nnx.softmax, lambda y: 2 * y, x),
    "in a layer that is computed anew": lambda net, x: nnx.remat(lambda y: nnx.softmax(y))(x),
    "similarity of positions": lambda net, x: (
        lambda t: x + (nnx.softmax(t @ t.swapaxes(1, 2) / np.sqrt(t.shape[-1])) @ t).reshape(x.shape)
    )(x.reshape(x.shape[0], -1, x.shape[-1])),
    "a number of channels": lambda net, x: x * x.shape[-1] + 1 / x.shape[-1],
}
# Kernels that are no layer's own: of the number of channels, or one for each example.
NUMBERS = ("NHWC", "HWIO", "NHWC")


def blurred(_, x):
    kernel = jnp.tile(
        jnp.outer(jnp.array([1, 2, 1]), jnp.array([1, 2, 1])).astype(x.dtype)[..., None, None] / 16, x.shape[-1]
    )
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=NUMBERS, feature_group_count=x.shape[-1]
    )


def mixed_for_each_example(net, x):
    kernels = jnp.einsum("nk,khwio->nhwio", nnx.softmax(x[:, 0, 0] @ net.gate[...]), net.kernels[...])
    convolve = lambda one, kernel: jax.lax.conv_general_dilated(  # noqa: E731
        one[None], kernel, (1, 1), "SAME", dimension_numbers=NUMBERS
    )[0]
    return net.back(jax.vmap(convolve)(x, kernels))


KERNELS = {
    "blur": (blurred, {}, BOTH),
    "one for each example": (
        mixed_for_each_example,
        dict(gate=nnx.Param(jnp.ones((8, 3))), kernels=nnx.Param(jnp.ones((3, 3, 3, 8, 6))), back=conv(6, 8)),
        "first:8:conv gate:3:dense kernels:6:dense back:8:conv second:12:conv",
    ),
    "a product whose order depends on sizes": (
        lambda net, x: net.back(jnp.einsum("nhwi,ijk,nhwj->nhwk", x, net.form[...], x)),
        dict(form=nnx.Param(jnp.ones((8, 8, 6)) / 9), back=conv(6, 8)),
        "first:8:conv form:6:dense back:8:conv second:12:conv",
    ),
}
# Random numbers of a channel are the same in the whole and in the smaller network.
RANDOM = {
    "dropout": lambda net, x: net.dropout(x),
    "dropout of channels": lambda net, x: nnx.Dropout(0.5, broadcast_dims=(1, 2), rngs=net.noise)(x),
    "noise": lambda net, x: x + jax.random.normal(net.noise.noise(), x.shape),
    "noise of channels": lambda net, x: x * jax.random.uniform(net.noise.noise(), x.shape[-1:])[None, None, None],
    "noise of flattened channels": lambda net, x: (
        lambda flat: (flat * jax.random.bernoulli(net.noise.noise(), 0.5, flat.shape)).reshape(x.shape)
    )(x.reshape(x.shape[0], -1)),
    "noise of keys by index": lambda net, x: (
        lambda keys, n: x + jax.random.normal(jnp.stack([keys[n], jnp.take(keys, 2)])[n], x.shape)
    )(jax.random.split(net.noise.noise(), 3), (x.sum() > 0).astype(int)),
    "a key for each example and each channel": lambda net, x: (
        x
        + jax.vmap(jax.vmap(lambda key: jax.random.normal(key, x.shape[1:3]), out_axes=-1))(
            jax.random.split(net.noise.noise(), (len(x), x.shape[-1]))
        )
    ),
    "keys of a loop": lambda net, x: jax.lax.scan(
        lambda y, key: (y + jax.random.uniform(key, y.shape), None), x, jax.random.split(net.noise.noise(), 2)
    )[0],
    "a softmax with noise": lambda net, x: nnx.softmax(x + jax.random.gumbel(net.noise.noise(), x.shape)),
}
# Scalars, learnt or computed.
SCALAR = {
    "an element": (lambda net, x: x * net.gate[0], (2,)),
    "squeeze": (lambda net, x: x * net.gate.squeeze(), (1, 1)),
    "product of vectors": (lambda net, x: x * jnp.vdot(net.gate[...], net.gate[...]), (3,)),
    "a slope that began as a constant": (lambda net, x: jnp.where(x > 0, x, net.gate[...][None, None, None] * x), None),
    "mixed operations": (
        lambda net, x: sum(w * f(x) for w, f in zip(nnx.softmax(net.gate[...]), (nnx.relu, jnp.tanh), strict=True)),
        (2,),
    ),
}


@pytest.mark.parametrize("what", CARRYING)
def test_what_moves_positions_carries_channels_along(what):
    assert groups(trace(lambda: between(CARRYING[what]), IMAGES)) == BOTH


@pytest.mark.parametrize("what", KERNELS)
def test_kernels_that_are_no_layers_own_are_followed(what):
    function, layers, expected = KERNELS[what]
    assert groups(trace_network(between(function, **layers), jnp.ones(IMAGES))) == expected


@pytest.mark.parametrize("what", OVER_CHANNELS)
def test_what_looks_at_channels_together_is_followed(what):
    layers = dict(scale=nnx.Param(jnp.ones(8)), spatial=conv(2, 1))
    assert groups(trace(lambda: between(OVER_CHANNELS[what], **layers), IMAGES)) == BOTH


@pytest.mark.parametrize("what", RANDOM)
def test_random_numbers_of_channels_are_followed(what):
    layers = dict(noise=nnx.Rngs(noise=0, dropout=0), dropout=nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
    network = trace(lambda: between(RANDOM[what], **layers), IMAGES)
    assert groups(network) == BOTH
    assert network.draws[True]


def standardised(net, x):
    """A convolution whose kernels have mean 0 and variance 1 over the channels that they take in."""
    kernel = net.kernel[...]
    kernel = (kernel - kernel.mean((0, 1, 2))[None, None, None]) / (kernel.std((0, 1, 2)) + 1e-5)[None, None, None]
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def test_norms_of_kernels_are_followed():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 8, 6))
    network = trace(
        lambda: between(lambda net, x: net.back(standardised(net, x)), kernel=nnx.Param(kernel), back=conv(6, 8)), IMAGES
    )
    assert [group.filters for group in network.filter_groups] == [8, 6, 8, 12]

    def run(net, x):
        return net.classifier(nnx.relu(net.second(nnx.relu(net.first(x)))).mean((1, 2)))

    spectral = [nnx.SpectralNorm(layer, rngs=nnx.Rngs(0)) for layer in (conv(1, 8), conv(8, 12))]
    network = trace_network(Net(run, first=spectral[0], second=spectral[1], classifier=dense(12, 10)), jnp.ones(IMAGES))
    assert groups(network) == "first.layer_instance:8:conv second.layer_instance:12:conv"


@pytest.mark.parametrize("what", SCALAR)
def test_scalars_are_followed(what):
    function, shape = SCALAR[what]
    network = between(function, gate=nnx.Param(jnp.full((1,), 0.2) if shape is None else jnp.ones(shape)))
    assert groups(trace_network(network, jnp.ones(IMAGES))) == BOTH


# Attention, in its public spellings. Two of four tokens' features are heads of four channels; a head is lost as a whole.

TOKENS = (1, 5, 6)


def attends(query, key, value):
    weights = nnx.softmax(jnp.einsum("nqhd,nkhd->nhqk", query, key) / np.sqrt(4), axis=-1)
    return jnp.einsum("nhqk,nkhd->nqhd", weights, value)


def fused_by_moving(net, x):
    n, t, _ = x.shape
    query, key, value = jnp.moveaxis(net.qkv(x).reshape(n, t, 3, -1, 4), 2, 0)
    return net.back(attends(query, key, value).reshape(n, t, -1))


def fused_by_splitting(net, x):
    n, t, _ = x.shape
    query, key, value = (part.reshape(n, t, -1, 4) for part in jnp.split(net.qkv(x), 3, axis=-1))
    return net.back(attends(query, key, value).reshape(n, t, -1))


def fused_by_indexing(net, x):
    n, t, _ = x.shape
    qkv = net.qkv(x).reshape(n, t, 3, -1, 4).transpose(2, 0, 3, 1, 4)
    weights = nnx.softmax(qkv[0] @ qkv[1].swapaxes(-1, -2) * 0.5, axis=-1)
    return net.back((weights @ qkv[2]).swapaxes(1, 2).reshape(n, t, -1))


def transformer(attend, **layers):
    """Patches, a class token, positions, one block, the class token's logits."""

    def run(net, x):
        x = net.patch(x)
        token = jnp.broadcast_to(net.token[...], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([token, x], axis=1) + net.position[...][None]
        x = x + attend(net, net.norm1(x))
        x = x + net.down(nnx.gelu(net.up(net.norm2(x))))
        return net.out(x[:, 0])

    norms = {f"norm{index}": nnx.LayerNorm(6, rngs=nnx.Rngs(0)) for index in (1, 2)}
    own = dict(patch=dense(6, 6), token=nnx.Param(jnp.zeros((1, 1, 6))), position=nnx.Param(jnp.zeros((6, 6))))
    return Net(run, **own, **norms, **layers, up=dense(6, 7), down=dense(7, 6), out=dense(6, 3))


@pytest.mark.parametrize("fused", [fused_by_moving, fused_by_splitting, fused_by_indexing])
def test_heads_of_fused_queries_keys_and_values_are_filters(fused):
    network = trace(lambda: transformer(fused, qkv=dense(6, 24), back=dense(8, 6)), TOKENS)
    assert groups(network) == "patch:6:dense qkv:2:head up:7:dense"


def test_heads_that_are_written_down_are_kept_whole_and_the_rest_is_not():
    def attention(net, x):
        n, t, _ = x.shape
        query, key, value = net.qkv(x).reshape(n, t, 3, 2, 4).transpose(2, 0, 1, 3, 4)
        return net.back(attends(query, key, value).reshape(n, t, 8))

    network = trace(lambda: transformer(attention, qkv=dense(6, 24), back=dense(8, 6)), TOKENS)
    assert groups(network) == "patch:6:dense up:7:dense"
    assert [(whole.layer, whole.filters) for whole in network.kept_whole] == [("qkv", 24)]


def test_where_lengths_are_computed_from_the_width_of_the_stream_the_stream_is_kept_whole():
    def attention(net, x):
        n, t, channels = x.shape
        query, key, value = net.qkv(x).reshape(n, t, 3, 2, channels // 2).transpose(2, 0, 1, 3, 4)
        return net.back(attends(query, key, value).reshape(n, t, channels))

    network = trace(lambda: transformer(attention, qkv=dense(6, 18), back=dense(6, 6)), TOKENS)
    assert groups(network) == "up:7:dense"
    assert {whole.layer for whole in network.kept_whole} == {"patch", "qkv", "back", "down"}


def test_heads_of_flax_are_filters():
    def build():
        attention = nnx.MultiHeadAttention(2, 6, 8, decode=False, rngs=nnx.Rngs(0))
        return transformer(lambda net, x: net.attention(x), attention=attention)

    network = trace(build, TOKENS)
    assert groups(network) == "patch:6:dense attention.query:2:head up:7:dense"
    assert network.macs() == 5 * 6 * 6 + 6 * (4 * 6 * 8) + 2 * 6 * 6 * 8 + 6 * 2 * 6 * 7 + 6 * 3


def test_heads_with_normalised_queries_and_keys_are_filters():
    def build():
        attention = nnx.MultiHeadAttention(2, 6, 8, decode=False, normalize_qk=True, rngs=nnx.Rngs(0))
        return transformer(lambda net, x: net.attention(x), attention=attention)

    assert "attention.query:2:head" in groups(trace(build, TOKENS))


def test_heads_of_einsum_and_of_general_dense_layers_are_filters():
    def attention(net, x):
        query, key, value = (layer(x) for layer in (net.query, net.key, net.value))
        return net.back(attends(query, key, value))

    def by_einsum():
        inside = {n: nnx.Einsum("ntf,fhd->nthd", (6, 2, 4), (2, 4), rngs=nnx.Rngs(0)) for n in ("query", "key", "value")}
        back = nnx.Einsum("nthd,hdf->ntf", (2, 4, 6), (6,), rngs=nnx.Rngs(0))
        return transformer(attention, **inside, back=back)

    def by_general_layers():
        inside = {n: nnx.LinearGeneral(6, (2, 4), rngs=nnx.Rngs(0)) for n in ("query", "key", "value")}
        return transformer(attention, **inside, back=nnx.LinearGeneral((2, 4), 6, axis=(-2, -1), rngs=nnx.Rngs(0)))

    for build in (by_einsum, by_general_layers):
        assert groups(trace(build, TOKENS)) == "patch:6:dense query:2:head value:4:dense up:7:dense"


def test_a_table_of_relative_positions_has_the_heads_as_filters():
    places = np.arange(6)[:, None] - np.arange(6)[None] + 5

    def attention(net, x):
        n, t, _ = x.shape
        query, key, value = net.qkv(x).reshape(n, t, 3, -1, 4).transpose(2, 0, 3, 1, 4)
        bias = net.table[...][places.reshape(-1)].reshape(t, t, -1).transpose(2, 0, 1)
        weights = nnx.softmax(query @ key.swapaxes(-1, -2) + bias[None], axis=-1)
        return net.back((weights @ value).swapaxes(1, 2).reshape(n, t, -1))

    layers = dict(qkv=dense(6, 24), back=dense(8, 6), table=nnx.Param(jnp.zeros((11, 2))))
    assert "qkv:2:head" in groups(trace(lambda: transformer(attention, **layers), TOKENS))


# Reshapes that split channels.


def test_a_dense_layer_that_makes_an_image_has_its_channels_as_filters():
    def run(net, x):
        x = nnx.relu(net.make(x.reshape(x.shape[0], -1))).reshape(x.shape[0], 4, 4, -1)
        return net.classifier(nnx.relu(net.conv(x)).mean((1, 2)))

    network = trace(lambda: Net(run, make=dense(64, 96), conv=conv(6, 5), classifier=dense(5, 3)), IMAGES)
    assert groups(network) == "make:6:dense conv:5:conv"
    assert network.macs([3, 5]) == 64 * 48 + 16 * 9 * 3 * 5 + 5 * 3


def test_depth_to_space_has_blocks_as_filters():
    def run(net, x):
        x = net.deep(x)
        n, h, w, _ = x.shape
        x = x.reshape(n, h, w, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, -1)
        return net.classifier(nnx.relu(net.conv(x)).mean((1, 2)))

    assert groups(trace(lambda: Net(run, deep=conv(1, 12), conv=conv(3, 5), classifier=dense(5, 3)), IMAGES)) == (
        "deep:3:conv conv:5:conv"
    )


@pytest.mark.parametrize("blocks", [2, 4])
def test_a_shuffle_of_so_many_groups_has_a_channel_of_each_as_a_filter(blocks):
    def shuffled(_, x):
        split = x.reshape(*x.shape[:-1], blocks, x.shape[-1] // blocks)
        return jnp.swapaxes(split, -1, -2).reshape(x.shape)

    assert groups(trace(lambda: between(shuffled), IMAGES)) == f"first:{8 // blocks}:conv second:12:conv"


# Loops.


@pytest.mark.parametrize("cell", [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell])
def test_units_of_a_recurrent_layer_are_filters(cell):
    def run(net, x):
        return net.out(net.rnn(net.embed(x))[:, -1])

    def build():
        rnn = nnx.RNN(cell(4, 6, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
        return Net(run, embed=dense(6, 4), rnn=rnn, out=dense(6, 3))

    network = trace(build, TOKENS)
    assert [group.filters for group in network.filter_groups] == [4, 6]


def test_units_of_a_cell_that_the_network_calls_itself_are_filters():
    def run(net, x):
        carry = net.cell.initialize_carry((x.shape[0], 6), nnx.Rngs(0))
        for time in range(x.shape[1]):
            carry, _ = net.cell(carry, x[:, time])
        return net.out(carry)

    network = trace(lambda: Net(run, cell=nnx.GRUCell(6, 4, rngs=nnx.Rngs(0)), out=dense(4, 3)), TOKENS)
    assert [group.filters for group in network.filter_groups] == [4]


def test_layers_that_are_stacked_share_their_groups():
    class Stacked(nnx.Module):
        def __init__(self):
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def blocks(key):
                return Block(nnx.Rngs(key))

            self.blocks, self.out = blocks(jax.random.split(jax.random.key(0), 3)), dense(6, 3)

        def __call__(self, x):
            @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            def through(x, block):
                return block(x)

            return self.out(through(x, self.blocks).mean(1))

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.up, self.down = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 6, rngs=rngs)

        def __call__(self, x):
            return x + self.down(nnx.gelu(self.up(x)))

    network = trace(Stacked, TOKENS)
    assert [group.filters for group in network.filter_groups] == [8]
    assert network.macs() == 3 * 5 * 2 * 6 * 8 + 6 * 3


# Larger images: where the network does the same with smaller ones, these are computed.


def gram(net, x):
    """A product of three, which begins with other two of them where the height exceeds the number of channels."""
    t = net.one(x).mean(2)
    return jnp.einsum("nhi,nhj,nkj->nki", t, t, t)[:, :, None]


def branch(net, x):
    one, other = net.one(x), net.other(x)
    return jnp.concatenate([one, other, nnx.softmax(one if x.shape[1] > 8 else other)], axis=-1)


def flattened(net, x, order=(0, 1, 2, 3), function=nnx.softmax):
    """Two groups of channels on one axis, which is flattened with the positions for one operation, and split again."""
    one, other = net.one(x), net.other(x)
    x = jnp.concatenate([one, other], axis=-1).transpose(order)
    x = function(x.reshape(len(x), -1)).reshape(x.shape).transpose(np.argsort(order))
    return jnp.concatenate(jnp.split(x, [one.shape[-1]], axis=-1)[::-1], axis=-1)


def flattened_each(net, x):
    """Two groups of channels, each flattened with its positions before they are joined."""
    one, other = net.one(x), net.other(x)
    flat = nnx.softmax(jnp.concatenate([y.reshape(len(y), -1) for y in (one, other)], axis=-1))
    return one * flat.sum(-1)[:, None, None, None] + flat[:, : one.size // len(one)].reshape(one.shape)


ON_LARGER_IMAGES = {
    "a product whose order depends on the size": (gram, 12, "one:12:conv second:5:conv"),
    "a branch by the size": (branch, 36, "one:12:conv other:12:conv second:5:conv"),
    "channels last": (flattened, 24, "one:12:conv other:12:conv second:5:conv"),
    "channels first": (functools.partial(flattened, order=(0, 3, 1, 2)), 24, "one:12:conv other:12:conv second:5:conv"),
    "channels between": (functools.partial(flattened, order=(0, 1, 3, 2)), 24, "one:12:conv other:12:conv second:5:conv"),
    "each by itself": (flattened_each, 12, "one:12:conv other:12:conv second:5:conv"),
}


@pytest.mark.parametrize("what", ON_LARGER_IMAGES)
def test_what_depends_on_the_size_of_images_is_what_it_is_at_their_own(what):
    function, channels, expected = ON_LARGER_IMAGES[what]

    def run(net, x):
        return net.out(nnx.relu(net.second(function(net, x))).mean((1, 2)))

    layers = dict(one=conv(1, 12), other=conv(1, 12), second=conv(channels, 5), out=dense(5, 3))
    network = trace(lambda: Net(run, **layers), (1, 16, 16, 1))
    assert groups(network) == expected
