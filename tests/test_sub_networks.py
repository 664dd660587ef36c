"""Claims about sub-networks: which elements of an array belong to which filters, and which filters are kept.

The network has all that makes this hard: filters that are blocks of channels (GroupNorm), two groups along one axis
(concatenation), copies of a filter at every position (flatten), and arrays large enough for each way of writing back.
Which elements belong to a filter is derived by hand, in numpy.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from distreal_jax.errors import InputError
from distreal_jax.step import forward, split_variables
from distreal_jax.tracing import draw_filters, draw_masks, sample_filters, trace_network

POSITIONS = 16
quickly = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)  # what is compiled here runs once
BLOCK = 4  # channels in a block of the GroupNorm


class Assorted(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv1 = nnx.Conv(3, 64, (3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(64, num_groups=64 // BLOCK, rngs=rngs)
        self.conv2 = nnx.Conv(64, 48, (3, 3), rngs=rngs)
        self.conv3 = nnx.Conv(64 + 48, 8, (3, 3), rngs=rngs)
        self.norm3 = nnx.BatchNorm(8, rngs=rngs)
        self.out = nnx.Linear(POSITIONS * (64 + 48 + 8), 10, rngs=rngs)

    def __call__(self, x):
        first = nnx.relu(self.norm(self.conv1(x)))
        both = jnp.concatenate([first, nnx.relu(self.conv2(first))], axis=-1)
        everything = jnp.concatenate([both, nnx.relu(self.norm3(self.conv3(both)))], axis=-1)
        return self.out(everything.reshape(x.shape[0], -1))


ABSTRACT = nnx.eval_shape(Assorted)
NETWORK = trace_network(ABSTRACT, jax.ShapeDtypeStruct((1, 4, 4, 3), jnp.float32))
FULL = (16, 48, 8)  # blocks of conv1, filters of conv2 and conv3


def random_values(tree, seed=0):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), leaf.dtype), tree)


PARAMS, OTHERS = random_values(split_variables(ABSTRACT))


def elements(kept):
    """For each array, the indices along each of its axes that belong to the kept filters."""
    image, classes = np.arange(3), np.arange(10)
    window = np.arange(3)
    first = np.concatenate([BLOCK * block + np.arange(BLOCK) for block in kept[0]])
    second, third = np.asarray(kept[1]), np.asarray(kept[2])
    both = np.concatenate([first, 64 + second])
    everything = np.concatenate([both, 64 + 48 + third])
    flat = np.concatenate([position * (64 + 48 + 8) + everything for position in range(POSITIONS)])
    return {
        "conv1.kernel": (window, window, image, first),
        "conv1.bias": (first,),
        "norm.scale": (first,),
        "norm.bias": (first,),
        "conv2.kernel": (window, window, first, second),
        "conv2.bias": (second,),
        "conv3.kernel": (window, window, both, third),
        "conv3.bias": (third,),
        "norm3.scale": (third,),
        "norm3.bias": (third,),
        "norm3.mean": (third,),
        "norm3.var": (third,),
        "out.kernel": (flat, classes),
        "out.bias": (classes,),
    }


def by_name(tree):
    """{"conv1.kernel": array, ...} of trees of variables."""
    return {
        ".".join(str(key.key) for key in path if hasattr(key, "key")): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def assert_equal(tree, expected):
    """Bit by bit, shapes and types included."""
    tree, expected = by_name(tree), by_name(expected)
    assert tree.keys() == expected.keys()
    for name, leaf in tree.items():
        assert leaf.dtype == expected[name].dtype
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


def some_of(filters):
    return st.tuples(st.permutations(range(filters)), st.integers(1, filters)).map(lambda d: np.array(d[0][: d[1]]))


def in_own_order(kept):
    """A group of which all filters are kept is left in its own order."""
    return [np.sort(chosen) if len(chosen) == filters else chosen for chosen, filters in zip(kept, FULL, strict=True)]


any_kept = st.tuples(*map(some_of, FULL)).map(in_own_order)
few = settings(max_examples=3)


def test_the_groups_are_those_this_file_is_about():
    assert [(group.name, group.filters) for group in NETWORK.filter_groups] == [("conv1", 16), ("conv2", 48), ("conv3", 8)]


@given(kept=any_kept)
@few
def test_take_gathers_what_belongs_to_the_kept_filters(kept):
    taken = quickly(NETWORK.take)((PARAMS, OTHERS), kept)
    where = elements(kept)
    expected = {name: leaf[np.ix_(*where[name])] for name, leaf in by_name((PARAMS, OTHERS)).items()}
    assert_equal(by_name(taken), expected)
    widths = [len(chosen) for chosen in kept]
    assert NETWORK.variables(widths) == sum(leaf.size for leaf in expected.values())
    shapes = jax.tree.map(lambda leaf: leaf.shape, NETWORK.shapes((PARAMS, OTHERS), widths))
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, taken)


@given(kept=any_kept)
@few
def test_put_writes_these_back_and_nothing_else(kept):
    """Bit by bit; so `put` of what `take` gave changes nothing."""
    put = quickly(NETWORK.put)
    where, expected = elements(kept), by_name(PARAMS)
    taken = quickly(NETWORK.take)(PARAMS, kept)
    assert_equal(put(PARAMS, taken, kept), PARAMS)
    changed = jax.tree.map(lambda leaf: np.asarray(leaf) + 1, taken)
    for name, leaf in by_name(changed).items():
        expected[name] = expected[name].copy()
        expected[name][np.ix_(*where[name])] = leaf
    assert_equal(by_name(put(PARAMS, changed, kept)), expected)


compiled_mask = quickly(NETWORK.mask)


@given(kept=any_kept)
@few
def test_mask_zeroes_whatever_a_dropped_filter_is_part_of(kept):
    masks = [np.isin(np.arange(filters), chosen) for filters, chosen in zip(FULL, kept, strict=True)]
    expected = {}
    for name, leaf in by_name(PARAMS).items():
        expected[name] = np.zeros_like(leaf)
        where = np.ix_(*elements(kept)[name])
        expected[name][where] = leaf[where]
    assert_equal(by_name(compiled_mask(PARAMS, masks)), expected)
    assert_equal(by_name(quickly(NETWORK.mask)(PARAMS, kept)), expected)


compiled_select = quickly(NETWORK.select)


@given(kept=any_kept)
@few
def test_select_takes_the_second_tree_where_a_filter_is_dropped(kept):
    other = random_values(PARAMS, seed=1)
    masks = [np.isin(np.arange(filters), chosen) for filters, chosen in zip(FULL, kept, strict=True)]
    expected = jax.tree.map(lambda a, b: np.where(a != 0, a, b), compiled_mask(PARAMS, masks), other)
    assert_equal(compiled_select(masks, PARAMS, other), expected)


def test_a_group_kept_whole_stays_in_its_own_order():
    backwards = [np.arange(16)[::-1], np.arange(48)[::-1], np.array([5, 2])]
    take, put = quickly(NETWORK.take), quickly(NETWORK.put)
    taken = take(PARAMS, backwards)
    assert_equal(taken, take(PARAMS, in_own_order(backwards)))
    assert_equal(put(PARAMS, taken, backwards), PARAMS)


KEPT = [np.array([3, 11]), np.array([40, 0, 7]), np.arange(8)]


def test_put_writes_the_same_on_an_accelerator(monkeypatch):
    """Where it is written by another operation; here that one runs on the CPU."""
    changed = jax.tree.map(lambda leaf: -np.asarray(leaf), quickly(NETWORK.take)(PARAMS, KEPT))
    expected = quickly(NETWORK.put)(PARAMS, changed, KEPT)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *operands, default, **_: default(*operands))
    assert_equal(quickly(lambda *trees: NETWORK.put(*trees))(PARAMS, changed, KEPT), expected)


def test_take_and_put_work_side_by_side():
    def negated(kept):
        taken = NETWORK.take(PARAMS, kept)
        return taken, NETWORK.put(PARAMS, jax.tree.map(jnp.negative, taken), kept)

    kept = [np.stack([chosen, (chosen + 1) % filters]) for chosen, filters in zip(KEPT, FULL, strict=True)]
    together, alone = quickly(jax.vmap(negated))(kept), quickly(negated)
    for client in range(2):
        assert_equal(jax.tree.map(operator.itemgetter(client), together), alone([chosen[client] for chosen in kept]))


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1, momentum=0.9),
        optax.adam(0.1),
        optax.chain(optax.clip_by_global_norm(1.0), optax.add_decayed_weights(0.1), optax.adamw(0.1)),
    ],
)
def test_states_of_optimisers_are_taken_and_put_like_parameters(optimizer):
    state = jax.tree.map(
        lambda leaf: jnp.int32(7) if leaf.dtype == jnp.int32 else leaf,
        random_values(jax.eval_shape(optimizer.init, PARAMS)),
    )
    taken = quickly(NETWORK.take)(state, KEPT)
    assert jax.tree.map(jnp.shape, taken) == jax.tree.map(
        jnp.shape, jax.eval_shape(optimizer.init, NETWORK.take(PARAMS, KEPT))
    )
    changed = jax.tree.map(lambda leaf: np.asarray(leaf) + 1, taken)
    put = quickly(NETWORK.put)(state, changed, KEPT)
    assert jax.tree.structure(put) == jax.tree.structure(state)
    for full, before, small in zip(*map(jax.tree.leaves, (put, state, changed)), strict=True):
        if full.ndim == 0:
            assert full == 8  # the number of steps that Adam has done
        else:
            assert (np.asarray(full) == np.asarray(before)).sum() == before.size - small.size


def test_leaves_that_are_no_variables_pass_through():
    tree = {"bias": {"conv2": {"bias": PARAMS["conv2"]["bias"]}}, "round": np.int32(3), "images": np.arange(64.0)}
    taken = NETWORK.take(tree, KEPT)
    assert taken["bias"]["conv2"]["bias"].shape == (3,)
    assert taken["round"] == 3
    assert taken["images"] is tree["images"]
    later = {**taken, "round": np.int32(4)}
    assert NETWORK.put(tree, later, KEPT)["round"] == 4
    masked = NETWORK.mask(tree, KEPT)
    assert masked["round"] == 3
    assert masked["images"] is tree["images"]


def test_products_take_in_more_from_rescaled_groups_without_normalisation():
    """conv1 and conv3 are normalised; 48 / 3 = 16 times what the three kept filters of conv2 give."""
    widths = tuple(len(chosen) for chosen in KEPT)
    factors = np.ones(64 + 48 + 8, np.float32)
    factors[64 : 64 + 48] = 16
    along = {
        ("conv3", "kernel"): factors[None, None, : 64 + 48, None],
        ("out", "kernel"): np.tile(factors, POSITIONS)[:, None],
    }
    masks = [np.isin(np.arange(filters), chosen) for filters, chosen in zip(FULL, KEPT, strict=True)]
    images, small = random_values(jax.ShapeDtypeStruct((3, 4, 4, 3), jnp.float32)), NETWORK.narrowed(widths)

    @quickly
    def outputs(params, others, widths_as_data):
        multiplied = NETWORK.map(lambda _, leaf, path: leaf * along.get(path, 1), params, with_path=True)
        run = functools.partial(forward, inputs=images, train=True, convolution="library")
        return (
            run(small, *NETWORK.take((multiplied, others), KEPT))[0],
            run(small, *NETWORK.take((params, others), KEPT), rescaled=widths)[0],
            run(NETWORK, *NETWORK.mask((params, others), masks), kept=masks, rescaled=widths_as_data)[0],
        )

    expected, *found = outputs(PARAMS, OTHERS, np.array(widths))
    for one in found:
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert not NETWORK.exchanges(True, None, factors=NETWORK.factors(FULL))


def test_a_narrowed_network_is_that_of_the_taken_variables():
    """A part of a part is a part of the whole: of conv2's 48 filters 6 are taken, and of these 2."""
    outer = [np.arange(0, 16, 2), np.arange(0, 48, 8), np.arange(8)]
    inner = [np.array([1, 5]), np.array([0, 5]), np.arange(3)]
    both = [chosen[part] for chosen, part in zip(outer, inner, strict=True)]
    widths = [len(part) for part in inner]
    narrowed = NETWORK.narrowed([len(chosen) for chosen in outer])
    assert narrowed.full_widths == (8, 6, 8)
    assert narrowed.macs() == NETWORK.macs((8, 6, 8)) and narrowed.macs(widths) == NETWORK.macs(widths)
    assert narrowed.variables() == NETWORK.variables((8, 6, 8))
    part = NETWORK.take(PARAMS, outer)
    assert_equal(narrowed.take(part, inner), NETWORK.take(PARAMS, both))
    zeros = jax.tree.map(jnp.zeros_like, narrowed.take(part, inner))
    assert_equal(NETWORK.put(PARAMS, narrowed.put(part, zeros, inner), outer), NETWORK.put(PARAMS, zeros, both))


