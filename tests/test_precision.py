"""Networks that compute, or keep parameters, in half precision or in double: sums are in float32 at least."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from distreal_jax.data.datasets import synthetic_dataset
from distreal_jax.fleet.aggregation import Server, from_rows, in_rows, no_clients, server_step, sums_of
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import method_named
from distreal_jax.table import DropoutTable

DATA = synthetic_dataset(num_examples=60, image_shape=(4, 4, 1), num_classes=3, seed=0)
TRAINING = TrainingSettings(devices_per_round=2, steps=2, batch_size=4, momentum=0.9, server_optimizer="momentum")


class Network(nnx.Module):
    def __init__(self, dtype: Any, param_dtype: Any) -> None:
        how: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": nnx.Rngs(0)}
        self.conv, self.classifier = nnx.Conv(1, 4, (2, 2), **how), nnx.Linear(4, 3, **how)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.classifier(nnx.relu(self.conv(images)).mean(axis=(1, 2)))


def trained(dtype: Any, param_dtype: Any, execution: Any) -> tuple[Federation, Server, Server]:
    """The federation, its server at the start and after two rounds."""
    world = World.make(WorldSettings(partition="iid", devices=4), 0, dataset=DATA, model=Network(dtype, param_dtype))
    table = DropoutTable.uniform(world.network, [0, 0.5])
    federation = Federation(world, method_named("distreal"), table, TRAINING, execution)
    server = federation.start()
    first = jax.device_get(server)
    for index in range(2):
        server, _ = federation.run_round(server, federation.plan(index)[1], index)
    return federation, first, server


def as_float32(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float32).ravel() for leaf in jax.tree.leaves(tree)])


@functools.cache
def half(dtype: str, param_dtype: str, execution: Any) -> tuple[Federation, Server, Server]:
    return trained(dtype, param_dtype, execution)


@pytest.mark.parametrize(
    ("dtype", "param_dtype"), [("bfloat16", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")]
)
def test_networks_of_half_precision_train_and_keep_their_types(dtype: str, param_dtype: str) -> None:
    federation, first, server = half(dtype, param_dtype, "compact")
    assert jax.tree.map(lambda leaf: leaf.dtype, server) == jax.tree.map(lambda leaf: leaf.dtype, first)
    assert set(federation.round.compilations().values()) == {1}
    assert {leaf.dtype for leaf in jax.tree.leaves(server.params)} == {jnp.dtype(param_dtype)}
    numbers = [leaf.dtype for leaf in jax.tree.leaves(server.opt_state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert set(numbers) == {jnp.dtype("float32")}
    assert (as_float32(server.params) != as_float32(first.params)).any()
    assert np.isfinite(federation.evaluate(server.params).loss)
    _, moved = federation.bytes_moved(federation.plan(0)[0])
    assert (moved == 35 * jnp.dtype(param_dtype).itemsize).all()  # 2 x 2 x 4 + 4 and 4 x 3 + 3 parameters


def test_a_network_of_half_precision_trains_masked_as_compact() -> None:
    compact, masked = (as_float32(half("bfloat16", "bfloat16", execution)[2].params) for execution in ("compact", "masked"))
    np.testing.assert_allclose(compact, masked, atol=1e-2)


@pytest.mark.parametrize("param_dtype", ["float32", "float64"])
def test_a_federation_runs_where_jax_computes_in_64_bits(param_dtype: Any) -> None:
    with jax.enable_x64(True):
        _, _, server = trained(None, param_dtype, "compact")
        assert {leaf.dtype for leaf in jax.tree.leaves(server.params)} == {jnp.dtype(param_dtype)}
        assert np.isfinite(as_float32(server.params)).all()


def test_small_leaves_lie_side_by_side_and_come_back() -> None:
    """Of each type in one array, [clients, elements]; a large one stays as it is; scalars and empty ones are no case."""
    one = {"kernel": (3, 2), "large": (200, 100), "scalar": (), "empty": (0, 3), "bias": (2,), "counts": (4,)}
    types = {"bias": jnp.bfloat16, "counts": jnp.int32}
    generator = np.random.default_rng(0)
    clients = {
        name: jnp.asarray(generator.integers(0, 100, (5, *shape)), types.get(name, jnp.float32))
        for name, shape in one.items()
    }
    rows = in_rows(clients, lead=1)
    assert sorted(leaf.shape for leaf in rows.values()) == [(5, 2), (5, 4), (5, 7), (5, 200, 100)]
    third = jax.tree.map(lambda leaf: leaf[2], clients)
    back = from_rows(jax.tree.map(lambda leaf: leaf[2], rows), third)
    assert jax.tree.structure(back) == jax.tree.structure(third)
    for name, leaf in third.items():
        np.testing.assert_array_equal(back[name], leaf)
        assert back[name].dtype == leaf.dtype
    assert in_rows({}) == {} and from_rows({}, {}) == {}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("covered", [False, True])
def test_clients_are_summed_in_float32(dtype: Any, covered: bool) -> None:
    """512 clients that each add 1/8 to 1 have a mean of 9/8, which is exact in any type; half precision loses the sum."""
    params = {"w": jnp.ones(1, dtype)}
    block = {"w": jnp.full((256, 1), 1.125, dtype)}
    add = functools.partial(
        sums_of, params, block, jnp.ones(256, bool), jnp.full(256, 300.0), jnp.zeros(256),
        coverage=jax.tree.map(jnp.ones_like, block) if covered else None,
    )  # fmt: skip
    sums = no_clients(params, covered=covered) + add() + add()
    assert sums.changes["w"] == 512 * 300 / 8
    optimizer = optax.sgd(1.0)
    after = server_step(Server(params, optimizer.init(params)), sums, optimizer)
    assert after.params["w"] == 1.125 and after.params["w"].dtype == jnp.dtype(dtype)
