"""A federated run: one world for all methods, what is evaluated and how, and what is counted."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from distreal_jax.availability import Segments, make_availability
from distreal_jax.data.datasets import synthetic_dataset
from distreal_jax.data.partition import make_partition
from distreal_jax.errors import InputError
from distreal_jax.experiment.comparison import table_settings
from distreal_jax.fleet import mappings
from distreal_jax.fleet.evaluation import Evaluator
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import table_for
from distreal_jax.fleet.stages import stages_table
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS, Method, method_named
from distreal_jax.networks import make_network
from distreal_jax.record.counted import Counted
from distreal_jax.record.recorded_run import accuracy_per_tier
from distreal_jax.step import Examples, Knobs, split_variables
from distreal_jax.table import Configuration, DropoutTable
from distreal_jax.tracing import draw_filters, trace_network
from distreal_jax.tracing.filters import filter_norms

CLASSES, DEVICES, SIDE = 3, 8, 4
TRAINING = TrainingSettings(rounds=8, devices_per_round=4, steps=4, batch_size=5, learning_rate=0.2)


class TinyNetwork(nnx.Module):
    """Filter groups of four filters and five hidden units, with BatchNorm between."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 4, (3, 3), padding="VALID", rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.hidden = nnx.Linear(16, 5, rngs=rngs)
        self.classifier = nnx.Linear(5, CLASSES, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.conv(images)))
        return self.classifier(nnx.relu(self.hidden(x.reshape(x.shape[0], -1))))


def world_of(seed: int, load: str = "redrawn:0.1,1,3") -> World:
    dataset = synthetic_dataset(num_examples=120, image_shape=(SIDE, SIDE, 1), num_classes=CLASSES, seed=0)
    partition = make_partition("dirichlet", dataset.train.targets, DEVICES, seed=seed, alpha=0.5)
    model = TinyNetwork(nnx.Rngs(seed))
    network = trace_network(model, jax.ShapeDtypeStruct((1, SIDE, SIDE, 1), jnp.float32))
    params, others = split_variables(model)
    train: Examples = jax.tree.map(jnp.asarray, dataset.train)
    # More test examples than are evaluated at once, and no multiple of it.
    more = np.arange(250) % dataset.test.num_examples
    test = train._replace(inputs=jnp.asarray(dataset.test.inputs[more]), targets=jnp.asarray(dataset.test.targets[more]))
    evaluator = Evaluator(network, others, test, train, np.arange(100), dataset.task)
    availability = make_availability(load, seed=seed, num_devices=DEVICES)
    return World(dataset, partition, availability, network, params, others, train, evaluator, seed)


@pytest.fixture(scope="module")
def world() -> World:
    return world_of(0)


@functools.cache
def digits(seed: int) -> World:
    return World.make(WorldSettings(devices=20, availability="redrawn:0.1,1,3"), seed)


def federation_of(method: Method | str, world: World, training: TrainingSettings = TRAINING) -> Federation:
    method = method_named(method) if isinstance(method, str) else method
    searched = DropoutTable.from_widths(world.network, [[1, 5], [2, 5], [4, 5]])
    return Federation(world, method, table_for(method, world, searched, training), training, "masked")


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def test_every_method_sees_the_same_clients_batches_and_load(world: World) -> None:
    plans = {name: [federation_of(name, world).plan(index) for index in range(3)] for name in METHODS}
    for index in range(3):
        reference, work_of_reference = plans["distreal"][index]
        for name, rounds in plans.items():
            plan, work = rounds[index]
            np.testing.assert_array_equal(plan.clients, reference.clients)
            np.testing.assert_array_equal(work.batches, work_of_reference.batches)
            if METHODS[name].limited:
                np.testing.assert_array_equal(plan.work_offered, reference.work_offered)
            sizes = world.partition.sizes[plan.clients]
            done = plan.steps_done / TRAINING.steps if METHODS[name].by_steps else 1.0
            np.testing.assert_allclose(work.weights, np.where(plan.uploads, sizes * done, 0), rtol=1e-6)


