"""The fleet: the fast round is the round that one can read, for every method, execution and way of sharing out clients."""

import dataclasses
import itertools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from distreal_jax.availability import Segments
from distreal_jax.data.partition import Partition
from distreal_jax.data.sampling import batch_indices
from distreal_jax.errors import InputError
from distreal_jax.fleet import (
    ClientWork,
    Execution,
    Grouping,
    Round,
    RoundResult,
    Server,
    client_work,
    default_grouping,
    reference_round,
)
from distreal_jax.fleet.aggregation import rows_of_classes, server_step, sums_of
from distreal_jax.fleet.client_steps import RoundKeys
from distreal_jax.fleet.grouping import Room
from distreal_jax.fleet.programs import RoundPrograms
from distreal_jax.fleet.stages import stages_table
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.work import GROUPS, group_size, path_lengths, units_of
from distreal_jax.methods import METHODS, Method, method_named
from distreal_jax.plan import plan_round
from distreal_jax.step import Examples, LocalStep, class_axes, split_variables
from distreal_jax.table import Configuration, Configurations, DropoutTable
from distreal_jax.tracing import (
    TracedNetwork,
    draw_filters,
    draw_masks,
    ensemble_members,
    member_filters,
    trace_network,
)
from distreal_jax.tracing.filters import next_scores

CLIENTS, STEPS, BATCH, CLASSES, SEED, ROUND = 5, 3, 4, 3, 7, 1
EXAMPLES = 40
POISONED = EXAMPLES  # the number of one more example, whose pixels are not finite
MU = 0.5
EXECUTIONS: tuple[Execution, ...] = ("masked", "compact")
# Every method meets the grouping that is the default on two CPU devices; one of them meets all the others as well.
DEFAULT = {execution: default_grouping(execution, "cpu", CLIENTS, lanes=2) for execution in EXECUTIONS}
GROUPINGS = {
    "masked": [Grouping(1, 1, by_entry=False), Grouping(5, 5, by_entry=False), Grouping(2, 2, by_entry=False, lanes=2)],
    "compact": [Grouping(1, 1, by_entry=True), Grouping(4, 2, by_entry=True), Grouping(3, 3, by_entry=True, lanes=2)],
}
EVERY_KNOB = method_named("distreal[pace=remaining]")  # with a table that turns all of them
CASES = [(name, execution, DEFAULT[execution]) for name in METHODS for execution in EXECUTIONS]
CASES += [("federated_dropout", execution, grouping) for execution in EXECUTIONS for grouping in GROUPINGS[execution]]
CASES += [("fednova", execution, GROUPINGS[execution][-1]) for execution in EXECUTIONS]
CASES += [("adaptive_batch", "compact", GROUPINGS["compact"][1])]
CASES += [("distreal[batch=cut]", execution, DEFAULT[execution]) for execution in EXECUTIONS]
CASES += [("fjord[label_rows=true,masked_loss=false]", "compact", GROUPINGS["compact"][1])]
CASES += [(EVERY_KNOB.name, execution, DEFAULT[execution]) for execution in EXECUTIONS]
CASES += [(EVERY_KNOB.name, execution, GROUPINGS[execution][-1]) for execution in EXECUTIONS]
CASES += [("distreal_uniform[idle=train]", "compact", DEFAULT["compact"])]
WITH_SUB_NETWORKS = [name for name, method in METHODS.items() if method.rates != "full"]


