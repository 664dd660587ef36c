"""How networks are called: arguments that say whether this is training, arguments that bring keys, several inputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from distreal_jax.errors import InputError
from distreal_jax.step import forward, split_variables
from distreal_jax.tracing import trace_network

X = jnp.ones((2, 3))


def outputs(model: nnx.Module, inputs: Any = X, *, train: bool, seed: int = 0) -> Any:
    network = trace_network(model, inputs)
    return forward(network, *split_variables(model), inputs, train=train, convolution="library", key=jax.random.key(seed))[0]


class Says(nnx.Module):
    """Puts out 1 where it was told that this is training; `call` is its `__call__`."""

    def __init__(self) -> None:
        self.dense = nnx.Linear(3, 3, rngs=nnx.Rngs(0))


def said_by(call: Any) -> Any:
    return type("Network", (Says,), {"__call__": call})()


def ones(x: jax.Array, where: bool) -> jax.Array:
    return jnp.zeros((len(x), 1)) + float(where)


@pytest.mark.parametrize(
    "call",
    [
        lambda self, x, train: ones(x, train),
        lambda self, x, train=True: ones(x, train),
        lambda self, x, *, training=False: ones(x, training),
        lambda self, x, is_training=None: ones(x, is_training),
        lambda self, x, is_train=True, /: ones(x, is_train),
        lambda self, x, eval=False: ones(x, not eval),
        lambda self, x, deterministic=True: ones(x, not deterministic),
        lambda self, x, use_running_average=None: ones(x, not use_running_average),
        nnx.jit(lambda self, x, train=True: ones(x, True) if train is True else ones(x, False), static_argnames="train"),
    ],
    ids="required train training is_training positional eval deterministic use_running_average jit".split(),
)
def test_an_argument_that_says_whether_this_is_training_is_set_in_both_modes(call: Any) -> None:
    assert outputs(said_by(call), train=True).tolist() == [[1], [1]]
    assert outputs(said_by(call), train=False).tolist() == [[0], [0]]


def test_a_mode_that_modules_keep_under_another_name_is_set() -> None:
    network = said_by(lambda self, x: ones(x, self.training))
    network.training = True
    assert [float(outputs(network, train=train)[0, 0]) for train in (True, False)] == [1, 0]


def test_attention_that_was_not_told_whether_it_decodes_token_by_token_does_not() -> None:
    attention = nnx.MultiHeadAttention(2, 4, rngs=nnx.Rngs(0))
    told = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
    x = jnp.arange(24.0).reshape(2, 3, 4)
    assert outputs(attention, x, train=True).tolist() == outputs(told, x, train=True).tolist()


@pytest.mark.parametrize("default", [1.0, "mean"])
def test_an_argument_of_such_a_name_that_is_no_mode_is_left_alone(default: Any) -> None:
    def call(self: Any, x: jax.Array, train: Any = default) -> jax.Array:
        return ones(x, train == default)

    assert float(outputs(said_by(call), train=False)[0, 0]) == 1


class Dropped(nnx.Module):
    """A Dropout layer that has keys of its own, is given some by an argument, or has none at all."""

    def __init__(self, rngs: nnx.Rngs | None = None) -> None:
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.drop(self.drop(x))


class WithRngs(Dropped):
    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.drop(x, rngs=rngs)


class WithKey(Dropped):
    def __call__(self, x: jax.Array, *, key: jax.Array) -> jax.Array:
        return self.drop(x, rngs=key)


class ByPlace(Dropped):
    def __call__(self, x: jax.Array, scale: float = 1.0, rngs: nnx.Rngs | None = None, /) -> jax.Array:
        return scale * self.drop(x, rngs=rngs)


class Stacked(nnx.Module):
    """Two layers with a stream of keys each, run by a loop."""

    def __init__(self) -> None:
        make = nnx.vmap(lambda rngs: Dropped(rngs), in_axes=(0,), out_axes=0)
        self.layers = nnx.split_rngs(splits=2)(make)(nnx.Rngs(0))

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.scan(lambda x, layer: layer.drop(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.layers)


class InJit(Dropped):
    @nnx.jit
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.drop(x)


@pytest.mark.parametrize("make", [Dropped, WithRngs, WithKey, ByPlace, Stacked, InJit, lambda: Dropped(nnx.Rngs(0))])
def test_dropout_draws_anew_with_each_key_and_drops_nothing_in_evaluation(make: Any) -> None:
    many = jnp.ones((4, 50))
    one, again, other = (np.asarray(outputs(make(), many, train=True, seed=seed)) for seed in (1, 1, 2))
    assert (one == again).all() and (one != other).any()
    assert 0 < (one == 0).mean() < 1
    assert (np.asarray(outputs(make(), many, train=False)) == 1).all()


def test_a_dropout_layer_without_keys_draws_anew_each_time_that_it_is_called() -> None:
    dropped = np.asarray(outputs(Dropped(), jnp.ones((4, 200)), train=True)) == 0
    assert 0.65 < dropped.mean() < 0.85  # 3/4; twice the same draw would be 1/2


def test_several_inputs_are_passed_in_order_or_by_their_names() -> None:
    class Difference(nnx.Module):
        def __call__(self, x: jax.Array, y: jax.Array, *, train: bool = True) -> jax.Array:
            return x - y + train

    class Pair(nnx.Module):
        def __call__(self, pair: Any) -> jax.Array:
            x, y = pair.values() if isinstance(pair, dict) else pair
            return x - y

    y = 3 * X
    for inputs in ((y, X), {"y": X, "x": y}):
        np.testing.assert_array_equal(outputs(Difference(), inputs, train=False), 2 * X)
    for inputs in ((y, X), {"a": y, "b": X}):
        np.testing.assert_array_equal(outputs(Pair(), inputs, train=False), 2 * X)


def test_outputs_may_be_a_tree() -> None:
    class Heads(nnx.Module):
        def __call__(self, x: jax.Array) -> Any:
            return {"mean": x, "scale": (x, 2 * x)}

    assert jax.tree.map(jnp.shape, outputs(Heads(), train=True)) == {"mean": (2, 3), "scale": ((2, 3), (2, 3))}


@pytest.mark.parametrize("inputs", [X, {"x": X, "mask": X}])
def test_an_argument_that_nobody_can_set_is_refused_by_its_name(inputs: Any) -> None:
    class Tempered(nnx.Module):
        def __call__(self, x: jax.Array, temperature: float, train: bool = True) -> jax.Array:
            return x / temperature

    with pytest.raises(
        InputError, match=r"requires the argument 'temperature', .*self.network\(x, temperature=...\)"
    ) as said:
        trace_network(Tempered(), inputs)
    assert "\n" not in str(said.value)


def test_a_layer_with_a_stream_of_its_own_and_one_without_draw_other_numbers() -> None:
    class Both(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.own, self.given = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5)
            self.dense = nnx.Linear(16, 16, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = self.dense(x)
            return jnp.stack([self.own(jnp.ones_like(x)), self.given(jnp.ones_like(x))], 1) + 0 * x[:, None]

    model = Both(nnx.Rngs(0))
    network = trace_network(model, jnp.zeros((1, 16)), proof=False)
    drawn, _ = forward(
        network, *split_variables(model), jnp.ones((8, 16)), train=True, convolution="library", key=jax.random.key(0)
    )
    assert 0.3 < np.mean(np.asarray(drawn[:, 0] == drawn[:, 1])) < 0.7