def test_every_method_starts_from_the_same_weights(world: World) -> None:
    for name in METHODS:
        np.testing.assert_array_equal(flat(federation_of(name, world).start().params), flat(world.params))


def test_a_world_is_a_function_of_settings_and_seed() -> None:
    one, again, other = digits(0), World.make(WorldSettings(devices=20, availability="redrawn:0.1,1,3"), 0), digits(1)
    clients = np.arange(one.devices)
    assert one.devices == 20
    for world, same in ((again, True), (other, False)):
        assert np.array_equal(one.partition.indices, world.partition.indices) == same
        assert np.array_equal(flat(one.params), flat(world.params)) == same
        load, load_of_one = (w.availability.during(2, clients).means() for w in (world, one))
        assert np.array_equal(load, load_of_one) == same
    np.testing.assert_array_equal(one.evaluator.statistics, other.evaluator.statistics)


def trained(federation: Federation, rounds: int) -> Any:
    """Parameters after some rounds."""
    server = federation.start()
    for index in range(rounds):
        _, work = federation.plan(index)
        server, _ = federation.run_round(server, work, index)
    return server.params


def test_programs_are_dropped_before_they_take_all_mappings_and_results_stay_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = trained(federation_of("distreal_uniform", world), 3)
    taken, before = mappings.mappings(), mappings.dropped()
    assert 500 < taken < mappings.KEPT * mappings.most_mappings()  # what the tests compiled so far takes some, on Linux
    monkeypatch.setattr(mappings, "most_mappings", lambda: taken)
    dropping = federation_of("distreal_uniform", world)
    np.testing.assert_array_equal(flat(trained(dropping, 3)), flat(params))
    assert mappings.dropped() > before and mappings.mappings() < taken


def test_programs_for_which_there_is_no_room_are_refused_in_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappings, "most_mappings", lambda: 100)
    with pytest.raises(InputError, match=r"the 100 memory mappings .*allow more \(sysctl .*fewer entries"):
        trained(federation_of("distreal", world), 1)


def test_runs_repeat_and_learn(world: World) -> None:
    federation = federation_of("distreal_uniform", world)
    params = trained(federation, TRAINING.rounds)
    np.testing.assert_array_equal(flat(trained(federation, TRAINING.rounds)), flat(params))
    assert set(federation.round.compilations().values()) == {1}
    assert federation.evaluate(params).accuracy > 0.8 > 0.6 > federation.evaluate(world.params).accuracy


def test_evaluation_counts_every_test_example_once(world: World) -> None:
    accuracy = world.evaluator(world.params)
    logits, labels = by_hand(world, world.params, [4, 5])
    right = logits.argmax(axis=1) == labels
    assert accuracy.accuracy == pytest.approx(right.mean())
    log_likelihood = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert accuracy.loss == pytest.approx(-log_likelihood[np.arange(len(labels)), labels].mean(), rel=1e-4)
    per_class = [right[labels == label].mean() for label in range(CLASSES)]
    np.testing.assert_allclose(accuracy.per_class, per_class, rtol=1e-6)


