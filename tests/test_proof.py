"""Claims about the proof of a trace: what the rules get wrong is refused with layer and operation, and never trained."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.extend import core

from distreal_jax.errors import InputError
from distreal_jax.search import SearchSpace
from distreal_jax.table import DropoutTable
from distreal_jax.tracing import FilterGroup, dropped_groups, elementwise_rule, proof, register_rule, rules, trace_network
from distreal_jax.tracing.arithmetic import compute
from distreal_jax.tracing.operations import exact
from tests.test_idioms import BOTH, IMAGES, Net, between, conv, dense, groups, trace


class Layer(nnx.Module):
    """A layer without parameters."""

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return self.function(x)


def with_layer(function):
    return between(lambda net, x: net.odd(x), odd=Layer(function))


def with_derivative(backward, function=lambda x: x):
    """The function with a derivative of its own, of its operand and a cotangent."""
    own = jax.custom_vjp(function)
    own.defvjp(lambda x: (function(x), x), lambda x, g: (backward(x, g),))
    return own


# Each runs in every smaller network, has the shapes that one expects of it, or is what one computes with.
SILENT = {
    "a count in an array": lambda x: x / np.array([x.shape[-1]], dtype=np.float32)[None, None, None],
    "a count in a power": lambda x: x ** x.shape[-1],
    "a count in an array in a gradient": with_derivative(lambda _, g: g / np.array([[[g.shape[-1:]]]], dtype=np.float32)),
}


@pytest.mark.parametrize("what", SILENT)
def test_what_would_be_wrong_without_a_word_is_refused(what):
    with pytest.raises(InputError) as refusal:
        trace(lambda: with_layer(SILENT[what]), IMAGES)
    assert "\n" not in str(refusal.value)
    if what != "a count in an array in a gradient":  # which is in no operation of the forward pass
        assert "layer 'odd'" in str(refusal.value) or "computes with the number" in str(refusal.value)


SPLIT = {
    "halves that are computed differently": lambda x: jnp.concatenate([jnp.exp(x[..., :4]), jnp.tanh(x[..., 4:])], -1),
    "a temporal shift": lambda x: jnp.concatenate([jnp.roll(x[..., :2], 1, axis=1), x[..., 2:]], -1),
    "the first channel, that gates all": lambda x: x * nnx.sigmoid(x[..., :1]),
    "the last channel, that all are compared to": lambda x: x - x[..., -1:],
}


@pytest.mark.parametrize("what", SPLIT)
def test_channels_that_are_split_at_a_number_are_kept_whole(what):
    network = trace(lambda: with_layer(SPLIT[what]), IMAGES)
    assert groups(network) == "second:12:conv"
    assert re.search(r"layer 'odd'.* where their number is written down", str(network.kept_whole[0]))


STEPS = {
    "a number that goes in steps": (lambda net, x: x / ((x.shape[-1] + 1) // 2), "becomes"),
    "a bounded number": (lambda net, x: x / min(x.shape[-1], 4), "4.0 becomes 2.0"),
}


@pytest.mark.parametrize("what", STEPS)
def test_channels_whose_number_is_computed_with_in_an_unknown_way_are_kept_whole(what):
    function, said = STEPS[what]
    network = trace(lambda: between(function), IMAGES)
    assert groups(network) == "second:12:conv"
    assert re.search(rf"'div' at .*, which computes with their number \(.*{said}", str(network.kept_whole[0]))


def test_a_ramp_as_long_as_there_are_channels_is_no_number_that_is_written_down():
    network = trace(lambda: between(lambda _, x: x * jnp.arange(0, x.shape[-1], 2).sum()), IMAGES)
    assert re.search(r"'iota' at .*, a ramp whose length follows from their number", str(network.kept_whole[0]))


def shift_a_quarter(net, x):
    """A shift as temporal shift modules have it: of shares of the channels, whatever their number."""
    quarter = x.shape[-1] // 4
    left, right, rest = jnp.split(x, [quarter, 2 * quarter], axis=-1)
    return jnp.concatenate([jnp.roll(left, 1, axis=1), jnp.roll(right, -1, axis=1), rest], axis=-1)


def reverse(net, x):
    """A reversible block: each half of the channels is added to by what is computed of the other."""
    one, other = jnp.split(x, 2, axis=-1)
    one = one + net.f(other)
    return jnp.concatenate([one, other + net.g(one)], axis=-1)


PARTS = {
    "halves of whatever there is": (
        lambda net, x: jnp.concatenate(
            [nnx.relu(x[..., : x.shape[-1] // 2]), jnp.tanh(x[..., x.shape[-1] // 2 :])], axis=-1
        ),
        dict,
        "first:4:conv second:12:conv",
    ),
    "a shift of a share of the channels": (shift_a_quarter, dict, "first:2:conv second:12:conv"),
    "a reversible block": (reverse, lambda: dict(f=conv(4, 4), g=conv(4, 4)), "first:4:conv second:12:conv"),
    "part of a normalisation": (
        lambda net, x: jnp.concatenate([net.one(x[..., :4]), net.other(x[..., 4:])], axis=-1),
        lambda: dict(one=nnx.InstanceNorm(4, rngs=nnx.Rngs(0)), other=nnx.BatchNorm(4, rngs=nnx.Rngs(0))),
        "first:4:conv second:12:conv",
    ),
    "part of a convolution": (
        lambda net, x: jnp.concatenate([net.part(x[..., :2]), x[..., 2:]], axis=-1),
        lambda: dict(part=conv(2, 2)),
        "first:6:conv part:2:conv second:12:conv",
    ),
    "a shortcut filled up with as many zeros": (
        lambda net, x: net.back(net.wide(x) + jnp.concatenate([x, jnp.zeros_like(x)], axis=-1)),
        lambda: dict(wide=conv(8, 16), back=conv(16, 8)),
        "first:8:conv back:8:conv second:12:conv",
    ),
    "ones beside channels": (
        lambda net, x: net.back(jnp.concatenate([jnp.ones_like(x), x], axis=-1)),
        lambda: dict(back=conv(16, 8)),
        "first:8:conv back:8:conv second:12:conv",
    ),
    "a shortcut padded on both sides": (
        lambda net, x: net.back(net.wide(x) + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (2, 2)))),
        lambda: dict(wide=conv(8, 12), back=conv(12, 8)),
        "first:8:conv back:8:conv second:12:conv",
    ),
}


@pytest.mark.parametrize("what", PARTS)
def test_channels_that_go_different_ways_are_dropped_alike_from_equal_parts_or_kept(what):
    function, layers, expected = PARTS[what]
    assert groups(trace(lambda: between(function, **layers()), IMAGES)) == expected


def test_masked_gradients_are_numbers_where_a_root_or_a_logarithm_of_zero_has_none():
    """A dropped filter is zero, where a square root has no derivative."""

    def run(net, x):
        return net.classifier(jnp.sqrt(jnp.square(net.second(net.first(x)))).mean((1, 2)))

    network = trace(lambda: Net(run, first=conv(1, 4), second=conv(4, 8), classifier=dense(8, 10)), IMAGES)
    assert groups(network) == "first:4:conv second:8:conv"


def looped(x):
    return lax.while_loop(lambda carry: carry[0] < 3, lambda carry: (carry[0] + 1, carry[1] / 2), (0, x))[1]


@pytest.mark.parametrize(("layer", "why"), [(looped, "while_loop"), (with_derivative(lambda _, g: g[0]), "Custom VJP")])
def test_a_network_without_a_gradient_is_refused(layer, why):
    with pytest.raises(InputError, match=rf"no gradient that JAX can compute \(.*{why}"):
        trace(lambda: with_layer(layer), IMAGES)


def test_channels_that_a_derivative_of_the_networks_own_mixes_are_kept_whole():
    for backward in (lambda _, g: jnp.sort(g), lambda _, g: g * jnp.arange(1.0, 9).reshape(1, 1, 1, 8)):
        assert groups(trace(lambda: with_layer(with_derivative(backward)), IMAGES)) == "second:12:conv"  # noqa: B023


def test_networks_are_told_apart_by_the_derivatives_of_their_own():
    trace(lambda: with_layer(with_derivative(lambda _, g: 2 * g)), IMAGES)
    with pytest.raises(InputError, match="the gradient of"):
        trace(lambda: with_layer(SILENT["a count in an array in a gradient"]), IMAGES)


def test_without_the_proof_by_numbers_shapes_are_still_compared():
    assert groups(trace(lambda: with_layer(SILENT["a count in an array"]), IMAGES, proof=False)) == BOTH
    assert groups(trace(lambda: with_layer(SPLIT["a temporal shift"]), IMAGES, proof=False)) == "second:12:conv"


def test_a_network_is_proved_once(monkeypatch):
    build = lambda: with_layer(lambda x: 1.5 * x)  # noqa: E731
    trace(build, IMAGES)
    monkeypatch.setattr(proof, "_Numbers", None)
    trace(build, IMAGES)


# Normalisations.


class Renamed(nnx.LayerNorm):
    def __call__(self, features, scale=1.0, mask=None):
        return scale * super().__call__(features, mask=mask)


class Maskless(nnx.LayerNorm):
    def __call__(self, x):
        return super().__call__(x)


def test_a_normalisation_without_parameters_behind_two_layers_counts_the_channels_of_each_call():
    def run(net, x):
        x = nnx.relu(net.norm(net.first(x)))
        return net.classifier(nnx.relu(net.norm(net.second(x))).mean((1, 2)))

    def build():
        norm = nnx.LayerNorm(8, use_scale=False, use_bias=False, rngs=nnx.Rngs(0))
        return Net(run, first=conv(1, 8), second=conv(8, 8), norm=norm, classifier=dense(8, 10))

    network = trace(build, IMAGES)
    assert groups(network) == "first:8:conv second:8:conv"
    assert {(place.layer, place.call) for place in network.actions[True]} == {("norm", 0), ("norm", 1)}


def test_a_layer_norm_with_a_signature_of_its_own_is_followed():
    build = lambda: between(lambda net, x: net.norm(x, 0.5), norm=Renamed(8, rngs=nnx.Rngs(0)))  # noqa: E731
    assert groups(trace(build, IMAGES)) == BOTH
    build = lambda: between(lambda net, x: net.norm(x), norm=Maskless(8, rngs=nnx.Rngs(0)))  # noqa: E731
    assert groups(trace(build, IMAGES)) == BOTH


def test_a_mask_of_the_networks_own_is_kept():
    def function(net, x):
        return net.norm(x, mask=jnp.ones(x.shape, bool))

    assert groups(trace(lambda: between(function, norm=nnx.LayerNorm(8, rngs=nnx.Rngs(0))), IMAGES)) == BOTH


# Modes.


def test_a_branch_of_training_alone_is_followed_and_counted():
    class Auxiliary(nnx.Module):
        def __init__(self):
            self.a, self.b, self.deterministic = conv(1, 8), conv(8, 12), False
            self.hidden, self.aux, self.classifier = dense(8, 6), dense(6, 10), dense(12, 10)

        def __call__(self, x):
            h = nnx.relu(self.a(x))
            out = self.classifier(nnx.relu(self.b(h)).mean((1, 2)))
            return out if self.deterministic else out + self.aux(nnx.relu(self.hidden(h.mean((1, 2)))))

    network = trace(Auxiliary, IMAGES)
    assert groups(network) == "a:8:conv b:12:conv hidden:6:dense"
    assert network.macs([4, 12, 3]) == 64 * 9 * (4 + 4 * 12) + 10 * 12 + 4 * 3 + 3 * 10


def test_what_a_network_sows_is_no_variable_of_it():
    class Sown(nnx.Module):
        def __init__(self):
            self.conv, self.classifier = conv(1, 8), dense(8, 10)

        def __call__(self, x):
            x = nnx.relu(self.conv(x))
            self.sow(nnx.Intermediate, "features", x)
            return self.classifier(x.mean((1, 2)))

    fresh, used = Sown(), Sown()
    with pytest.warns(DeprecationWarning, match="sow"):
        used(jnp.ones(IMAGES))
    traced = [trace_network(model, jnp.ones(IMAGES)) for model in (fresh, used)]
    assert traced[0].layouts == traced[1].layouts
    assert hasattr(used, "features")  # what it had is still there


# What is kept whole is said.

WHOLE = {
    "a ramp over channels": (lambda x: x * np.linspace(0.5, 1.5, 8, dtype=np.float32)[None, None, None], "mul"),
    "the first channels": (lambda x: jnp.where(jnp.arange(8)[None, None, None] < 3, x, 0), "select_n"),
    "channels by index": (lambda x: x[..., np.array([1, 0, 2, 3, 4, 5, 6, 7])], "gather"),
    "attention over neighbouring channels": (
        lambda x: x * nnx.sigmoid(lax.conv(x.mean((1, 2))[:, None], jnp.ones((1, 1, 3)), (1,), "SAME")[:, 0])[:, None, None],
        "conv_general_dilated",
    ),
    "a Gram matrix": (
        lambda x: x * jnp.einsum("nhwc,nhwd->ncd", x, x).reshape(x.shape[0], -1)[:, None, None, :8],
        "mul",
    ),
    "a loop over channels": (
        lambda x: x + lax.scan(lambda c, y: (c + y, None), jnp.zeros(x.shape[:-1]), jnp.moveaxis(x, -1, 0))[0][..., None],
        "scan",
    ),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_layer_that_is_kept_whole_is_named_with_the_operation(what):
    function, primitive = WHOLE[what]
    network = trace(lambda: with_layer(function), IMAGES)
    assert groups(network) == "second:12:conv"
    (whole,) = network.kept_whole
    assert (whole.layer, whole.filters) == ("first", 8)
    assert f"primitive '{primitive}'" in whole.reason
    assert str(whole) in str(network)


def test_filters_that_go_together_are_no_group():
    """Two grouped convolutions with a shuffle between them tie every channel to every other."""

    def function(net, x):
        halves = jnp.swapaxes(net.odd(x).reshape(*x.shape[:-1], -1, 4), -1, -2).reshape(x.shape)
        return net.even(halves)

    layers = {name: conv(8, 8, feature_group_count=2) for name in ("odd", "even")}
    network = trace(lambda: between(function, **layers), IMAGES)
    assert groups(network) == "second:12:conv"
    assert [whole.layer for whole in network.kept_whole] == ["first", "odd", "even"]


def test_layers_are_kept_whole_by_name_or_by_an_attribute_of_the_class():
    class Marked(Net):
        keep_whole = ("sec*",)

    by_name = trace(lambda: with_layer(nnx.relu), IMAGES, keep_whole="first")
    assert groups(by_name) == "second:12:conv"
    assert str(by_name.kept_whole[0]) == "kept whole: first, 8 filters, by keep_whole"
    run = between(lambda _, x: x).run
    marked = trace(lambda: Marked(run, first=conv(1, 8), second=conv(8, 12), classifier=dense(12, 10)), IMAGES)
    assert groups(marked) == "first:8:conv"
    with pytest.raises(InputError, match="keep_whole names 'third', which is no layer with filters; choose from: first, "):
        trace(lambda: with_layer(nnx.relu), IMAGES, keep_whole=["third"])
    with pytest.raises(InputError, match=r"keep_whole is \[3\]; give paths of layers, such as "):
        trace(lambda: with_layer(nnx.relu), IMAGES, keep_whole=[3])


def test_a_network_of_which_nothing_can_be_dropped_is_refused_by_what_drops():
    run = lambda net, x: net.classifier(nnx.relu(net.first(x) * np.arange(8)[None, None, None]).mean((1, 2)))  # noqa: E731
    network = trace(lambda: Net(run, first=conv(1, 8), classifier=dense(8, 10)), IMAGES)
    assert str(network).startswith("nothing of this network can be dropped")
    with pytest.raises(InputError, match=r"none can be dropped \(kept whole: first, 8 filters, by .*'mul'.*; take another"):
        SearchSpace(network, 0.9)


def test_hidden_units_are_dropped_by_default_where_there_are_no_convolutions_and_heads_are_not():
    def run(net, x):
        x = net.hidden(x.reshape(x.shape[0], -1))
        return net.classifier(nnx.relu(x))

    network = trace(lambda: Net(run, hidden=dense(64, 8), classifier=dense(8, 10)), IMAGES)
    assert [entry.widths for entry in DropoutTable.uniform(network, [0, 0.5]).entries] == [(4,), (8,)]
    kinds = [FilterGroup(kind, 4, kind) for kind in ("conv", "dense", "head")]
    assert dropped_groups(kinds).tolist() == [True, False, False]
    assert dropped_groups(kinds[1:]).tolist() == [True, False]
    assert dropped_groups(kinds, dense=True).tolist() == [True, True, False]


def test_a_network_says_its_groups_their_kind_and_their_share():
    assert str(trace(lambda: between(lambda _, x: x), IMAGES)).splitlines()[:3] == [
        "group                    filters  kind    MACs  normalised",
        "first                          8  conv   99.8%  no",
        "second                        12  conv   92.3%  no",
    ]


# A primitive that is given a rule.


def test_a_primitive_is_followed_once_it_has_a_rule(monkeypatch):
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))
    build = lambda: with_layer(lambda x: jax.scipy.special.gammainc(2.0, nnx.softplus(x)))  # noqa: E731
    (whole,) = trace(build, IMAGES).kept_whole
    assert re.search(r"primitive 'igamma' at \w+.py:\d+\), which has no rule \(register_rule", whole.reason)
    register_rule("igamma", elementwise_rule)
    assert groups(trace(build, IMAGES)) == BOTH


def test_a_primitive_that_is_not_computed_by_itself_is_refused():
    odd = core.Primitive("odd")
    odd.def_abstract_eval(lambda x: x)
    with pytest.raises(InputError, match=r"can't compute primitive 'odd' at test_proof.py:\d+ by itself .*proof=False$"):
        trace(lambda: with_layer(odd.bind), IMAGES)


# Numbers are computed as JAX computes them.

X = np.random.default_rng(0).normal(size=(3, 6, 6, 4)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 2, 6)).astype(np.float32)
NUMBERS = ("NHWC", "HWIO", "NHWC")


def grouped(x):
    return lax.conv_general_dilated(x, KERNEL, (2, 1), "SAME", dimension_numbers=NUMBERS, feature_group_count=2)


def dilated(x):
    kernel = jnp.concatenate([KERNEL, KERNEL], axis=2)
    return lax.conv_general_dilated(x, kernel, (1, 1), ((0, 1), (1, 0)), (2, 2), (1, 2), dimension_numbers=NUMBERS)


COMPUTED = {
    "grouped convolution": grouped,
    "dilated convolution": dilated,
    "maximum": lambda x: nnx.max_pool(x, (3, 3), strides=(2, 2), padding="SAME"),
    "mean": lambda x: nnx.avg_pool(x, (2, 2), strides=(2, 2)),
    "softmax": nnx.softmax,
    "gelu": nnx.gelu,
    "products": lambda x: jnp.einsum("nhwc,nkwc->nhkc", x, x),
    "moving": lambda x: jnp.roll(jnp.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0))), 1, axis=2)[:, ::2].transpose(0, 3, 1, 2),
    "loops": lambda x: lax.scan(lambda c, r: (jnp.tanh(c + r), c * r), jnp.zeros((3, 6, 4)), x.swapaxes(0, 1))[1],
    "order": lambda x: jnp.sort(x, axis=1) + jnp.cumsum(x, axis=2) + jnp.argmax(x, axis=3, keepdims=True),
    "indices": lambda x: x.at[:, np.array([0, 3])].add(x[:, np.array([1, 2])]),
}


@pytest.mark.parametrize("what", COMPUTED)
def test_numbers_are_those_of_jax(what):
    def both(x):
        y, back = jax.vjp(COMPUTED[what], x)
        return y, back(jnp.cos(y))[0]

    for one, other in zip(compute(jax.make_jaxpr(both)(X), [exact(X)]), jax.jit(both)(X), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)
