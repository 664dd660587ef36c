"""`import distreal_jax as dj`: what a script needs, in a line each."""

import dataclasses
import importlib
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_networks import Net, conv, dense

import distreal_jax as dj
from distreal_jax.record import RunFolder
from distreal_jax.record.evaluations import Evaluation, RecordSettings
from distreal_jax.record.recorded_run import recorded_run
from distreal_jax.search import SearchSettings
from distreal_jax.search.progress import ProgressSettings
from distreal_jax.signs import said_on_stderr

TRAINING = dj.TrainingSettings(rounds=3, devices_per_round=2, steps=2, batch_size=4)


def make_world(seed: int) -> dj.World:
    """Two classes of images of 4x4, told apart by their brightness, and a network of one convolution."""
    labels = np.arange(48) % 2
    images = np.random.default_rng(0).integers(0, 100, (48, 4, 4, 1)) + 100 * labels[:, None, None, None]
    arrays = dict(train_images=images[:32], train_labels=labels[:32], test_images=images[32:], test_labels=labels[32:])
    dataset = dj.Dataset.from_arrays("bright", 2, arrays)
    model = Net(lambda net, x: net.out(jax.nn.relu(net.conv(x)).mean((1, 2))), conv=conv(1, 8), out=dense(8, 2))
    return dj.World.make(dj.WorldSettings(partition="iid", devices=4), seed, dataset=dataset, model=model)


@pytest.fixture(scope="module")
def world() -> dj.World:
    return make_world(0)


@pytest.fixture(scope="module")
def federation(world: dj.World) -> dj.Federation:
    return dj.Federation(world, "distreal_uniform", training=TRAINING, execution="masked")


@pytest.fixture(scope="module")
def history(federation: dj.Federation) -> dj.History:
    return federation.fit(eval_every=1)