class TinyNetwork(nnx.Module):
    """Two filter groups: four filters and three hidden units."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 4, (2, 2), padding="VALID", rngs=rngs)
        self.hidden = nnx.Linear(16, 3, rngs=rngs)
        self.classifier = nnx.Linear(3, CLASSES, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.conv(images))
        return self.classifier(nnx.relu(self.hidden(x.reshape(x.shape[0], -1))))


class Uneven:
    """A load that changes once inside each round; some devices are at full speed at first, some to the end."""

    minimum = 0.2

    def during(self, round_index: int, devices: np.ndarray) -> Segments:
        values = np.array([[1.0, 1.0], [0.5, 1.0], [1.0, 0.2], [0.9, 0.2]])[(devices + round_index) % 4]
        return Segments(times=np.tile([0.0, 0.5, 1.0], (len(devices), 1)), values=values)


@dataclasses.dataclass
class Fleet:
    """A network, its data, and the rounds of all methods, each compiled once for the whole file."""

    network: TracedNetwork
    params: Any
    others: Any
    images: Examples
    partition: Partition
    made: dict[Hashable, Any] = dataclasses.field(default_factory=dict, repr=False)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def step(self, rescale: bool, mu: float) -> LocalStep:
        return self.once(
            (rescale, mu), lambda: LocalStep(self.network, optax.sgd(0.1), self.others, rescale=rescale, proximal=mu)
        )

    def table(self, method: Method) -> DropoutTable:
        if method.rates == "depths" or method.unfinished == "layers":
            return DropoutTable.frozen(self.network)
        if method.rates == "stages":
            return stages_table(self.network, 0.7, dense=True)
        entries = [[2, 2], [4, 3]]
        entries = entries[1:] if method.rates == "full" else entries[:1] if method.decided == "never" else entries
        table = DropoutTable.from_widths(self.network, entries)
        if method == EVERY_KNOB:
            chosen = [Configuration((2, 2), 0.5, 2, 3.0), Configuration((4, 3), depth=1, step_factor=0.5)]
            return DropoutTable.from_configurations(self.network, [*chosen, Configuration((4, 3))])
        return table.with_cut_batches(BATCH) if method.batch == "cut" else table

    def examples(self, method: Method) -> np.ndarray | None:
        shares = np.array([entry.batch_share for entry in self.table(method).entries])
        return (shares * BATCH).astype(int) if shares.min() < 1 else None

    def round(self, method: Method, execution: Execution, grouping: Grouping | None = None) -> Round:
        grouping = grouping or DEFAULT[execution]
        step = self.step(method.filters == "random", MU if method.proximal else 0.0)
        configurations, examples = self.table(method).configurations, self.examples(method)
        # What a federation shares programs by: methods that differ in nothing but their plans are compiled once.
        compiled_for = (
            "programs",
            id(step),
            (method.filters, method.drawn, method.average, method.masked_loss, method.label_rows),
            (configurations.bits, None if examples is None else examples.tobytes(), execution),
            self.work(method).batches.shape,
        )
        return self.once(
            (method, execution, grouping),
            lambda: Round(
                step,
                method,
                configurations,
                optax.sgd(1.0),
                execution,
                grouping,
                SEED,
                examples,
                self.class_axes if method.label_rows else None,
            ).using(self.once(compiled_for, dict)),
        )

    @property
    def class_axes(self) -> Any:
        inputs = self.images.batch(jnp.arange(2)).inputs
        return self.once("rows", lambda: class_axes(self.network, self.params, self.others, inputs, CLASSES))

    def work(self, method: Method, round_index: int = ROUND, clients: np.ndarray | None = None) -> ClientWork:
        clients = np.arange(CLIENTS) if clients is None else clients
        costs = self.table(method).costs()
        only = 1 if method.rates == "stages" else None
        plan = plan_round(method, costs, Uneven(), clients, round_index=round_index, steps=STEPS, seed=SEED, only=only)
        columns = plan.entries.shape[1]
        batches = batch_indices(SEED, round_index, clients, self.partition, steps=columns, batch_size=BATCH)
        needs = method.masked_loss or method.label_rows
        classes = np.array([[True, True, client % 2 == 0] for client in clients]) if needs else None
        return client_work(plan, batches, 1.0 + clients, by_steps=method.by_steps, steps=STEPS, client_classes=classes)

    def run(self, program: Round, work: ClientWork) -> tuple[Any, RoundResult]:
        server, images = program.start(jax.tree.map(jnp.array, self.params)), self.images
        server, result = program.run(server, program.placed(images), work, ROUND)
        return server.params, result

    def reference(self, method: Method) -> Any:
        program, work = self.round(method, "masked"), self.work(method)
        return self.once(method, lambda: reference_round(program, self.params, self.images, work, ROUND))


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    model = TinyNetwork(nnx.Rngs(0))
    network = trace_network(model, jax.ShapeDtypeStruct((1, 3, 3, 1), jnp.float32))
    params, others = split_variables(model)
    generator = np.random.default_rng(0)
    pixels = generator.uniform(0, 255, (EXAMPLES + 1, 3, 3, 1)).astype(np.float32)
    pixels[POISONED] = np.nan
    labels = generator.integers(0, CLASSES, EXAMPLES + 1).astype(np.int32)
    images = Examples(*map(jnp.asarray, (pixels, labels, np.full(1, 0.5, np.float32), np.full(1, 0.3, np.float32))))
    owned = np.arange(EXAMPLES)
    partition = Partition.from_lists([owned[owned % CLIENTS == client] for client in range(CLIENTS)], EXAMPLES)
    return Fleet(network, params, others, images, partition)


def arrays(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([leaf.ravel() for leaf in arrays(tree)])


def assert_close(one: Any, other: Any) -> None:
    np.testing.assert_allclose(flat(one), flat(other), rtol=0, atol=3e-6)


def assert_same_bits(one: Any, other: Any) -> None:
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)


def without_uploads(work: ClientWork, silent: np.ndarray) -> ClientWork:
    """The work if these clients, bool [clients], sent nothing."""
    entries = np.where(silent[:, None], np.int32(-1), work.entries)
    return work._replace(entries=entries, weights=np.where(silent, np.float32(0), work.weights))


@pytest.mark.parametrize(
    ("name", "execution", "grouping"),
    CASES,
    ids=[f"{n}-{e}-{g.chunk}of{g.block}on{g.lanes}" for n, e, g in CASES],
)
def test_the_fast_round_is_the_round_to_be_read(fleet: Fleet, name: str, execution: Execution, grouping: Grouping) -> None:
    method = method_named(name)
    expected = fleet.reference(method)
    assert np.abs(flat(fleet.params) - flat(expected)).max() > 1e-3  # the round does something
    assert_close(fleet.run(fleet.round(method, execution, grouping), fleet.work(method))[0], expected)


def test_the_cases_hold_what_tells_methods_apart(fleet: Fleet) -> None:
    """Rounds in which all clients do the same would hold too little."""
    for name, method in METHODS.items():
        work = fleet.work(method)
        if method.rates != "full" and method.decided != "never":
            assert set(work.entries.ravel()) >= {0, 1}, name
        if method.unfinished == "discard":
            assert 0 < np.count_nonzero(work.weights) < CLIENTS, name
    cut = method_named("distreal[batch=cut]")
    assert set(fleet.examples(cut)[fleet.work(cut).entries].ravel()) >= {2, BATCH}
    assert set(fleet.work(EVERY_KNOB).entries.ravel()) >= {0, 1, 2}
    for name in ("partial_work", "fedprox", "fednova"):
        assert len(set(np.count_nonzero(fleet.work(method_named(name)).entries >= 0, axis=1))) > 1
    for name in ("distreal", "distreal_uniform", "fjord"):  # several entries in one client's round
        assert any(len(set(row[row >= 0])) > 1 for row in fleet.work(method_named(name)).entries)


def test_methods_that_differ_in_one_choice_differ_in_what_they_learn(fleet: Fleet) -> None:
    for name, other in (("partial_work", "fedprox"), ("partial_work", "fednova"), ("distreal_uniform", "federated_dropout")):
        models = (flat(fleet.reference(METHODS[method])) for method in (name, other))
        assert np.abs(np.subtract(*models)).max() > 1e-4


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_clients_does_not_matter(fleet: Fleet, name: str, execution: Execution) -> None:
    method, order = METHODS[name], np.array([3, 0, 4, 2, 1])
    after, _ = fleet.run(fleet.round(method, execution), fleet.work(method, clients=order))
    assert_close(after, fleet.reference(method))


@pytest.mark.parametrize("name", METHODS)
def test_rates_of_zero_are_fedavg(fleet: Fleet, name: str) -> None:
    """With the full network for all, all mini-batches done and all classes at hand, every method is FedAvg."""
    method = method_named(name)
    program = fleet.round(method, "compact")
    if method.proximal or method.decided == "never":
        # mu = 0, and a weakest device that can afford the full network.
        full = np.array([fleet.network.full_widths])
        program = dataclasses.replace(
            program, step=fleet.step(method.filters == "random", 0.0), configurations=Configurations.of_widths(full)
        )
    work = fleet.work(METHODS["full_resources"])
    assert (work.entries == 0).all() and tuple(program.configurations.widths[-1]) == fleet.network.full_widths
    work = work._replace(
        entries=np.full_like(work.entries, len(program.configurations.widths) - 1),
        classes=np.ones((CLIENTS, CLASSES), dtype=bool) if method.masked_loss or method.label_rows else None,
    )
    assert_close(fleet.run(program, work)[0], fleet.once("fedavg", lambda: fedavg(fleet, work)))


def fedavg(fleet: Fleet, work: ClientWork) -> Any:
    """McMahan et al., AISTATS 2017, Algorithm 1, with Flax and Optax alone."""
    graphdef, first, others = nnx.split(TinyNetwork(nnx.Rngs(0)), nnx.Param, ...)
    optimizer = optax.sgd(0.1)

    @jax.jit
    def step(params: Any, state: Any, index: jax.Array) -> tuple[Any, Any]:
        def loss(params: Any) -> jax.Array:
            pixels = (fleet.images.inputs[index] / 255 - 0.5) / 0.3
            logits = nnx.merge(graphdef, params, others)(pixels)
            return optax.softmax_cross_entropy_with_integer_labels(logits, fleet.images.targets[index]).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    models = []
    for batches in work.batches:
        params, state = first, optimizer.init(first)
        for batch in batches:
            params, state = step(params, state, batch)
        models.append(params)
    shares = work.weights / work.weights.sum()
    return jax.tree.map(lambda *leaves: sum(share * leaf for share, leaf in zip(shares, leaves, strict=True)), *models)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", WITH_SUB_NETWORKS)
def test_what_nobody_trained_keeps_its_bits(fleet: Fleet, name: str, execution: Execution) -> None:
    method, client = METHODS[name], 2
    work = without_uploads(fleet.work(method), np.arange(CLIENTS) != client)
    work.entries[client], work.weights[client] = [0, 0, -1], 1.0  # two steps of the smallest sub-network
    smallest, masks = fleet.table(method).entries[0], []
    scores = next_scores(method.filters, fleet.network, fleet.params)
    for step in (0, 1):
        key = RoundKeys.of(SEED, ROUND).filter_key(method, client, step)
        kept = draw_filters(method.filters, key, ROUND, fleet.network, smallest.widths, scores)
        ones = jax.tree.map(jnp.ones_like, fleet.params)
        trained = fleet.network.select_trained(smallest.depth, ones, jax.tree.map(jnp.zeros_like, ones))
        masks.append(flat(fleet.network.mask(trained, kept)))
    trained = np.maximum(*masks) == 1
    before, after = flat(fleet.params), flat(fleet.run(fleet.round(method, execution), work)[0])
    assert 0 < trained.sum() < len(trained)
    np.testing.assert_array_equal(before[~trained], after[~trained])
    assert np.mean(before[trained] != after[trained]) > 0.5


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", METHODS)
def test_a_client_that_diverges_is_left_out_and_counted(fleet: Fleet, name: str, execution: Execution) -> None:
    method = method_named(name)
    program, work = fleet.round(method, execution), fleet.work(method)
    diverging = int(np.flatnonzero(work.weights)[0])
    batches = work.batches.copy()
    batches[diverging, 0, 0] = POISONED
    poisoned, result = fleet.run(program, work._replace(batches=batches))
    expected, without = fleet.run(program, without_uploads(work, np.arange(CLIENTS) == diverging))
    assert_same_bits(poisoned, expected)
    assert (int(result.left_out), int(without.left_out)) == (1, 0)
    assert result.clients == without.clients == np.count_nonzero(work.weights) - 1
    np.testing.assert_allclose(result.loss, without.loss, rtol=1e-6)


def test_the_round_to_be_read_leaves_the_same_clients_out(fleet: Fleet) -> None:
    method = METHODS["partial_work"]
    work = fleet.work(method)
    batches = work.batches.copy()
    batches[0, 0, 0] = POISONED
    after, _ = fleet.run(fleet.round(method, "masked"), work._replace(batches=batches))
    program = fleet.round(method, "masked")
    assert_close(reference_round(program, fleet.params, fleet.images, work._replace(batches=batches), ROUND), after)


@pytest.mark.parametrize("name", ["partial_work", "federated_dropout", "fednova"])
def test_a_client_without_data_is_left_out_and_counted(fleet: Fleet, name: str) -> None:
    program, work = fleet.round(METHODS[name], "masked"), fleet.work(method_named(name))
    empty = int(np.flatnonzero(work.weights)[0])
    weights = np.where(np.arange(CLIENTS) == empty, np.float32(0), work.weights)  # numbers of examples
    after, result = fleet.run(program, work._replace(weights=weights))
    expected, without = fleet.run(program, without_uploads(work, np.arange(CLIENTS) == empty))
    assert_same_bits(after, expected)
    assert (int(result.left_out), int(without.left_out)) == (1, 0) and result.clients == without.clients


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", METHODS)
def test_when_nobody_uploads_the_model_stays(fleet: Fleet, name: str, execution: Execution) -> None:
    work = without_uploads(fleet.work(method_named(name)), np.ones(CLIENTS, bool))
    after, result = fleet.run(fleet.round(METHODS[name], execution), work)
    assert_same_bits(after, fleet.params)
    assert (float(result.loss), float(result.clients), float(result.left_out)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", METHODS)
def test_rounds_of_different_plans_are_compiled_once_and_give_their_buffers_away(
    fleet: Fleet, name: str, execution: Execution
) -> None:
    program = fleet.round(METHODS[name], execution)
    server, images = program.start(jax.tree.map(jnp.array, fleet.params)), fleet.images
    for round_index in range(5):
        before = jax.tree.leaves((server.params, server.opt_state))
        server, _ = program.run(server, program.placed(images), fleet.work(METHODS[name], round_index), round_index)
        assert all(leaf.is_deleted() for leaf in before)
    assert set(program.compilations().values()) == {1}
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((images, fleet.params, fleet.others)))


def test_numbers_that_jax_types_weakly_are_compiled_for_once(fleet: Fleet) -> None:
    """Such as those of a layer that begins with `jnp.full`: what a round makes of them is typed strongly."""
    weak = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), fleet.params)
    data = fleet.images._replace(mean=jnp.full(1, 0.5), std=jnp.full(1, 0.3))
    assert all(leaf.weak_type for leaf in jax.tree.leaves((weak, data.mean, data.std)))
    compiled: list[str] = []

    def compilations(params: Any, images: Examples) -> int:
        program = dataclasses.replace(fleet.round(METHODS["partial_work"], "masked"))  # without programs
        server, placed = program.start(jax.tree.map(jnp.array, params)), program.placed(images)
        compiled.clear()
        for index in range(2):
            server, _ = program.run(server, placed, fleet.work(METHODS["partial_work"], index), index)
        return compiled.count("/jax/core/compile/backend_compile_duration")

    def listen(event: str, *_: Any, **__: Any) -> None:
        compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        assert compilations(weak, data) == compilations(fleet.params, fleet.images) > 0
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_a_server_with_a_memory_takes_no_step_when_nobody_uploads(fleet: Fleet) -> None:
    """Adam's moments move a model even where the change is zero; without a client there is no step."""
    optimizer = TrainingSettings(server_optimizer="adam", server_learning_rate=0.1).global_optimizer()
    program = dataclasses.replace(fleet.round(METHODS["partial_work"], "compact"), optimizer=optimizer)
    work, images = fleet.work(METHODS["partial_work"]), fleet.images
    server, _ = program.run(program.start(jax.tree.map(jnp.array, fleet.params)), program.placed(images), work, 0)
    before = jax.device_get(server)
    assert np.abs(flat(before.params) - flat(fleet.params)).max() > 0.01
    server, _ = program.run(server, program.placed(images), without_uploads(work, np.ones(CLIENTS, bool)), 1)
    assert_same_bits(server, before)


