"""Claims about one training step: its two executions give the same update, and what is dropped stays as it was.

Masked and compact are compared on the four networks of the experiments, and on small ones for what those have not:
statistics over channels, blocks of channels, activations that are not zero where a filter is, layers that are random.
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from distreal_jax.errors import InputError
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.networks import make_network
from distreal_jax.step import CLASSIFICATION, Batch, Knobs, Learner, LocalStep, MaskedNetwork, forward, split_variables
from distreal_jax.step.forms import in_form
from distreal_jax.tracing import TracedNetwork, trace_network

quickly = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)  # what is compiled here runs once
KEY = jax.random.key(5)
CLASSES = 10
EVERYTHING = optax.chain(optax.clip_by_global_norm(0.5), optax.add_decayed_weights(0.01), optax.sgd(0.1, momentum=0.9))


class Example(NamedTuple):
    """A traced network with variables, built without computing initial weights."""

    network: TracedNetwork
    params: object
    others: object
    batch: Batch


def example_of(build, shape, seed=0) -> Example:
    generator = np.random.default_rng(seed)
    model = nnx.eval_shape(build)
    params, others = split_variables(model)

    def weight(path, leaf):
        """He's initialisation, with biases that are not zero and scales that are not one."""
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 25
        around = 1.0 if "scale" in str(path) else 0.0
        return jnp.asarray(around + generator.normal(size=leaf.shape) * np.sqrt(2 / fan_in), leaf.dtype)

    def other(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key(0) if is_key else jnp.asarray(generator.uniform(0.5, 1.5, leaf.shape), leaf.dtype)

    return Example(
        trace_network(model, jax.ShapeDtypeStruct((1, *shape), jnp.float32)),
        jax.tree_util.tree_map_with_path(weight, params),
        jax.tree.map(other, others),
        Batch(jnp.asarray(generator.normal(size=(4, *shape)), jnp.float32), jnp.array([3, 0, 9, 3])),
    )


@functools.cache
def real(name) -> Example:
    return example_of(lambda: make_network(name, image_shape=(8, 8, 1), num_classes=CLASSES, seed=0), (8, 8, 1))


def some_kept(network, seed=0):
    """Between 30 and 90 percent of the filters of each group."""
    generator = np.random.default_rng(seed)
    shares = generator.uniform(0.3, 0.9, len(network.full_widths))
    return [
        np.sort(generator.permutation(filters)[: max(1, int(share * filters))])
        for filters, share in zip(network.full_widths, shares, strict=True)
    ]


def masks_of(network, kept):
    return [np.isin(np.arange(filters), chosen) for filters, chosen in zip(network.full_widths, kept, strict=True)]


def busy_learner(step, params, seed=1) -> Learner:
    """A learner in the middle of training: nothing in the state of its optimiser is zero."""
    generator = np.random.default_rng(seed)
    state = jax.eval_shape(step.optimizer.init, params)
    return Learner(params, jax.tree.map(lambda x: jnp.asarray(generator.uniform(0.01, 0.1, x.shape), x.dtype), state))


def assert_close(tree, expected, of):
    """Equal to rounding: to 1e-5 of the largest change of any element."""
    largest = max(float(np.abs(new - old).max()) for new, old in zip(*map(jax.tree.leaves, (expected, of)), strict=True))
    for got, want in zip(*map(jax.tree.leaves, (tree, expected)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * largest)


def assert_dropped_is_untouched(is_kept, after, before):
    """Bit by bit where a filter is dropped; and elsewhere something has changed."""
    changed = jax.tree.map(lambda new, old: np.asarray(new) != np.asarray(old), after, before)
    for where, difference in zip(jax.tree.leaves(is_kept), jax.tree.leaves(changed), strict=True):
        assert not np.any(difference & ~np.asarray(where))
    assert any(np.any(difference) for difference in jax.tree.leaves(changed.params))


class Programs(NamedTuple):
    """The compiled methods of a step."""

    step: LocalStep
    ordinary: Callable
    masked: Callable
    compact: Callable


def programs_of(example, **choices) -> Programs:
    step = LocalStep(**{"network": example.network, "optimizer": EVERYTHING, "others": example.others, **choices})
    return Programs(step, quickly(step.ordinary), quickly(step.masked), quickly(step.compact))


def assert_executions_agree(example, programs, *, kept=None, batch=None):
    """The claim itself: one step from the same learner, masked and compact."""
    network, params, _, default_batch = example
    kept = some_kept(network) if kept is None else kept
    learner, anchor = busy_learner(programs.step, params), jax.tree.map(lambda leaf: 0.9 * leaf, params)
    arguments = (learner, anchor, default_batch if batch is None else batch, KEY)
    masked, masked_loss = programs.masked(*arguments, masks_of(network, kept))
    compact, compact_loss = programs.compact(*arguments, kept)
    np.testing.assert_allclose(masked_loss, compact_loss, rtol=1e-5)
    assert_close(masked, compact, of=learner)
    is_kept = quickly(network.mask)(jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), learner), masks_of(network, kept))
    assert_dropped_is_untouched(is_kept, masked, learner)
    assert_dropped_is_untouched(is_kept, compact, learner)