def leaves(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_every_name_is_there_and_in_the_list_that_editors_show() -> None:
    assert set(dj.__all__) <= set(dir(dj)) and all(getattr(dj, name) is not None for name in dj.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Wrold'"):
        dj.Wrold  # noqa: B018


def test_the_page_of_the_api_has_every_name_and_nothing_that_is_not_there() -> None:
    page = Path(__file__).parents[1].joinpath("docs/api.md").read_text()
    found = [path.rpartition(".") for path in re.findall(r"^::: (distreal_jax\..*)$", page, flags=re.MULTILINE)]
    listed = {name: getattr(importlib.import_module(module), name) for module, _, name in found}
    assert set(dj.__all__) - {"__version__"} <= set(listed) and len(listed) == len(found)
    for module, _, name in found:
        there = dj if name in dj.__all__ else getattr(dj, module.removeprefix("distreal_jax."))
        assert getattr(there, name) is listed[name]


def test_what_the_face_takes_can_be_made_from_the_face() -> None:
    for function in (
        dj.search_table,
        dj.compare,
        dj.trace_network,
        dj.World.make,
        dj.Federation.__init__,
        dj.Federation.fit,
    ):
        hints = {name: hint for name, hint in typing.get_type_hints(function).items() if name != "return"}
        kinds = {kind for hint in hints.values() for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)}
        own = {kind.__name__ for kind in kinds if kind.__module__.startswith("distreal_jax.")}
        assert own <= set(dj.__all__), function


def test_a_fit_is_what_a_recorded_run_of_the_same_federation_records(
    federation: dj.Federation, history: dj.History, tmp_path: Path
) -> None:
    with RunFolder.at(tmp_path / "run", {"a": "run"}) as folder:
        assert recorded_run(federation, folder, RecordSettings(eval_every=1)) == history.result


def test_a_history_has_columns_that_are_arrays_and_says_which(history: dj.History) -> None:
    assert history["round"].tolist() == [1, 2, 3] and history["simulated_seconds"].tolist() == [60, 120, 180]
    assert history.final == pytest.approx(history["accuracy"].mean()) and history["macs_spent"].dtype == np.float64
    with pytest.raises(dj.InputError, match=r"no column 'accuracies'; did you mean accuracy\? choose from: round, "):
        history["accuracies"]


def test_rounds_one_by_one_come_to_the_same(federation: dj.Federation, history: dj.History) -> None:
    for trained in federation:
        assert trained.plan.entries.shape[0] == TRAINING.devices_per_round
    assert trained.done == 3 and leaves(trained.server.params) == leaves(history.params)


def test_fewer_rounds_are_the_first_ones_and_compile_nothing(federation: dj.Federation, history: dj.History) -> None:
    compiled, seen = federation.round.compilations(), list[Evaluation]()
    short = federation.fit(rounds=2, eval_every=1, callbacks=[seen.append])
    assert short["accuracy"].tolist() == history["accuracy"][:2].tolist() and [each.done for each in seen] == [1, 2]
    assert federation.round.compilations() == compiled


def test_an_exception_of_a_callback_ends_the_training(federation: dj.Federation) -> None:
    def enough(evaluation: Evaluation) -> None:
        raise StopAsyncIteration(evaluation.done)

    with pytest.raises(StopAsyncIteration, match="1"):
        federation.fit(eval_every=1, callbacks=[enough])


def test_a_server_that_was_given_away_is_refused_with_what_to_do(federation: dj.Federation) -> None:
    server = federation.start()
    kept = jax.tree.map(jnp.copy, server)
    _, work = federation.plan(0)
    federation.run_round(server, work, 0)
    with pytest.raises(dj.InputError, match=r"given away to a round before.*or keep a copy: jax.tree.map"):
        federation.run_round(server, work, 0)
    federation.run_round(kept, work, 0)


def test_optimisers_given_as_objects_do_what_the_settings_of_the_same_do(world: dj.World, history: dj.History) -> None:
    objects = {"local_optimizer": optax.sgd(TRAINING.learning_rate), "server_optimizer": optax.sgd(1.0)}
    same = dj.Federation(world, "distreal_uniform", training=TRAINING, execution="masked", **objects)
    assert leaves(same.fit().params) == leaves(history.params)
    with pytest.raises(dj.InputError, match="fednova weighs updates by the steps of SGD"):
        dj.Federation(world, "fednova", training=TRAINING, local_optimizer=optax.adam(1e-3))


def test_adam_on_devices_and_a_schedule_on_the_server_train(world: dj.World, history: dj.History) -> None:
    adam = {"local_optimizer": optax.adam(0.05), "server_optimizer": optax.sgd(optax.exponential_decay(1.0, 1, 0.5))}
    trained = dj.Federation(world, "distreal_uniform", training=TRAINING, execution="masked", **adam).fit()
    assert leaves(trained.params) != leaves(history.params) and np.isfinite(trained["train_loss"]).all()


def test_a_method_that_needs_a_table_says_what_else_serves(world: dj.World) -> None:
    with pytest.raises(
        dj.InputError, match=r"distreal needs a dropout table, and none comes with the package.*partial_work"
    ):
        dj.Federation(world, "distreal")


def test_a_table_is_searched_and_methods_compared_in_a_line_each_without_files(
    world: dj.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    short = {"progress": ProgressSettings(rounds=1, devices=2, steps=1, batch_size=4, held_out=8, sizes=1)}
    with said_on_stderr(quiet=False):
        table = dj.search_table(world, search=SearchSettings(population=4, generations=1, final_repeats=2), **short)
    begins, generation, ends = capsys.readouterr().err.splitlines()
    assert "1 generation of 4" in begins and "generation 1 of 1" in generation and "measured afresh" in ends
    assert table.checked_for(world.network) and list(tmp_path.iterdir()) == []
    text = str(dj.compare("distreal_uniform", training=TRAINING, table=table, make_world=make_world))
    assert "`distreal_uniform`" in text and list(tmp_path.iterdir()) == []


def test_a_folder_is_read_again_for_the_same_data_network_load_and_execution_alone(tmp_path: Path) -> None:
    def compared(make: Callable[[int], dj.World], execution: Any = "masked") -> dj.Comparison:
        return dj.compare(["partial_work"], training=TRAINING, make_world=make, execution=execution, out=tmp_path)

    first = compared(make_world)
    assert "digits" not in (tmp_path / "config.json").read_text()  # the settings of a world that was not made
    assert compared(make_world).results == first.results

    def other_labels(seed: int) -> dj.World:
        world = make_world(seed)
        return dataclasses.replace(world, train=world.train._replace(targets=1 - world.train.targets))

    def other_load(seed: int) -> dj.World:
        return dataclasses.replace(
            make_world(seed), availability=dj.make_availability("constant:0.5", seed=0, num_devices=4)
        )

    for make in (other_labels, other_load):
        with pytest.raises(dj.InputError, match="other settings"):
            compared(make)
    with pytest.raises(dj.InputError, match="other settings"):
        compared(make_world, "compact")


def test_what_is_printed_and_shown_in_notebooks_is_worth_reading(world: dj.World, history: dj.History) -> None:
    lines = str(history).splitlines()
    assert lines[0].startswith("distreal_uniform, seed 0: accuracy 0.") and "(mean of 3 evaluations)" in lines[0]
    assert len([line for line in lines if line.startswith("| ")]) == 4  # a head, and three evaluations
    assert history.plot()._repr_png_().startswith(b"\x89PNG") and "data:image/png;base64," in history._repr_html_()
    table = dj.DropoutTable.uniform(world.network, [0.0, 0.5])
    assert str(table).splitlines() == [
        "Dropout table: filters kept of conv 8; MACs of training as a share of 2,352.",
        "entry    MACs  conv",
        "    0   50.0%     4",
        "    1  100.0%     8",
    ]
    assert "<td>50.0%</td>" in table._repr_html_() and ">50%</td>" in table._repr_html_()
    assert "<td>1</td>" in dj.DropoutTable.frozen(world.network)._repr_html_()  # how many of the first layers are frozen
    plan, _ = dj.Federation(world, "partial_work", training=TRAINING).plan(0)
    lines = str(plan).splitlines()
    assert [line.split()[0] for line in lines[2:]] == [str(client) for client in plan.clients]
    assert plan._repr_html_().count("<svg") == len(plan.clients)
    assert plan._repr_html_().count("#D55E00") == int(np.isfinite(plan.finish_times).sum())
    lines = str(world).splitlines()
    assert lines[0] == "World of seed 0: bright, 32 training and 16 test examples on 4 devices"
    assert lines[2] == "availability: uniform from 0.1 to 1, redrawn 3 times a round on average; work is counted in macs"
    assert "<td>conv</td><td>8</td>" in world._repr_html_() and world.network._repr_html_() in world._repr_html_()


def test_a_shell_shows_what_print_prints_and_no_arrays(
    world: dj.World, federation: dj.Federation, history: dj.History
) -> None:
    plan, _ = federation.plan(0)
    seen = list[Any]()
    federation.fit(rounds=1, callbacks=[seen.append])
    seen += [world, world.network, world.dataset, federation, plan, history, next(iter(federation))]
    for shown in seen:
        assert repr(shown) == str(shown) and not re.search(r"[aA]rray\(|0x", str(shown)) and len(str(shown)) < 1500