CHANGES_OF_ROUNDS = ([1.0, -2.0], [0.5, 0.0])


def after_two_rounds(settings: TrainingSettings) -> np.ndarray:
    """A model of tens after two rounds in which the clients' mean changes are as above."""
    optimizer = settings.global_optimizer()
    params = {"w": jnp.array([10.0, 10.0])}
    server = Server(params, optimizer.init(params))
    for change in CHANGES_OF_ROUNDS:
        trained = {"w": (server.params["w"] + jnp.array(change))[None]}
        sums = sums_of(server.params, trained, jnp.array([True]), jnp.ones(1), jnp.zeros(1))
        server = server_step(server, sums, optimizer)
    return np.asarray(server.params["w"])


def test_fedavg_adds_the_mean_change() -> None:
    np.testing.assert_allclose(after_two_rounds(TrainingSettings()), [11.5, 8.0], rtol=1e-6)


def test_a_server_with_momentum_goes_on_along_earlier_changes() -> None:
    # 10 + lr (1 + (0.5 + 0.9 * 1)) and 10 + lr (-2 + (0 + 0.9 * -2)), lr = 0.5
    after = after_two_rounds(TrainingSettings(server_optimizer="momentum", server_learning_rate=0.5))
    np.testing.assert_allclose(after, [11.2, 8.1], rtol=1e-6)