@pytest.mark.parametrize("method", [NETWORK.take, NETWORK.mask, lambda tree, kept: NETWORK.put(tree, tree, kept)])
def test_kept_filters_of_too_few_groups_are_refused(method):
    with pytest.raises(InputError, match="2 arrays of kept filters given for 3 filter groups; give one for each"):
        method(PARAMS, KEPT[:2])


def test_take_of_masks_is_refused():
    masks = [np.ones(filters, bool) for filters in FULL]
    with pytest.raises(InputError, match="a mask was given for group 'conv1'; give the indices of the kept filters"):
        NETWORK.take(PARAMS, masks)


# Which filters are kept.


any_widths = st.tuples(*(st.integers(1, filters) for filters in FULL))


@given(widths=any_widths, seed=st.integers(0, 2**31 - 1))
@few
def test_sampled_filters_are_exactly_that_many_and_different(widths, seed):
    kept = jax.jit(lambda key: sample_filters(key, NETWORK, widths))(jax.random.key(seed))
    for chosen, width, filters in zip(kept, widths, FULL, strict=True):
        assert chosen.shape == (width,)
        assert chosen.dtype == jnp.int32
        assert (np.diff(chosen) > 0).all()
        assert chosen[0] >= 0
        assert chosen[-1] < filters


def test_sampling_is_uniform_and_works_side_by_side():
    """Five standard deviations of a binomial: of how often each filter, and each pair of filters, is kept."""
    widths, draws = (4, 47, 3), 4000
    keys = jax.random.split(jax.random.key(0), draws)
    kept = jax.jit(jax.vmap(lambda key: sample_filters(key, NETWORK, widths)))(keys)
    for chosen, alone in zip(kept, sample_filters(keys[17], NETWORK, widths), strict=True):
        np.testing.assert_array_equal(chosen[17], alone)
    for chosen, width, filters in zip(kept, widths, FULL, strict=True):
        has = np.zeros((draws, filters))
        np.put_along_axis(has, np.asarray(chosen), 1, axis=1)
        together = has.T @ has / draws
        alone, pair = width / filters, width * (width - 1) / (filters * (filters - 1))
        expected = np.where(np.eye(filters, dtype=bool), alone, pair)
        assert np.abs(together - expected).max() < 5 * np.sqrt(alone * (1 - alone) / draws) + 5 * np.sqrt(
            pair * (1 - pair) / draws
        )


