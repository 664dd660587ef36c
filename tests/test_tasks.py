"""What is learnt: classification is one task; others bring a loss and a score, and inputs of any form."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from distreal_jax.data import Dataset
from distreal_jax.errors import InputError
from distreal_jax.experiment import OutputSettings, compare
from distreal_jax.experiment.proxy import proxy_in
from distreal_jax.experiment.tuning import Tuner
from distreal_jax.experiment.tuning_report import write_tuning
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.method_table import table_for
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import method_named
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.recorded_run import RecordSettings, accuracy_per_tier
from distreal_jax.record.run_folder import RunFolder
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.step import CLASSIFICATION, Task, classification
from distreal_jax.step.outputs import check_tokens
from distreal_jax.step.task import score_of
from distreal_jax.table import Configurations, DropoutTable
from distreal_jax.tracing import trace_network

COUNT = 48
TRAINING = TrainingSettings(devices_per_round=2, steps=2, batch_size=4)
generator = np.random.default_rng(0)


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return ((outputs - targets) ** 2).mean(axis=1)


REGRESSION = Task(squared_error, lambda outputs, targets: 1 - squared_error(outputs, targets), "R squared")


def dataset(task: int | Task, inputs: Any, targets: Any) -> Dataset:
    arrays = {
        f"{split}_{part}": values
        for split in ("train", "test")
        for part, values in (("inputs", inputs), ("targets", targets))
    }
    return Dataset.from_arrays("mine", task, arrays)


class Network(nnx.Module):
    """`layer`, relu, the mean over positions, and a dense layer to three outputs."""

    def __init__(self, make: Callable[[nnx.Rngs], nnx.Module], inputs: int = 8, outputs: int = 3) -> None:
        rngs = nnx.Rngs(0)
        self.layer, self.out = make(rngs), nnx.Linear(inputs, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.layer(x))
        return self.out(x.mean(axis=tuple(range(1, x.ndim - 1))) if x.ndim > 2 else x)


class TwoInputs(Network):
    def __call__(self, x: jax.Array, weights: jax.Array) -> jax.Array:
        return super().__call__(x * weights)


def dense(rngs: nnx.Rngs) -> nnx.Module:
    return nnx.Linear(4, 8, rngs=rngs)


KINDS = {
    "vectors": (REGRESSION, lambda: Network(dense), (4,)),
    "1-D": (3, lambda: Network(lambda rngs: nnx.Conv(2, 8, (3,), rngs=rngs)), (6, 2)),
    "3-D": (3, lambda: Network(lambda rngs: nnx.Conv(1, 8, (2, 2, 2), strides=2, rngs=rngs)), (4, 4, 4, 1)),
    "several": (REGRESSION, lambda: TwoInputs(dense), None),
}


@functools.cache
def world_of(kind: str, **more: Any) -> World:
    task, model, shape = KINDS[kind]
    inputs: Any = {"x": generator.normal(size=(COUNT, 4)), "weights": generator.random((COUNT, 1))}
    inputs = inputs if shape is None else generator.normal(size=(COUNT, *shape))
    targets = np.arange(COUNT) % 3 if isinstance(task, int) else generator.normal(size=(COUNT, 3))
    settings = WorldSettings(partition="iid", devices=4, **more)
    return World.make(settings, 0, dataset=dataset(task, inputs, targets), model=model())


def federation_of(kind: str, method: str = "distreal", execution: Any = "compact") -> Federation:
    world, chosen = world_of(kind), method_named(method)
    table = table_for(chosen, world, DropoutTable.uniform(world.network, [0, 0.5]), TRAINING)
    return Federation(world, chosen, table, TRAINING, execution)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_every_form_are_trained_masked_as_compact_and_evaluated(kind: str) -> None:
    after = []
    for execution in ("compact", "masked"):
        federation = federation_of(kind, execution=execution)
        server, result = federation.run_round(federation.start(), federation.plan(0)[1], 0)
        assert result.clients > 0
        after.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(server.params)]))
    np.testing.assert_allclose(after[0], after[1], atol=1e-5)
    first = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(federation.world.params)])
    assert (after[0] != first).any()
    scores = federation.evaluate(server.params)
    assert np.isfinite(scores.loss) and len(scores.per_class) == (3 if kind in ("1-D", "3-D") else 0)


def test_loss_and_score_of_a_regression_are_those_by_hand() -> None:
    federation = federation_of("vectors")
    world = federation.world
    values = jax.tree.map(np.asarray, nnx.to_pure_dict(world.params))
    x, targets = np.asarray(world.dataset.test.inputs), np.asarray(world.dataset.test.targets)
    hidden = np.maximum(x @ values["layer"]["kernel"] + values["layer"]["bias"], 0)
    errors = ((hidden @ values["out"]["kernel"] + values["out"]["bias"] - targets) ** 2).mean(axis=1)
    scores = federation.evaluate(world.params)
    assert scores.loss == pytest.approx(errors.mean(), rel=1e-5)
    assert scores.score == pytest.approx(1 - errors.mean(), rel=1e-5)
    assert accuracy_per_tier(federation, scores) == {}


def test_a_score_of_points_is_the_mean_of_the_ratios_of_sums() -> None:
    """Two examples, three classes: (1 + 0) / (2 + 2), (3 + 1) / (4 + 1), and one that nothing was to gain of."""
    task = Task(squared_error, lambda points, possible: (points, possible))
    points, possible = jnp.array([[1, 3, 0], [0, 1, 0]]), jnp.array([[2, 4, 0], [2, 1, 0]])
    assert float(task.mean_score(points, possible)) == pytest.approx((1 / 4 + 4 / 5) / 2)
    assert np.isnan(score_of(np.full(2, np.nan), np.ones(2))) and not np.isnan(score_of(np.ones(2), np.ones(2)))
    right = CLASSIFICATION.mean_score(jnp.eye(4)[jnp.array([0, 1, 1])], jnp.array([0, 1, 2]))
    assert float(right) == pytest.approx(2 / 3)


def test_a_search_measures_the_gain_of_the_tasks_score() -> None:
    settings = ProgressSettings(rounds=1, devices=2, steps=20, batch_size=8, snapshots=(0,), held_out=16, sizes=1)
    training = dataclasses.replace(TRAINING, learning_rate=0.05)
    progress = proxy_in(world_of("vectors"), training, settings)
    gains = progress(Configurations.of_widths([[8], [8]]), 0)
    assert gains[0] == gains[1] and gains[0] > 0  # R squared of the first weights is far below 0
    assert progress.input_size == "4"
    with pytest.raises(InputError, match="images alone can be shrunk"):
        proxy_in(world_of("vectors"), training, dataclasses.replace(settings, shrink=2))


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("heterofl", r'"heterofl\[masked_loss=false,label_rows=false\]"'),
        ("distreal[masked_loss=true]", r'off: "distreal\[masked_loss=false\]"$'),
        ("heterofl[masked_loss=false,cap=mean]", r'"heterofl\[masked_loss=false,cap=mean,label_rows=false\]"'),
    ],
)
def test_what_goes_by_classes_is_refused_where_a_task_has_none(method: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        federation_of("vectors", method)
    settings = WorldSettings(partition="dirichlet:0.3", devices=4)
    with pytest.raises(
        InputError, match=r"partition dirichlet shares out classes, .* use iid, or natural with train_clients"
    ):
        World.make(settings, 0, dataset=world_of("vectors").dataset, model=Network(dense))
    with pytest.raises(InputError, match=r"network 'digits_cnn' classifies images, .* give a network of yours"):
        World.make(WorldSettings(partition="iid", devices=4), 0, dataset=world_of("vectors").dataset)


def test_methods_are_compared_by_the_tasks_score_under_its_name(tmp_path: Path) -> None:
    def world(seed: int) -> World:
        return dataclasses.replace(world_of("vectors"), seed=seed)

    with RunFolder.at(tmp_path / "compared", {}) as folder:
        compared = compare(
            [method_named("full_resources")],
            [3],
            WorldSettings(),
            dataclasses.replace(TRAINING, rounds=2),
            record=RecordSettings(eval_every=1),
            output=OutputSettings(),
            folder=folder,
            searched=lambda *_: DropoutTable.full(world(3).network),
            make_world=world,
        )
    (result,) = compared.results
    assert result.score_name == "R squared" and result.seed == 3
    assert result.accuracies[-1] < 0  # worse than the mean
    assert result.accuracy_per_tier == {} and result.accuracy_per_class == ()
    assert "final R squared" in compared.section.text and "accuracy" not in compared.section.text
    assert MethodResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    with pytest.raises(InputError, match="accuracies has other values than finite numbers"):
        dataclasses.replace(result, accuracies=(0.0, float("nan")))


def test_a_tuning_calls_the_score_by_its_name(tmp_path: Path) -> None:
    world = world_of("vectors", validation=0.2)
    training, record = dataclasses.replace(TRAINING, rounds=2), RecordSettings(eval_every=1)
    with RunFolder.at(tmp_path / "tuned", {}) as folder:
        tuner = Tuner(
            (world,), training, record, folder, lambda *_: DropoutTable.full(world.network), "compact", goal="area"
        )
        tunings = tuner.tune_all([method_named("full_resources")], 2, 0, lambda _: None)
        text = write_tuning(folder, tuner, tunings, WorldSettings(validation=0.2)).text
    assert "Tuned for mean R squared over time" in text and "accuracy" not in text


def returns(function: Callable[[jax.Array], Any]) -> nnx.Module:
    class Changed(Network):
        def __call__(self, x: jax.Array) -> Any:
            return function(super().__call__(x))

    return Changed(dense)


@pytest.mark.parametrize(
    ("task", "model", "said"),
    [
        (4, Network(dense), "gives 3 logits for a mini-batch of 2, the data set has 4 classes"),
        (2, Network(dense), "gives 3 logits for a mini-batch of 2, the data set has 2 classes"),
        (3, returns(lambda out: out[:, None]), r"an output of shape \(2, 1, 3\) .*no further axis"),
        (3, returns(lambda out: (out, out)), "returns a tuple; classification takes one array of logits"),
        (3, returns(lambda out: {"logits": out}), "returns a dict; classification takes one array of logits"),
        (3, returns(lambda out: (out > 0).astype(jnp.int32)), "output is int32; expected floats"),
        (
            Task(lambda outputs, targets: squared_error(outputs, targets).mean(), REGRESSION.score),
            Network(dense),
            r"loss gives shape \(\) for a mini-batch of 2; .*take the mean over all axes but the first",
        ),
        (Task(lambda outputs, targets: outputs - targets, REGRESSION.score), Network(dense), r"loss gives shape \(2, 3\)"),
        (Task(squared_error, lambda outputs, targets: jnp.float32(1)), Network(dense), r"score gives shape \(\)"),
        (Task(lambda outputs, targets: outputs["mean"], REGRESSION.score), Network(dense), "loss does not run on outputs"),
        (REGRESSION, Network(dense, outputs=2), "loss does not run on outputs and targets of shapes"),
    ],
)
def test_outputs_that_do_not_fit_the_task_are_refused_before_training(task: Any, model: nnx.Module, said: str) -> None:
    targets = np.arange(COUNT) % task if isinstance(task, int) else np.zeros((COUNT, 3))
    with pytest.raises(InputError, match=said) as refusal:
        World.make(WorldSettings(partition="iid", devices=4), 0, dataset(task, np.zeros((COUNT, 4)), targets), model)
    assert "\n" not in str(refusal.value)


def test_a_task_of_several_outputs_takes_what_the_network_returns() -> None:
    """The mean and the logarithm of the deviation, and the negative logarithm of the likelihood."""

    def loss(outputs: Any, targets: jax.Array) -> jax.Array:
        mean, log_deviation = outputs["mean"], outputs["log_deviation"]
        return (log_deviation + ((targets - mean) / jnp.exp(log_deviation)) ** 2 / 2).mean(axis=1)

    task = Task(loss, lambda outputs, targets: -abs(outputs["mean"] - targets).mean(axis=1))
    data = dataset(task, np.ones((COUNT, 4)), np.ones((COUNT, 3)))
    model = returns(lambda out: {"mean": out, "log_deviation": 0 * out})
    world = World.make(WorldSettings(partition="iid", devices=4), 0, data, model)
    assert np.isfinite(world.evaluator(world.params).loss)


def test_a_network_that_runs_on_one_example_alone_is_refused() -> None:
    model = returns(lambda out: out * jnp.ones((1 if out.shape[0] == 1 else 3, 3)))
    with pytest.raises(InputError, match=r"runs on one example and not on a mini-batch float32 \[2, 4\] in training"):
        World.make(
            WorldSettings(partition="iid", devices=4), 0, dataset(3, np.zeros((COUNT, 4)), np.arange(COUNT) % 3), model
        )


@pytest.mark.parametrize(
    ("own", "least", "most", "where"),
    [
        (False, 0, 9, None),
        (False, 0, 10, "layer 'embed'"),
        (False, -1, 5, "layer 'embed'"),
        (True, -1, 9, None),  # of an array, the last one
        (True, 0, 10, "a table of the network"),
    ],
)
def test_tokens_without_an_embedding_are_refused(own: bool, least: int, most: int, where: str | None) -> None:
    class Tokens(nnx.Module):
        def __init__(self) -> None:
            self.embed = nnx.Param(jnp.ones((10, 3))) if own else nnx.Embed(10, 3, rngs=nnx.Rngs(0))

        def __call__(self, tokens: jax.Array) -> jax.Array:
            return (self.embed[...][tokens] if own else self.embed(tokens)).mean(axis=1)

    tokens = np.full((COUNT, 5), 3)
    tokens[7, 2], tokens[9, 0] = least, most
    examples = dataset(3, tokens, np.arange(COUNT) % 3)
    model = Tokens()
    network = trace_network(model, jax.ShapeDtypeStruct((1, 5), jnp.int32))
    _, params, others = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
    check = functools.partial(check_tokens, network, params, others, (examples.train, examples.test))
    if where is None:
        check()
    else:
        with pytest.raises(InputError, match=f"tokens {least} to {most} are looked up in {where}, which has .* 0 to 9"):
            check()


def test_classification_is_cross_entropy_and_accuracy() -> None:
    task, logits, labels = classification(3), jnp.array([[1.0, 2.0, 3.0]]), jnp.array([1])
    assert task.loss(logits, labels) == optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    assert task.score_name == "accuracy" and task.num_classes == 3