@pytest.mark.parametrize("name", ["digits_cnn", "leaf_cnn", "resnet20", "residual and dense blocks"])
def test_masked_and_compact_steps_agree_and_leave_alone_what_is_dropped(name):
    """With clipping by the global norm, weight decay, momentum and BatchNorm; deep networks at half of each group.

    (Every other width is another kernel to compile.)
    """
    example = blocks() if name.endswith("blocks") else real(name)
    network = example.network
    generator = np.random.default_rng(0)
    halves = [np.sort(generator.permutation(filters)[: filters // 2]) for filters in network.full_widths]
    kept = some_kept(network) if len(halves) < 10 else halves
    assert_executions_agree(example, programs_of(example), kept=kept)


@pytest.mark.parametrize(("name", "depth"), [("digits_cnn", 3), ("residual and dense blocks", 2)])
def test_frozen_layers_stay_as_they_are_in_both_executions(name, depth):
    """Bit by bit, with clipping by the global norm (of the trained), weight decay, momentum; half of the filters kept.

    As a number, the depth leaves the backward pass below it out; as data, it is computed and not used.
    """
    example = blocks() if name.endswith("blocks") else real(name)
    network, params, _, batch = example
    step = LocalStep(network, EVERYTHING, example.others)
    kept = [np.arange(filters // 2) for filters in network.full_widths]
    learner, anchor = busy_learner(step, params), params
    factor = jnp.float32(3.0)

    def compact(learner, knobs_depth):
        return step.compact(learner, anchor, batch, KEY, kept, Knobs(knobs_depth, jnp.asarray(depth), factor))

    def masked(learner, frozen):
        return step.masked(learner, anchor, batch, KEY, masks_of(network, kept), Knobs(0, frozen, factor))

    cut, cut_loss = quickly(functools.partial(compact, knobs_depth=depth))(learner)
    updated, loss = quickly(masked)(learner, jnp.asarray(depth))
    np.testing.assert_allclose(loss, cut_loss, rtol=1e-5)
    assert_close(updated, cut, of=learner)
    changed = jax.tree.map(lambda new, old: np.any(np.asarray(new) != np.asarray(old)), cut.params, learner.params)
    assert jax.tree.leaves(changed) == jax.tree.leaves(network.trained(params, depth))
    for after in (cut, updated):
        frozen = network.select_trained(depth, learner, after)
        for new, old in zip(jax.tree.leaves(frozen), jax.tree.leaves(learner), strict=True):
            np.testing.assert_array_equal(new, old)


def test_a_step_factor_makes_the_step_of_the_optimiser_longer():
    """Whatever the optimiser is: here by momentum and clipping, whose state stays as it would have been."""
    _, params, _, batch = small()
    step = small_programs().step
    learner, twice = busy_learner(step, params), Knobs(0, None, jnp.float32(2.0))
    plain, _ = quickly(step.ordinary)(learner, params, batch, KEY)
    longer, _ = quickly(lambda learner: step.ordinary(learner, params, batch, KEY, twice))(learner)
    for new, once, old in zip(*map(jax.tree.leaves, (longer.params, plain.params, learner.params)), strict=True):
        np.testing.assert_allclose(new, old + 2 * (once - old), rtol=1e-5, atol=1e-6)
    for new, once in zip(*map(jax.tree.leaves, (longer.opt_state, plain.opt_state)), strict=True):
        np.testing.assert_allclose(new, once, rtol=1e-6)


@pytest.mark.parametrize("name", ["digits_cnn", "residual and dense blocks"])
def test_at_rate_zero_both_executions_are_ordinary_training(name):
    """They are the same program, so equal bit by bit."""
    network, params, others, batch = blocks() if name.endswith("blocks") else real(name)
    step = LocalStep(network, EVERYTHING, others)
    arguments = (jax.eval_shape(step.start, params), params, batch, KEY)
    everything = [np.arange(filters) for filters in network.full_widths]
    ordinary = str(jax.make_jaxpr(step.ordinary)(*arguments))
    for execution in (step.masked, step.compact):
        program = jax.make_jaxpr(lambda *given, execution=execution: execution(*given, everything))
        assert str(program(*arguments)) == ordinary


def test_rescaled_proximal_steps_on_some_classes_agree():
    example = real("digits_cnn")
    batch = example.batch._replace(classes=np.isin(np.arange(CLASSES), [0, 3, 9]))
    assert_executions_agree(example, programs_of(example, rescale=True, proximal=0.5), batch=batch)


@pytest.mark.parametrize(
    "name", ["digits_cnn", "residual and dense blocks", "group norm of one group", "group norm of four groups"]
)
def test_masked_inside_a_larger_compact_part_is_masked(name):
    """Rescaled in all: also inside, the factor is relative to all filters of the whole network."""
    example = small(name) if name in BETWEEN else blocks() if name.endswith("blocks") else real(name)
    network, params, _, batch = example
    step = LocalStep(network, EVERYTHING, example.others, rescale=True, proximal=0.5)
    generator = np.random.default_rng(3)
    within = [np.sort(generator.permutation(filters)[: max(1, filters // 2)]) for filters in network.full_widths]
    kept = [chosen[: max(1, 2 * len(chosen) // 3)] for chosen in within]
    within[0] = np.arange(network.full_widths[0])  # one group whole
    if name in BETWEEN:
        within[-1] = kept[-1] = np.arange(12)  # hidden units, behind which Dropout draws
    masks = masks_of(network, kept)
    learner, anchor = busy_learner(step, params), jax.tree.map(lambda leaf: 0.9 * leaf, params)
    expected, expected_loss = quickly(step.masked)(learner, anchor, batch, KEY, masks)
    updated, loss = quickly(step.masked_within)(learner, anchor, batch, KEY, within, masks)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    assert_close(updated, expected, of=learner)
    is_kept = quickly(network.mask)(jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), learner), masks)
    assert_dropped_is_untouched(is_kept, updated, learner)


# Small networks, for what those of the experiments have not.


class Small(nnx.Module):
    def __init__(self, between):
        rngs = nnx.Rngs(0)
        self.conv1 = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.between = between()
        self.conv2 = nnx.Conv(8, 6, (3, 3), rngs=rngs)
        self.hidden = nnx.Linear(6, 12, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=0))
        self.out = nnx.Linear(12, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.conv2(nnx.sigmoid(self.between(self.conv1(x)))))
        return self.out(self.dropout(nnx.relu(self.hidden(x.mean(axis=(1, 2))))))


BETWEEN = {
    "batch norm": lambda: nnx.BatchNorm(8, rngs=nnx.Rngs(0)),
    "layer norm": lambda: nnx.LayerNorm(8, rngs=nnx.Rngs(0)),
    "group norm of one group": lambda: nnx.GroupNorm(8, num_groups=1, rngs=nnx.Rngs(0)),
    "group norm of four groups": lambda: nnx.GroupNorm(8, num_groups=4, rngs=nnx.Rngs(0)),
    "depthwise convolution": lambda: nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=nnx.Rngs(0)),
}


@functools.cache
def small(between="batch norm") -> Example:
    return example_of(lambda: Small(BETWEEN[between]), (6, 6, 1))


class Blocks(nnx.Module):
    """What ResNet-20 and DenseNet-40-BC are made of, once: a residual sum, and what is computed beside its input."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.inside = nnx.Conv(8, 6, (3, 3), rngs=rngs)
        self.outside = nnx.Conv(6, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.bottleneck = nnx.Conv(8, 10, (1, 1), rngs=rngs)
        self.grown = nnx.Conv(10, 4, (3, 3), rngs=rngs)
        self.last = nnx.BatchNorm(12, rngs=rngs)
        self.out = nnx.Linear(12, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        x = nnx.relu(self.norm(x + self.outside(nnx.relu(self.inside(x)))))
        x = jnp.concatenate([x, self.grown(nnx.relu(self.bottleneck(x)))], axis=-1)
        return self.out(nnx.relu(self.last(x)).mean(axis=(1, 2)))


@functools.cache
def blocks() -> Example:
    return example_of(Blocks, (6, 6, 1))


@functools.cache
def small_programs() -> Programs:
    return programs_of(small())


def kept_of_convolutions(network, seed=0):
    """Hidden units are kept whole, so that a Dropout layer draws the same for them at full and at small shapes."""
    return [*some_kept(network, seed)[:2], np.arange(12)]


@pytest.mark.parametrize("between", BETWEEN)
def test_executions_agree_on_layers_that_the_experiments_have_not(between):
    """Behind a sigmoid a dropped filter is 1/2, and what takes it in has a gradient."""
    example = small(between)
    assert_executions_agree(example, programs_of(example), kept=kept_of_convolutions(example.network))


def test_executions_agree_in_the_librarys_form_with_another_optimiser():
    """LAMB divides by the norm of what its state says of a whole array."""
    example = small()
    programs = programs_of(example, optimizer=optax.lamb(0.01), convolution="library", rescale=True)
    assert_executions_agree(example, programs, kept=kept_of_convolutions(example.network))


def test_an_optimiser_whose_state_does_not_follow_the_parameters_is_refused():
    example = example_of(lambda: make_network("digits_cnn", image_shape=(8, 8, 1), num_classes=CLASSES, seed=0), (8, 8, 1))
    factored = LocalStep(example.network, optax.adafactor(0.1, min_dim_size_to_factor=8), example.others)
    with pytest.raises(InputError, match="keeps state of other shapes than the parameters', such as Adafactor's"):
        factored.start(example.params)
    LocalStep(example.network, optax.adam(0.1), example.others).start(example.params)


def test_masks_that_keep_everything_give_ordinary_training():
    """To rounding, as masks are data that XLA fuses into the arithmetic."""
    network, params, _, batch = small()
    step, ordinary, masked, _ = small_programs()
    arguments = (busy_learner(step, params), params, batch, KEY)
    updated, loss = masked(*arguments, [np.ones(filters, bool) for filters in network.full_widths])
    expected, expected_loss = ordinary(*arguments)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert_close(updated, expected, of=arguments[0])


def test_masked_steps_side_by_side_are_the_steps_alone():
    network, params, _, batch = small()
    step = small_programs().step
    learner = busy_learner(step, params)
    masks = [masks_of(network, some_kept(network, seed)) for seed in range(3)]
    stacked = jax.tree.map(lambda *each: np.stack(each), *masks)
    together, _ = quickly(jax.vmap(step.masked, in_axes=(None, None, None, None, 0)))(learner, params, batch, KEY, stacked)
    for client, mask in enumerate(masks):
        alone, _ = small_programs().masked(learner, params, batch, KEY, mask)
        assert_close(jax.tree.map(operator.itemgetter(client), together), alone, of=learner)


def test_many_steps_of_changing_filters_agree():
    """Three steps, each with other filters and the state of the optimiser carried on."""
    network, params, _, batch = small()
    step, _, masked, compact = small_programs()
    start = by_masks = by_indices = busy_learner(step, params)
    for seed in range(3):
        kept = [np.random.default_rng(seed).permutation(filters)[: filters // 2] for filters in (8, 6)] + [np.arange(12)]
        by_masks, _ = masked(by_masks, params, batch, KEY, masks_of(network, kept))
        by_indices, _ = compact(by_indices, params, batch, KEY, kept)
    assert_close(by_masks, by_indices, of=start)


def test_ordinary_step_is_what_flax_and_optax_do():
    network, params, others, batch = small()
    learner = busy_learner(small_programs().step, params)

    @quickly
    def by_hand(learner):
        def loss_of(params):
            model = nnx.merge(network.graphdef, *jax.tree.map(jnp.asarray, (params, others)))
            model.train()
            model.dropout.rngs.key[...] = jax.random.fold_in(KEY, 0)
            log_probabilities = nnx.log_softmax(model(batch.inputs))
            return -log_probabilities[jnp.arange(4), batch.targets].mean()

        loss, gradients = jax.value_and_grad(loss_of)(learner.params)
        updates, state = EVERYTHING.update(gradients, learner.opt_state, learner.params)
        return Learner(optax.apply_updates(learner.params, updates), state), loss

    updated, loss = small_programs().ordinary(learner, params, batch, KEY)
    expected, expected_loss = by_hand(learner)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    assert_close(updated, expected, of=learner)


def test_random_layers_draw_anew_for_every_key():
    _, params, _, batch = small()
    step, ordinary, _, _ = small_programs()
    learner = busy_learner(step, params)
    losses = [float(ordinary(learner, params, batch, jax.random.key(key))[1]) for key in (0, 1, 0)]
    assert losses[0] != losses[1]
    assert losses[0] == losses[2]


def test_proximal_step_is_pulled_towards_the_anchor():
    """By 0.1 * 0.5 * (w - anchor) more than a plain step of rate 0.1."""
    _, params, _, batch = small()
    anchor = jax.tree.map(jnp.ones_like, params)
    without, with_term = (
        programs.ordinary(programs.step.start(params), anchor, batch, KEY)[0].params
        for programs in (programs_of(small(), optimizer=optax.sgd(0.1), proximal=mu) for mu in (0.0, 0.5))
    )
    expected = jax.tree.map(lambda updated, start: updated - 0.1 * 0.5 * (start - 1), without, params)
    assert_close(with_term, expected, of=params)


def test_a_learning_rate_and_momentum_that_are_data_are_bitwise_those_that_are_constants():
    _, params, _, batch = small()

    def trained(optimizer, hyperparameters=None):
        programs = programs_of(small(), optimizer=optimizer)
        learner = programs.step.start(params, hyperparameters)
        for key in range(3):
            learner, _ = programs.ordinary(learner, params, batch, jax.random.key(key))
        return programs.step, learner.params

    usual, asked = (TrainingSettings(learning_rate=rate, momentum=momentum) for rate, momentum in ((0.1, 0.5), (0.3, 0.9)))
    _, constants = trained(optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(0.3, momentum=0.9)))
    step, own = trained(asked.local_optimizer())
    _, given = trained(usual.local_optimizer(), step.hyperparameters())
    for found in (own, given):
        jax.tree.map(np.testing.assert_array_equal, found, constants)
    assert trained(optax.sgd(0.1))[0].hyperparameters() == []
    decaying = optax.inject_hyperparams(optax.sgd)(optax.exponential_decay(0.3, 1, 0.5))
    step, scheduled = trained(decaying)
    assert_close(trained(decaying, step.hyperparameters())[1], scheduled, of=params)


def test_logits_of_classes_that_a_device_has_not_count_as_zero():
    logits = jnp.array([[1.0, 5.0, 2.0], [1.0, -3.0, 2.0]])
    batch = Batch(jnp.zeros(()), jnp.array([0, 2]), classes=jnp.array([True, False, True]))
    normaliser = np.log(np.exp(1.0) + np.exp(0.0) + np.exp(2.0))
    np.testing.assert_allclose(CLASSIFICATION.losses(logits, batch), [normaliser - 1.0, normaliser - 2.0], rtol=1e-6)


# The Flax module.


def masked_network():
    network, params, others, _ = small()
    return MaskedNetwork(nnx.merge(network.graphdef, *jax.tree.map(jnp.copy, (params, others))), network)


def test_masked_network_gives_the_output_of_the_sub_network_and_compiles_once():
    network, params, others, batch = small()
    masked, compilations = masked_network(), []
    masked.eval()

    def output_of_sub_network(kept):
        variables = network.take((params, others), kept)
        return forward(network, *variables, batch.inputs, train=False, convolution="library")[0]

    @nnx.jit
    def apply(masked, masks):
        compilations.append(None)
        return masked(batch.inputs, masks)

    for seed in range(2):
        kept = some_kept(network, seed)
        expected = quickly(output_of_sub_network)(kept)
        np.testing.assert_allclose(apply(masked, masks_of(network, kept)), expected, rtol=1e-4, atol=1e-5)
    assert len(compilations) == 1
    for got, before in zip(jax.tree.leaves(split_variables(masked.model)), jax.tree.leaves((params, others)), strict=True):
        assert (got == before).all()  # in evaluation nothing moves


def test_masked_network_in_training_moves_the_running_statistics_of_kept_filters_alone():
    network, _, others, batch = small()
    masked, kept = masked_network(), [np.array([1, 4, 6]), np.arange(6), np.arange(12)]
    nnx.jit(lambda masked, masks: masked(batch.inputs, masks))(masked, masks_of(network, kept))
    for name in ("mean", "var"):
        after, before = getattr(masked.model.between, name), others["between"][name]
        assert np.flatnonzero(np.asarray(after) != np.asarray(before)).tolist() == [1, 4, 6]


# The forms of the operations.


def products(function, *arguments):
    """The primitives of a program that multiply arrays, or take a maximum of windows."""
    text = str(jax.make_jaxpr(function)(*arguments))
    return {
        name for name in ("conv_general_dilated", "dot_general", "reduce_window_max", "select_and_scatter") if name in text
    }


def value_and_gradients(function, arguments, seed):
    """The output, and the gradients with respect to all arguments of a random weighting of it."""

    def weighted(arguments):
        out = function(*arguments)
        return (out * jax.random.normal(jax.random.key(seed), out.shape)).sum(), out

    (_, out), gradients = jax.value_and_grad(weighted, has_aux=True)(arguments)
    return out, gradients


@given(
    side=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["SAME", "VALID", ((1, 2), (0, 1))]),
    channels=st.integers(1, 3),
    filters=st.integers(1, 3),
    seed=st.integers(0, 100),
)
@settings(max_examples=8)
def test_patches_times_matrix_is_a_convolution(side, window, strides, padding, channels, filters, seed):
    generator = np.random.default_rng(seed)
    image = jnp.asarray(generator.normal(size=(2, *side, channels)), jnp.float32)
    kernel = jnp.asarray(generator.normal(size=(*window, channels, filters)), jnp.float32)

    def convolve(image, kernel):
        return lax.conv_general_dilated(image, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def of_padded(image, kernel):
        """XLA's own; of a padded image, as its gradient reads beyond the image where windows lie in the padding alone."""
        around = padding if not isinstance(padding, str) else lax.padtype_to_pads(side, window, strides, padding)
        padded = jnp.pad(image, ((0, 0), *around, (0, 0)))
        return lax.conv_general_dilated(padded, kernel, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    in_patches = in_form("patches", convolve)
    assert products(in_patches, image, kernel) == {"dot_general"}
    library, patches = quickly(
        lambda *arguments: [value_and_gradients(form, arguments, seed) for form in (of_padded, in_patches)]
    )(image, kernel)
    for got, expected in zip(jax.tree.leaves(patches), jax.tree.leaves(library), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_a_projection_in_patches_is_a_convolution(strides):
    """The 1x1 convolutions of ResNet and DenseNet."""
    image, kernel = jnp.arange(2 * 5 * 5 * 3.0).reshape(2, 5, 5, 3), jnp.arange(6.0).reshape(1, 1, 3, 2)

    def convolve(image, kernel):
        return lax.conv_general_dilated(image, kernel, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    library, patches = (value_and_gradients(form, (image, kernel), 0) for form in (convolve, in_form("patches", convolve)))
    for got, expected in zip(jax.tree.leaves(patches), jax.tree.leaves(library), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@given(
    side=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    window=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    ties=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=5)
def test_maximum_of_tiles_is_max_pooling(side, window, ties, seed):
    """With the gradient at the first of several maxima, such as the zeros after a ReLU."""
    window = tuple(min(pair) for pair in zip(side, window, strict=True))
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 2, (2, *side, 3)) if ties else generator.normal(size=(2, *side, 3))
    image = jnp.asarray(values, jnp.float32)

    def pool(image):
        return nnx.max_pool(image, window, strides=window)

    in_tiles = in_form("patches", pool)
    assert products(in_tiles, image) == set()
    library, tiles = quickly(lambda image: [value_and_gradients(form, (image,), seed) for form in (pool, in_tiles)])(image)
    for got, expected in zip(jax.tree.leaves(tiles), jax.tree.leaves(library), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: nnx.max_pool(x, (3, 3), strides=(2, 2)), "reduce_window_max"),
        (lambda x: nnx.max_pool(x, (2, 2), strides=(2, 2), padding="SAME"), "reduce_window_max"),
        (lambda x: nnx.Conv(4, 4, (3, 3), feature_group_count=4, rngs=nnx.Rngs(0))(x), "conv_general_dilated"),
        (lambda x: nnx.Conv(4, 4, (3, 3), kernel_dilation=2, rngs=nnx.Rngs(0))(x), "conv_general_dilated"),
        (lambda x: nnx.Conv(4, 4, (3,), rngs=nnx.Rngs(0))(x[0]), "conv_general_dilated"),
        (lambda x: nnx.ConvTranspose(4, 4, (3, 3), strides=2, rngs=nnx.Rngs(0))(x), "conv_general_dilated"),
    ],
)
def test_what_has_no_other_form_stays_as_it_is(function, expected):
    assert expected in products(in_form("patches", function), jax.ShapeDtypeStruct((2, 7, 7, 4), jnp.float32))