def test_a_server_with_adam_takes_steps_of_its_own_length() -> None:
    # Bias-corrected moments: after one round m = c and v = c^2; after two m = (0.09 c1 + 0.1 c2) / 0.19 and
    # v = (0.0099 c1^2 + 0.01 c2^2) / 0.0199; a step is lr m / (sqrt(v) + 1e-3).
    first, second = map(np.array, CHANGES_OF_ROUNDS)
    m, v = (0.09 * first + 0.1 * second) / 0.19, (0.0099 * first**2 + 0.01 * second**2) / 0.0199
    expected = 10 + 0.1 * first / (np.abs(first) + 1e-3) + 0.1 * m / (np.sqrt(v) + 1e-3)
    after = after_two_rounds(TrainingSettings(server_optimizer="adam", server_learning_rate=0.1))
    np.testing.assert_allclose(after, expected, rtol=1e-6)


def averaged(changes: list[list[float]], weights: list[float], **how: Any) -> np.ndarray:
    """The server's new model after clients changed a model of zeros by `changes` [clients, elements]."""
    params, optimizer = {"w": jnp.zeros(len(changes[0]))}, optax.sgd(1.0)
    everyone, losses = jnp.ones(len(changes), bool), jnp.zeros(len(changes))
    how = {name: {"w": jnp.array(value)} if name == "coverage" else jnp.array(value) for name, value in how.items()}
    sums = sums_of(params, {"w": jnp.array(changes)}, everyone, jnp.array(weights), losses, **how)
    return np.asarray(server_step(Server(params, optimizer.init(params)), sums, optimizer).params["w"])