def by_hand(world: World, params: Any, widths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of the test set, in numpy; BatchNorm by the statistics of the training examples."""
    first, second = widths
    values = nnx.to_pure_dict(params)
    kernel, bias = (np.asarray(values["conv"][part])[..., :first] for part in ("kernel", "bias"))
    scale, shift = (np.asarray(values["norm"][part])[:first] for part in ("scale", "bias"))
    hidden = np.asarray(values["hidden"]["kernel"]).reshape(2, 2, 4, 5)[:, :, :first, :second].reshape(-1, second)

    def convolved(images: Any) -> np.ndarray:
        x = (np.asarray(images) / 255.0 - np.asarray(world.train.mean)) / np.asarray(world.train.std)
        windows = np.lib.stride_tricks.sliding_window_view(x[..., 0], (3, 3), axis=(1, 2))
        return np.einsum("bhwij,ijf->bhwf", windows, kernel[:, :, 0]) + bias

    statistics = convolved(world.train.inputs[world.evaluator.statistics])
    mean, variance = statistics.mean(axis=(0, 1, 2)), statistics.var(axis=(0, 1, 2))
    x = (convolved(world.evaluator.test.inputs) - mean) / np.sqrt(variance + 1e-5) * scale + shift
    x = np.maximum(x, 0).reshape(len(x), -1)
    x = np.maximum(x @ hidden + np.asarray(values["hidden"]["bias"])[:second], 0)
    logits = x @ np.asarray(values["classifier"]["kernel"])[:second] + np.asarray(values["classifier"]["bias"])
    return logits, np.asarray(world.evaluator.test.targets)


def test_running_statistics_are_estimated_anew(world: World) -> None:
    """Devices send parameters alone; whatever running statistics the evaluator was given does not matter."""
    spoilt = jax.tree.map(lambda leaf: leaf + 100 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, world.others)
    evaluator = dataclasses.replace(world.evaluator, others=spoilt)
    assert evaluator(world.params).loss == world.evaluator(world.params).loss


def test_a_sub_models_accuracy_is_that_of_its_first_filters(world: World) -> None:
    federation = federation_of("distreal[filters=first]", world)
    logits, labels = by_hand(world, world.params, [2, 5])
    expected = (logits.argmax(axis=1) == labels).mean()
    accuracy = federation.evaluate(world.params, 1)
    assert accuracy.accuracy == pytest.approx(expected)
    log_likelihood = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert accuracy.loss == pytest.approx(-log_likelihood[np.arange(len(labels)), labels].mean(), rel=1e-4)


def test_a_small_network_is_evaluated_as_such(world: World) -> None:
    federation = federation_of("small_network", world)
    assert len(federation.table.entries) == 1
    widths = federation.table.entries[0].widths
    assert widths < world.network.full_widths
    small, full = federation.evaluate(world.params), world.evaluator(world.params)
    assert small.loss == world.evaluator(world.params, widths).loss != full.loss
    # Its entry never changes, but with random filters the whole network is trained, and it is that which is evaluated.
    assert federation_of("small_network[filters=random,average=all]", world).evaluate(world.params).loss == full.loss


def test_the_model_that_is_delivered_is_the_largest_that_was_trained(world: World) -> None:
    heterofl, distreal = federation_of("heterofl", world), federation_of("distreal", world)
    widths = [entry.widths for entry in heterofl.table.entries]
    assert [heterofl.delivered(widest).widths for widest in (-1, 0, 1, 2)] == [widths[0], *widths]
    assert heterofl.delivered(2).share == 1
    assert heterofl.delivered(0).share == world.network.macs(widths[0]) / world.network.macs()  # of a forward pass
    assert distreal.delivered(0).widths == world.network.full_widths and distreal.delivered(0).share == 1
    assert heterofl.evaluate(world.params, 1).loss == world.evaluator(world.params, widths[1]).loss


def test_an_ensemble_is_the_mean_of_its_members_probabilities(world: World) -> None:
    federation = federation_of("small_ensemble", world)
    model = federation.delivered()
    assert model.widths == (1, 1) and model.members == 4
    assert model.share == pytest.approx(4 * world.network.macs((1, 1)) / world.network.macs())
    probabilities = []
    for member in range(4):
        kept = [jnp.array([member]), jnp.array([member])]
        order = world.network.put(world.params, world.network.take(world.params, kept), [jnp.array([0]), jnp.array([0])])
        logits, labels = by_hand(world, order, [1, 1])
        probabilities.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    mean = np.mean(probabilities, axis=0)
    accuracy = federation.evaluate(world.params)
    assert accuracy.loss == pytest.approx(-np.log(mean[np.arange(len(labels)), labels]).mean(), rel=1e-4)
    assert accuracy.accuracy == pytest.approx((mean.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("name", ["small_network", "distreal[decided=never]"])
def test_an_entry_that_is_decided_never_is_the_best_that_the_weakest_device_can_afford(name: str) -> None:
    world = world_of(0, "redrawn:0.4,1,3")
    (entry,) = federation_of(name, world).table.entries
    free = dataclasses.replace(method_named(name), decided="round")
    macs = [candidate.macs for candidate in federation_of(free, world).table.entries]
    assert len(macs) > 1 and entry.macs == max(cost for cost in macs if cost <= 0.4 * world.network.training_macs())


def test_bytes_are_those_of_what_the_server_can_tell_a_device_needs(world: World) -> None:
    """Parameters of the network: conv 9f + f, norm 2f, hidden 4fu + u, classifier 3u + 3; 4 bytes each."""

    def size(f: int, u: int) -> int:
        return 4 * (12 * f + 4 * f * u + u + 3 * u + 3)

    for name in ("distreal", "partial_work", "distreal_uniform[filters=first]"):
        federation = federation_of(name, world)
        plan, _ = federation.plan(0)
        up, down = federation.bytes_moved(plan)
        assert up.tolist() == (size(4, 5) * plan.uploads).tolist() and down.tolist() == [size(4, 5)] * 4
    for name in ("heterofl", "fjord", "federated_dropout", "small_network"):
        federation = federation_of(name, world)
        plan, _ = federation.plan(1)
        sent = np.array([size(*federation.table.entries[cap].widths) for cap in plan.caps])
        up, down = federation.bytes_moved(plan)
        assert up.tolist() == (sent * plan.uploads).tolist() and down.tolist() == sent.tolist()
        assert sent.max() < size(4, 5)


def test_devices_that_miss_the_deadline_were_sent_what_was_decided_for_them(world: World) -> None:
    federation = federation_of("heterofl[unfinished=discard]", world)
    plans = [federation.plan(index)[0] for index in range(30)]
    late = [(plan, row) for plan in plans for row in np.flatnonzero(~plan.uploads & (plan.caps > 0))]
    assert late
    for plan, row in late:
        entry = federation.table.entries[plan.caps[row]]
        parameters = sum(leaf.size for leaf in jax.tree.leaves(world.network.shapes(world.params, entry.widths)))
        up, down = federation.bytes_moved(alone(plan, row))
        assert (up.tolist(), down.tolist()) == ([0], [4 * parameters])


def alone(plan: Any, row: int) -> Any:
    return dataclasses.replace(plan, **{f.name: getattr(plan, f.name)[row : row + 1] for f in dataclasses.fields(plan)})


def test_accuracy_per_tier_weighs_classes_by_what_a_tiers_devices_hold(world: World) -> None:
    federation = federation_of("distreal", world)
    accuracy = dataclasses.replace(world.evaluator(world.params), per_class=np.array([0.5, 1.0, np.nan]))
    means = np.mean([world.availability.during(r, np.arange(DEVICES)).means() for r in range(TRAINING.rounds)], axis=0)
    weakest, middle, strongest = np.argsort(means)[:3], np.argsort(means)[3:6], np.argsort(means)[6:]
    expected = []
    for tier in (weakest, middle, strongest):
        examples = np.concatenate([world.partition.examples_of(device) for device in tier])
        first, second, _ = np.bincount(world.dataset.train.targets[examples], minlength=CLASSES)
        expected.append((0.5 * first + 1.0 * second) / (first + second))
    tiers = accuracy_per_tier(federation, accuracy)
    assert list(tiers) == ["weakest third", "middle third", "strongest third"]
    np.testing.assert_allclose(list(tiers.values()), expected)
    untested = accuracy_per_tier(federation, dataclasses.replace(accuracy, per_class=np.full(CLASSES, np.nan)))
    assert np.isnan(list(untested.values())).all() and list(untested) == list(tiers)


def test_a_method_with_a_masked_loss_gets_the_classes_that_its_clients_have(world: World) -> None:
    plan, work = federation_of("heterofl", world).plan(0)
    assert work.classes is not None and not work.classes.all()
    for client, classes in zip(plan.clients, work.classes, strict=True):
        held = set(world.dataset.train.targets[world.partition.examples_of(int(client))].tolist())
        assert set(np.flatnonzero(classes).tolist()) == held
    assert federation_of("heterofl[masked_loss=false,label_rows=false]", world).plan(0)[1].classes is None
    assert federation_of("heterofl", world).round.class_axes is not None
    assert federation_of("fjord", world).round.class_axes is None


def test_settings_reach_the_devices_step(world: World) -> None:
    training = dataclasses.replace(TRAINING, fedprox_mu=0.3, momentum=0.5)
    assert federation_of("fedprox", world, training).round.step.proximal == 0.3
    assert federation_of("partial_work", world, training).round.step.proximal == 0.0
    for said in (True, False):  # by the settings, unless the method says it
        training_so = dataclasses.replace(TRAINING, rescale=said)
        assert federation_of("distreal", world, training_so).round.step.rescale == said
        assert not federation_of("distreal[filters=first]", world, training_so).round.step.rescale
        assert not federation_of("distreal[rescale=false]", world, training_so).round.step.rescale
        assert federation_of("heterofl[rescale=true]", world, training_so).round.step.rescale
    # 1 + (1 + 0.5) + (1 + 0.5 + 0.25) + ... for so many steps.
    plan, work = federation_of("fednova", world, training).plan(0)
    expected = [sum(2 - 0.5**step for step in range(done)) for done in plan.steps_done]
    np.testing.assert_allclose(work.lengths, expected, rtol=1e-6)


def test_equal_weights_are_equal(world: World) -> None:
    training = dataclasses.replace(TRAINING, client_weights="equal")
    plan, work = federation_of("distreal", world, training).plan(0)
    np.testing.assert_array_equal(work.weights, plan.uploads)


def test_tables_hold_what_their_method_may_choose_from(world: World) -> None:
    def widths(name: str) -> list[tuple[int, ...]]:
        return [entry.widths for entry in federation_of(name, world).table.entries]

    assert widths("distreal") == [(1, 5), (2, 5), (4, 5)]
    assert widths("partial_work") == widths("full_resources") == [(4, 5)]
    assert widths("distreal_uniform") == [(1, 5), (2, 5), (3, 5), (4, 5)]
    # 1/16 to 1 of 4 filters and 5 units, at least one, halves to the even neighbour.
    assert widths("heterofl") == [(1, 1), (2, 2), (4, 5)]
    assert len(widths("small_network")) == 1
    assert widths("adaptive_batch") == [(4, 5)] * 2 and widths("distreal[batch=cut]") == [(1, 5), (2, 5), (4, 5), (4, 5)]
    assert federation_of("adaptive_batch", world).examples.tolist() == [1, TRAINING.batch_size]
    assert federation_of("partial_work", world).examples is None
    with pytest.raises(InputError, match="adaptive_batch cuts mini-batches, of which no seconds were measured"):
        table_for(METHODS["adaptive_batch"], dataclasses.replace(world, cost="seconds:cpu"), None, TRAINING)
    with pytest.raises(InputError, match="distreal needs a dropout table; search one with `distreal search`"):
        table_for(METHODS["distreal"], world, None, TRAINING)
    with pytest.raises(InputError, match="made for another network"):
        table_for(METHODS["distreal"], world, DropoutTable.full(digits(0).network), TRAINING)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rounds": 0}, "rounds is 0; give a whole number of at least 1"),
        ({"learning_rate": float("nan")}, "learning-rate is nan"),
        ({"batch_size": -1}, "batch-size is -1"),
        ({"momentum": 1.0}, "momentum is 1; give a finite number of at least 0 and below 1"),
        ({"weight_decay": -0.1}, "weight-decay is -0.1; give a finite number of at least 0"),
        ({"server_optimizer": "yogi"}, "server-optimizer is yogi; give one of: sgd, momentum, adam"),
        ({"client_weights": "banana"}, "client-weights is banana; give one of: examples, equal"),
        ({"rescale": 1}, "rescale is 1; give True or False"),
        ({"steps": 2.0}, "steps is 2; give a whole number"),
        ({"rounds": True}, "rounds is True; give a whole number"),
        ({"fedprox_mu": -1.0}, "fedprox-mu is -1; give a finite number of at least 0"),
    ],
)
def test_training_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        TrainingSettings(**settings)
    assert said in str(error.value)


@pytest.mark.parametrize(("share", "depth"), [(1, 0), (2, 0), (1, 3)])
def test_memory_by_shapes_is_near_xla_s_own_analysis_of_a_compiled_step(share: int, depth: int) -> None:
    """XLA holds fewer activations, and needs room for convolutions: between half and three times as much on a CPU.

    Momentum of frozen layers, which XLA is handed and a device need not have, is left out.
    """
    world = digits(0)
    widths = tuple(width // share for width in world.network.full_widths)
    table = DropoutTable.from_configurations(world.network, [Configuration(widths, depth=depth)])
    training = dataclasses.replace(TRAINING, momentum=0.0 if depth else 0.9, batch_size=20)
    federation = Federation(world, METHODS["distreal"], table, training, "masked")
    step, kept = federation.round.step, [jnp.arange(width) for width in widths]
    small = dataclasses.replace(step, network=world.network.narrowed(widths), others=world.network.take(step.others, kept))
    batch = world.train.batch(jnp.arange(20))

    def train(learner: Any) -> Any:
        return small.ordinary(learner, None, batch, jax.random.key(0), Knobs(depth))

    learner = small.start(world.network.take(world.params, kept))
    memory = jax.jit(train, donate_argnums=0).lower(learner).compile().memory_analysis()
    measured = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    assert 0.5 < measured / federation.memory_bytes([0]) < 3
    assert federation.memory_bytes([]) == 0


def test_a_mini_batch_beyond_the_data_is_refused(world: World) -> None:
    with pytest.raises(InputError, match=r"a mini-batch of 5000 of .* training examples; give a smaller one"):
        federation_of("distreal", world, dataclasses.replace(TRAINING, batch_size=5000))


def test_more_devices_a_round_than_there_are_is_refused(world: World) -> None:
    with pytest.raises(InputError, match="9 devices per round of a population of 8; ask fewer"):
        federation_of("distreal", world, dataclasses.replace(TRAINING, devices_per_round=9))


def test_successive_layers_are_trained_one_stage_after_the_other() -> None:
    federation = federation_of("slt", world_of(0, "redrawn:0.8,1,3"), dataclasses.replace(TRAINING, rounds=20))
    network, entries = federation.world.network, federation.table.entries
    assert len(entries) > 1 and all(entry.macs <= 0.8 * network.training_macs() for entry in entries)
    depths = [entries[int(federation.plan(index)[0].caps[0])].depth for index in range(20)]
    assert depths == sorted(depths) and set(depths) == {entry.depth for entry in entries}
    last, _ = federation.plan(19)
    assert federation.delivered(federation.widest(last)).widths == entries[int(last.caps[0])].widths


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("name", ["digits_cnn", "resnet20"])
def test_a_stage_freezes_only_layers_that_an_earlier_one_trained_whole(name: str, budget: float) -> None:
    model = make_network(name, image_shape=(8, 8, 1), num_classes=10, seed=0)
    network = trace_network(model, jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32), proof=False)
    table = stages_table(network, budget, dense=False)
    stages = sorted(table.entries, key=lambda entry: entry.depth)
    assert [stage.depth for stage in stages] == list(range(len(stages)))
    place = {layer: index for index, layer in enumerate(network.order.layers)}
    for before, stage in itertools.pairwise(stages):
        for group, trained, width, filters in zip(
            network.filter_groups, before.widths, stage.widths, network.full_widths, strict=True
        ):
            if place.get(group.name.split("[")[0], 0) < stage.depth:
                assert trained == width == filters
    affordable = [stage.macs <= budget * network.training_macs() for stage in stages]
    assert all(affordable) or len(stages) == 1


def test_layers_that_are_frozen_for_a_round_come_down_and_do_not_go_up(world: World) -> None:
    federation = federation_of("cocofl", world)
    plan, _ = federation.plan(0)
    up, down = federation.bytes_moved(plan)
    depths = [federation.table.entries[cap].depth for cap in plan.caps]
    trained = [4 * world.network.trained_variables(depth=depth) for depth in depths]
    assert max(depths) > 0 and up.tolist() == (np.array(trained) * plan.uploads).tolist()
    assert set(down) == {4 * world.network.trained_variables()}


def test_memory_is_that_of_the_step_that_takes_the_most_not_of_the_dearest(world: World) -> None:
    every = [Configuration((4, 5), 0.1), Configuration((1, 2)), Configuration((4, 5), 0.2, depth=1), Configuration((3, 5))]
    table = DropoutTable.from_configurations(world.network, every)
    federation = Federation(world, METHODS["distreal"], table, TRAINING, "masked")
    each = [federation.memory_bytes([entry]) for entry in range(len(every))]
    assert federation.memory_bytes(range(len(every))) == max(each) > min(each)
    counted = Counted()
    for index in range(4):
        counted.add(federation, federation.plan(index)[0])
    assert set(counted.trained) == {entry for index in range(4) for entry in federation.plan(index)[0].entries.ravel()} - {
        -1
    }


def test_a_small_network_fits_what_a_round_offers_in_seconds_whatever_the_mini_batch(world: World) -> None:
    """A step takes a second, and one more for each full example: small mini-batches are dear."""

    def measured(table: DropoutTable, _: World, training: TrainingSettings) -> DropoutTable:
        costs = [1.0 + training.batch_size * entry.macs / table.full_macs for entry in table.entries]
        return table.with_seconds("pi", costs, 1.0 + training.batch_size)

    load = make_availability("constant:0.5", seed=0, num_devices=DEVICES)
    world = dataclasses.replace(world, availability=load, cost="seconds:pi", seconds_offered=4 * (1.0 + 20))
    for batch_size in (20, 10, 5):
        training = dataclasses.replace(TRAINING, batch_size=batch_size, steps=80 // batch_size)
        method = METHODS["small_network"]
        federation = Federation(world, method, table_for(method, world, None, training, measured), training, "masked")
        plan, _ = federation.plan(0)
        assert federation.costs[0] <= 0.5 and not plan.deadline_hits.any()


def test_who_is_not_limited_has_the_full_network(world: World) -> None:
    load = make_availability("constant:0.3", seed=0, num_devices=DEVICES)
    federation = federation_of("small_network[limited=false]", dataclasses.replace(world, availability=load))
    assert federation.table.entries[0].widths == world.network.full_widths


BAD_LOADS: dict[str, tuple[Any, str]] = {
    "percent": (lambda n: Segments(np.tile([0.0, 1.0], (n, 1)), np.full((n, 1), 50.0)), "values above 0 and at most 1"),
    "NaN": (lambda n: Segments(np.tile([0.0, 1.0], (n, 1)), np.full((n, 1), np.nan)), "values above 0 and at most 1"),
    "nothing": (lambda n: Segments(np.tile([0.0, 1.0], (n, 1)), np.zeros((n, 1))), "values above 0 and at most 1"),
    "half a round": (lambda n: Segments(np.tile([0.0, 0.5], (n, 1)), np.ones((n, 1))), "times from 0 to 1"),
    "other devices": (lambda _: Segments(np.array([[0.0, 1.0]]), np.ones((1, 1))), r"times of shape \(1, 2\)"),
    "numbers": (lambda n: np.ones(n), "is a ndarray"),
}


@pytest.mark.parametrize("name", BAD_LOADS)
def test_a_load_of_ones_own_that_can_not_be_is_refused_with_round_and_device(world: World, name: str) -> None:
    said, text = BAD_LOADS[name]

    class Load:
        minimum = 0.5

        def during(self, _: int, devices: np.ndarray) -> Any:
            return said(len(devices))

    federation = federation_of("partial_work", dataclasses.replace(world, availability=Load()))
    with pytest.raises(InputError, match=f"the availability in round 3.*{text}"):
        federation.plan(3)


def test_a_growing_method_may_use_every_entry_from_half_of_the_training_on(world: World) -> None:
    load = make_availability("constant:1", seed=0, num_devices=DEVICES)
    federation = federation_of(
        "fedgmr", dataclasses.replace(world, availability=load), dataclasses.replace(TRAINING, rounds=10)
    )
    caps = [int(federation.plan(index)[0].caps.max()) for index in range(10)]
    assert caps == sorted(caps) and caps[0] < caps[4] == caps[9] == len(federation.table.entries) - 1


@pytest.mark.parametrize("pace", ["progress", "best"])
def test_by_progress_a_run_is_decided_by_measured_progress_and_its_noise(world: World, pace: str) -> None:
    def federation(progress: list[float], stderr: float) -> Federation:
        widths, method = [[1, 5], [2, 5], [4, 5]], method_named(f"distreal[idle=train,pace={pace}]")
        table = DropoutTable.from_widths(world.network, widths, progress=progress, progress_stderr=[stderr] * 3)
        return Federation(world, method, table_for(method, world, table, TRAINING), TRAINING, "masked")

    first, noisier = federation([0.1, 0.2, 0.3], 0.01), federation([0.1, 0.2, 0.3], 0.12)
    assert 0 in first.plan(0)[0].entries and 0 not in noisier.plan(0)[0].entries
    assert table_settings(first) != table_settings(noisier) != table_settings(federation([0.1, 0.2, 0.31], 0.12))


def test_pace_by_progress_needs_a_table_whose_progress_was_measured(world: World) -> None:
    with pytest.raises(InputError, match=r"chooses by measured progress, which the table has not; search one"):
        federation_of("distreal[pace=progress]", world)


def test_invariant_dropout_keeps_what_the_last_round_moved_and_its_scores_outlive_a_stop(world: World) -> None:
    federation = federation_of("fluid", world)
    network = world.network
    server = federation.start()
    assert all(np.all(np.asarray(scores) == 1) for scores in server.scores)
    for index in range(3):
        before, scores = jax.device_get((server.params, server.scores))
        server, _ = federation.run_round(server, federation.plan(index)[1], index)
        moved = filter_norms(network, jax.tree.map(jnp.subtract, server.params, before))
        rows = zip(server.scores, moved, filter_norms(network, before), scores, strict=True)
        for new, far, norm, old in rows:
            np.testing.assert_allclose(new, np.where(far > 0, far / norm, old), rtol=1e-5)
        if index == 0:
            stopped = jax.device_get(server)
    again = jax.device_put(stopped)
    for index in (1, 2):
        again, _ = federation.run_round(again, federation.plan(index)[1], index)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(server), strict=True):
        np.testing.assert_array_equal(one, other)
    kept = draw_filters("update", jax.random.key(0), 0, network, [2, 3], server.scores)
    for chosen, scores in zip(kept, server.scores, strict=True):
        best = np.argsort(-np.asarray(scores), kind="stable")[: len(chosen)]
        assert set(np.asarray(chosen).tolist()) == set(best.tolist())


def test_filter_norms_are_of_all_weights_that_a_filter_makes_or_is_read_by(world: World) -> None:
    norms = filter_norms(world.network, world.params)
    for group, count in enumerate(world.network.full_widths):
        for filter_index in range(count):
            kept = [np.arange(width) for width in world.network.full_widths]
            kept[group] = np.delete(kept[group], filter_index)
            masked = world.network.mask(world.params, kept)
            gone = jax.tree.map(lambda whole, part: jnp.sum((whole - part) ** 2), world.params, masked)
            assert float(norms[group][filter_index]) == pytest.approx(float(np.sqrt(sum(jax.tree.leaves(gone)))), rel=1e-5)