def test_groups_and_keys_draw_independently():
    """Groups of one size would otherwise keep the same filters."""
    wide = trace_network(nnx.eval_shape(TwoOfOneSize), jax.ShapeDtypeStruct((1, 3), jnp.float32))
    first, second = sample_filters(jax.random.key(0), wide, (64, 64))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, sample_filters(jax.random.key(1), wide, (64, 64))[0])


class TwoOfOneSize(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.one, self.two = nnx.Linear(3, 128, rngs=rngs), nnx.Linear(128, 128, rngs=rngs)
        self.out = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.two(nnx.relu(self.one(x)))))


@pytest.mark.parametrize("rule", ["random", "first", "rolling"])
@given(widths=any_widths, seed=st.integers(0, 2**31 - 1), shift=st.integers(0, 200))
@settings(max_examples=10)
def test_masks_and_indices_are_the_same_draw(rule, widths, seed, shift):
    key = jax.random.key(seed)
    kept = draw_filters(rule, key, shift, NETWORK, widths)
    masks = draw_masks(rule, key, shift, NETWORK, jnp.array(widths))
    for chosen, mask in zip(kept, masks, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(mask), np.sort(chosen))


def test_first_and_rolling_filters():
    key = jax.random.key(0)
    first = draw_filters("first", key, 15, NETWORK, (3, 2, 1))
    rolling = draw_filters("rolling", key, 14, NETWORK, (4, 2, 8))
    assert [chosen.tolist() for chosen in first] == [[0, 1, 2], [0, 1], [0]]
    assert [chosen.tolist() for chosen in rolling] == [[14, 15, 0, 1], [14, 15], list(range(8))]


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"width 49 of group 'conv2' is outside \[1, 48\]"):
        sample_filters(jax.random.key(0), NETWORK, (1, 49, 1))