def test_averages_by_hand() -> None:
    changes, weights = [[4.0, 8.0, 0.0], [2.0, 0.0, 0.0]], [1.0, 3.0]
    np.testing.assert_allclose(averaged(changes, weights), [2.5, 2.0, 0.0])
    coverage = [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    np.testing.assert_allclose(averaged(changes, weights, coverage=coverage), [2.5, 8.0, 0.0])
    # 4 steps and 1 step: changes per step are (1, 2) and (2, 0), their mean (1.75, 0.5), times the mean of 1.75 steps.
    np.testing.assert_allclose(averaged(changes, weights, lengths=[4.0, 1.0]), [1.75 * 1.75, 1.75 * 0.5, 0.0])


def test_fednova_with_equal_steps_is_fedavg() -> None:
    changes, weights = [[4.0, 8.0], [2.0, 0.0]], [1.0, 3.0]
    np.testing.assert_allclose(averaged(changes, weights, lengths=[3.0, 3.0]), averaged(changes, weights), rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_path_lengths_are_the_sum_of_what_momentum_makes_of_each_gradient(momentum: float) -> None:
    for steps in range(6):
        trace, moved = 0.0, 0.0
        for _ in range(steps):  # SGD on a gradient of one
            trace = 1.0 + momentum * trace
            moved += trace
        assert path_lengths(np.ones((1, steps)), momentum)[0] == pytest.approx(moved)


def test_a_clients_draws_depend_on_round_number_and_step_alone() -> None:
    each_step, each_round = METHODS["distreal"], METHODS["federated_dropout"]

    def bits(key: jax.Array) -> tuple[int, ...]:
        return tuple(np.asarray(jax.random.key_data(key)).tolist())

    keys = RoundKeys.of(SEED, 3)
    drawn = {bits(keys.filter_key(each_step, client, step)) for client in range(5) for step in range(5)}
    assert len(drawn) == 25
    assert len({bits(keys.filter_key(each_round, 2, step)) for step in range(5)}) == 1
    for other in (
        keys.layer_key(2, 1),
        RoundKeys.of(SEED, 4).filter_key(each_step, 2, 1),
        RoundKeys.of(SEED + 1, 3).filter_key(each_step, 2, 1),
    ):
        assert bits(other) not in drawn


@pytest.mark.parametrize("grouping", [grouping for execution in EXECUTIONS for grouping in GROUPINGS[execution]])
def test_every_step_is_in_one_call_of_its_program_after_the_steps_before(grouping: Grouping) -> None:
    generator, programs = np.random.default_rng(3), np.array([0, 1, 1, 2]) if grouping.by_entry else np.zeros(4, int)
    for clients in (1, 5, 8, 40):
        done = generator.integers(0, 7, (clients, 1))
        entries = np.where(np.arange(6) < done, generator.integers(0, 4, (clients, 6)), -1).astype(np.int32)
        numbers, ones = np.arange(clients, dtype=np.uint32), np.ones(clients, np.float32)
        work = ClientWork(numbers, np.zeros((clients, 6, 2), np.int32), entries, ones, ones)
        units = units_of(work, grouping.within(group_size(clients)), programs)
        steps_of: dict[int, list[int]] = {int(client): [] for client in numbers}
        groups: dict[int, list[int]] = {}
        for unit in units:
            for block in unit:
                for call in block.calls:
                    for number, (slot, first) in itertools.product(
                        range(call.steps), zip(call.slots, call.first, strict=True)
                    ):
                        if slot < len(block.work.clients):
                            entry = block.work.entries[slot, first + number]
                            assert entry >= 0 and programs[entry] == call.program
                            steps_of[int(block.work.clients[slot])].append(int(first + number))
                for group, begin, end in block.segments:
                    groups.setdefault(group, []).extend(block.work.clients[begin:end].tolist())
        assert [steps_of[int(client)] for client in numbers] == [list(range(int(count))) for count in done[:, 0]]
        # The groups of the sum depend on the number of clients alone.
        size = group_size(clients)
        assert groups == {g: list(range(g * size, min((g + 1) * size, clients))) for g in range(-(-clients // size))}
        assert len(groups) <= GROUPS


@pytest.mark.parametrize(
    ("execution", "groupings"),
    [
        ("compact", [Grouping(1, 1, by_entry=True, lanes=lanes) for lanes in (1, 2, 3, 8)]),
        ("compact", [Grouping(block, 2, by_entry=True, lanes=lanes) for block, lanes in ((4, 1), (64, 3))]),
        ("masked", [Grouping(1, 1, by_entry=False, lanes=lanes) for lanes in (1, 2, 3, 8)]),
    ],
    ids=["compact", "vmapped", "masked"],
)
@pytest.mark.usefixtures("optimised")
def test_the_sum_over_clients_has_one_order(fleet: Fleet, execution: Execution, groupings: list[Grouping]) -> None:
    """The same bits in any number of lanes and blocks; vmapped in chunks of another size, a client's own steps may round
    differently."""
    method = METHODS["distreal"]
    clients = np.arange(40) % CLIENTS
    work = fleet.work(method, clients=clients)._replace(clients=np.arange(40, dtype=np.uint32))
    compiled: dict[Grouping, RoundPrograms] = {}  # not those of other tests, which are compiled without optimisations
    rounds = [fleet.round(method, execution, grouping).using(compiled) for grouping in groupings]
    models = [fleet.run(program, work)[0] for program in rounds]
    for model in models[1:]:
        assert_same_bits(model, models[0])


def test_groupings_that_make_no_sense_are_refused(fleet: Fleet) -> None:
    with pytest.raises(InputError, match="have to be at least 1"):
        Grouping(0, 1, by_entry=True)
    with pytest.raises(InputError, match="let chunk equal block"):
        Grouping(4, 2, by_entry=False)
    with pytest.raises(InputError, match="grouped by entry in compact execution"):
        fleet.round(METHODS["distreal"], "compact", DEFAULT["masked"])


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("clients", [1, 10, 5000])
def test_the_default_grouping_fills_an_accelerator_and_no_cpu(execution: Execution, platform: str, clients: int) -> None:
    grouping = default_grouping(execution, platform, clients, lanes=2)
    assert grouping.by_entry == (execution == "compact") and grouping.lanes == 2
    assert (grouping.block, grouping.chunk) == (1, 1) if platform == "cpu" else grouping.block * 2 >= min(clients, 512)


def test_as_many_clients_train_at_once_as_a_device_has_room_for() -> None:
    """A quarter of the memory for the weights of those that are held, half of it for the steps of those that train."""
    for limit, compact, masked in ((1e9, (25, 10), 10), (1e10, (200, 16), 100), (1e6, (1, 1), 1)):
        room = Room(limit, weights=1e7, step=5e7)
        grouping = default_grouping("compact", "gpu", 200, room=room)
        assert (grouping.block, grouping.chunk) == compact
        grouping = default_grouping("masked", "gpu", 200, room=room)
        assert (grouping.block, grouping.chunk) == (masked, masked)
    assert default_grouping("compact", "cpu", 200, room=Room(1e12, 1.0, 1.0)).block == 1


def test_a_client_needs_room_for_what_it_holds_and_what_its_step_keeps(fleet: Fleet) -> None:
    """A CPU does not say how much memory it has, and is not asked."""

    class Accelerator:
        def memory_stats(self) -> dict[str, int]:
            return {"bytes_limit": 10**9}

    step, params = fleet.round(METHODS["distreal"], "compact").step, fleet.params
    small, large = (Room.of(Accelerator(), step, params, fleet.images, batch) for batch in (2, 4))
    assert small is not None and large is not None and small.limit == 1e9
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert small.weights == large.weights >= 2 * parameters and large.step > small.step > parameters
    assert Room.of(jax.devices()[0], step, params, fleet.images, 2) is None


def test_rows_of_the_classifier_are_found_by_what_they_change(fleet: Fleet) -> None:
    """Not by their length: the hidden layer has as many units as there are classes."""
    none = {"kernel": -1, "bias": -1}
    found = nnx.to_pure_dict(fleet.class_axes)
    assert found == {"conv": none, "hidden": none, "classifier": {"kernel": 1, "bias": 0}}


CHANGES = np.random.default_rng(5).normal(size=(3, 4, CLASSES))  # of a classifier [units, classes], by three clients
KEPT = (4, 2, 1)  # units that each trained
HELD = np.array([[True, True, False], [True, False, False], [False, True, True]])


def test_the_covered_mean_is_that_of_heterofl_s_code() -> None:
    """Its `combine`: each element is the sum of the clients' parameters that hold it over their number, and the rows of the
    output layer are summed over the clients with their label alone; what no client holds stays. Clients count alike.
    (Re-derived from github.com/diaoenmao/HeteroFL-Computation-and-Communication-Efficient-Federated-Learning.)"""
    before = np.random.default_rng(6).normal(size=(4, CLASSES))
    total, count = np.zeros_like(before), np.zeros_like(before)
    for change, kept, held in zip(CHANGES, KEPT, HELD, strict=True):
        local = before[:kept] + change[:kept]
        for label in np.flatnonzero(held):
            total[:kept, label] += local[:, label]
            count[:kept, label] += 1
    expected = np.where(count > 0, total / np.maximum(count, 1), before)
    after = of_server(before, [(np.arange(4) < kept) for kept in KEPT], np.ones(3))
    np.testing.assert_allclose(after, expected, atol=1e-6)
    assert (count == 0).any() and (count > 1).any()


def test_the_covered_mean_of_a_rolling_window_is_that_of_fedrolex_s_code() -> None:
    """The same sums over the indices of each client's window, which wraps around. (github.com/AIoT-MLSys-Lab/FedRolex)"""
    before = np.random.default_rng(6).normal(size=(4, CLASSES))
    windows = [(np.arange(kept) + 3) % 4 for kept in KEPT]
    total, count = np.zeros_like(before), np.zeros_like(before)
    for change, window, held in zip(CHANGES, windows, HELD, strict=True):
        rows = np.ix_(window, np.flatnonzero(held))
        total[rows] += (before + change)[rows]
        count[rows] += 1
    expected = np.where(count > 0, total / np.maximum(count, 1), before)
    after = of_server(before, [np.isin(np.arange(4), window) for window in windows], np.ones(3))
    np.testing.assert_allclose(after, expected, atol=1e-6)


def of_server(before: np.ndarray, units: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """The classifier after the server's covered mean of `CHANGES`, each client having trained some units."""
    params, optimizer = {"kernel": jnp.asarray(before)}, optax.sgd(1.0)
    trained = jnp.asarray(np.stack([np.tile(mask[:, None], CLASSES) for mask in units]).astype(np.float64))
    coverage = jax.vmap(rows_of_classes, (0, None, 0))({"kernel": trained}, {"kernel": 1}, jnp.asarray(HELD))
    local = {"kernel": jnp.asarray(before + CHANGES * np.asarray(trained))}
    sums = sums_of(params, local, jnp.ones(3, bool), jnp.asarray(weights), jnp.zeros(3), coverage=coverage)
    return np.asarray(server_step(Server(params, optimizer.init(params)), sums, optimizer).params["kernel"])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_normalised_mean_is_that_of_fednova_s_code(momentum: float) -> None:
    """Its optimiser keeps, per client, the sum of updates and the normaliser a_i, which grows by a counter that momentum
    feeds: counter = counter * rho + 1, a_i += counter. The server takes tau_eff = sum of ratio_i a_i, and moves by tau_eff
    times the sum of ratio_i updates_i / a_i. (Re-derived from github.com/JYWa/FedNova, distoptim/FedNova.py.)"""
    steps, examples = [4, 1, 7], np.array([20.0, 50.0, 10.0])
    ratios = examples / examples.sum()
    normalisers = []
    for done in steps:
        counter = normaliser = 0.0
        for _ in range(done):
            counter = counter * momentum + 1
            normaliser += counter
        normalisers.append(normaliser)
    effective = float(np.dot(ratios, normalisers))
    moved = sum(effective * ratio * CHANGES[i] / normalisers[i] for i, ratio in enumerate(ratios))
    lengths = path_lengths(np.arange(max(steps)) < np.array(steps)[:, np.newaxis], momentum)
    np.testing.assert_allclose(lengths, normalisers, rtol=1e-6)
    after = averaged(CHANGES.reshape(3, -1).tolist(), examples.tolist(), lengths=lengths.tolist())
    np.testing.assert_allclose(after, moved.ravel(), rtol=1e-5)


def test_the_covered_mean_by_examples_is_that_of_fjord_s_code() -> None:
    """From the largest width to the smallest, the part of that width becomes the mean of the parameters of all clients whose
    largest width is as large, by their examples. (Re-derived from `fjord_average` of the authors' baseline for Flower,
    github.com/adap/flower, baselines/fjord; in words in Horvath et al., NeurIPS 2021, section 4.2.)"""
    before, examples = np.random.default_rng(6).normal(size=(4, CLASSES)), np.array([2.0, 3.0, 5.0])
    expected = before.copy()
    for width in sorted(KEPT, reverse=True):
        having = [client for client, kept in enumerate(KEPT) if kept >= width]
        parts = [examples[client] * (before + CHANGES[client])[:width] for client in having]
        expected[:width] = sum(parts) / examples[having].sum()
    params, optimizer = {"w": jnp.asarray(before)}, optax.sgd(1.0)
    coverage = np.stack([np.tile((np.arange(4) < kept)[:, None], CLASSES) for kept in KEPT]).astype(np.float64)
    local = {"w": jnp.asarray(before + CHANGES * coverage)}
    sums = sums_of(
        params, local, jnp.ones(3, bool), jnp.asarray(examples), jnp.zeros(3), coverage={"w": jnp.asarray(coverage)}
    )
    after = np.asarray(server_step(Server(params, optimizer.init(params)), sums, optimizer).params["w"])
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_members_of_an_ensemble_have_no_filter_in_common_and_are_all_drawn(fleet: Fleet) -> None:
    widths = [2, 1]
    assert ensemble_members(fleet.network, widths) == 2
    members = [tuple(np.concatenate(member_filters(m, widths)).tolist()) for m in range(2)]
    assert members == [(0, 1, 0), (2, 3, 1)]
    drawn = set()
    for number in range(20):
        key = RoundKeys.of(SEED, number).filter_key(METHODS["small_ensemble"], 0, 0)
        kept = draw_filters("ensemble", key, number, fleet.network, widths)
        masks = draw_masks("ensemble", key, number, fleet.network, jnp.asarray(widths))
        drawn.add(tuple(np.concatenate(kept).tolist()))
        assert [np.flatnonzero(mask).tolist() for mask in masks] == [filters.tolist() for filters in kept]
    assert drawn == set(members)
