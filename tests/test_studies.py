"""Claims about the studies of the search: what they compare is fair, and they go on where they stopped."""

import dataclasses
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from distreal_jax.commands import carry_over, proxy_study, search_study, table_shapes
from distreal_jax.data.datasets import synthetic_dataset
from distreal_jax.data.partition import Partition
from distreal_jax.errors import InputError
from distreal_jax.experiment import comparison
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.record import Front, RunFolder, conditions_picture, proxy_picture, rivals_picture
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.rank_correlation import (
    agreement_within,
    interval_over_things,
    mean_over_pairs,
    order_kept,
    partial_rank_correlation,
    rank_correlation,
)
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.search import SearchSettings, SearchSpace, inner_weights, search, uniform_rates, weighted_rates
from distreal_jax.search.design import DesignedVector, designed_table, designed_vectors, uniform_beside
from distreal_jax.search.first_vectors import first_vectors
from distreal_jax.search.progress import Progress, ProgressSettings
from distreal_jax.signs import said_on_stderr
from distreal_jax.step import Batch, Examples, split_variables
from distreal_jax.table import Configuration, Configurations, DropoutTable
from distreal_jax.tracing import trace_network

ROOT = Path(__file__).parents[1]
TINY = ProgressSettings(rounds=1, devices=2, steps=1, batch_size=4, held_out=50, sizes=1)
SEARCH = SearchSettings(population=8, generations=3, final_repeats=2)


@pytest.fixture(scope="module")
def world() -> World:
    return World.make(WorldSettings(), 0)


@pytest.fixture(scope="module")
def table(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "table.json"
    widths = [(4, 4, 4, 64), (9, 12, 8, 64), (16, 32, 32, 64)]
    DropoutTable.from_widths(world.network, widths, provenance={"search": {"settings": {"seed": 7}}}).save(path)
    return path


# Rank correlation


def test_rank_correlation_is_spearmans() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)  # 1 - 6 * 2 / 60
    assert rank_correlation([1, 2, 3], [9, 4, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 2], [1, 2, 3]) == pytest.approx(math.sqrt(3) / 2)  # ranks 1.5, 1.5, 3
    assert np.isnan(rank_correlation([5, 5, 5], [1, 2, 3]))
    both = rank_correlation([[1, 2, 3, 4], [4, 3, 2, 1]], [1, 2, 4, 3])
    assert both == pytest.approx([0.8, -0.8])


def test_rank_correlation_at_equal_cost_takes_out_what_cost_explains() -> None:
    a, b, cost = [1, 2, 3, 4], [1, 2, 4, 3], [2, 1, 3, 4]
    # 0.8 between a and b, 0.8 and 0.6 with cost
    assert partial_rank_correlation(a, b, cost) == pytest.approx((0.8 - 0.48) / (0.6 * 0.8))
    assert np.isnan(partial_rank_correlation(a, b, a))


def test_pairs_are_counted_within_their_level_alone() -> None:
    first, second, level = [1, 2, 10, 20, 30], [9, 8, 1, 3, 2], [0, 0, 1, 1, 1]
    assert agreement_within(first, second, level) == 0.5  # wrong; right, right, wrong
    assert agreement_within([5, 5], [1, 2], [0, 0]) == 0.5
    assert np.isnan(agreement_within([1, 2], [1, 2], [0, 1]))


def test_an_interval_over_things_holds_their_correlation_and_is_honest_where_there_is_none() -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(size=30)
    b = a + generator.normal(size=30)
    found = interval_over_things(rank_correlation, a, b)
    assert found.low is not None and found.high is not None
    assert found.low < found.mean == float(rank_correlation(a, b)) < found.high
    assert found == interval_over_things(rank_correlation, a, b)
    repeats = np.stack([a, b, -a])
    pairs = interval_over_things(mean_over_pairs(rank_correlation), repeats)
    assert pairs.mean == pytest.approx((found.mean - 1 - found.mean) / 3)
    for none in (
        interval_over_things(rank_correlation, [1, 1, 1], [1, 2, 3]),
        interval_over_things(rank_correlation, *[[1, 2]] * 2),
    ):
        assert math.isnan(none.mean) and none.low is none.high is None
    with pytest.raises(InputError, match="the same things in each measure"):
        interval_over_things(rank_correlation, [1, 2, 3], [1, 2])


def test_an_order_is_kept_against_what_was_before_or_between_seeds() -> None:
    before = [[1, 2, 3, 4], [1, 2, 4, 3], [2, 1, 3, 4]]
    assert order_kept(rank_correlation, before[:2], [[4, 3, 2, 1]]).mean == pytest.approx(-3 / math.sqrt(10))  # a tie
    assert order_kept(rank_correlation, before, None).mean == pytest.approx((0.8 + 0.8 + 0.6) / 3)
    assert math.isnan(order_kept(rank_correlation, before[:1], None).mean)


# The proxy with devices that have data of their own


class TinyNetwork(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(1, 3, (2, 2), padding="VALID", rngs=rngs)
        self.classifier = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.classifier(nnx.relu(self.conv(images)).mean(axis=(1, 2)))


class Watched(Examples):
    """Training data that notes which examples each mini-batch asks for."""

    asked: list[list[int]]

    def batch(self, index: jax.Array, classes: jax.Array | None = None) -> Batch:
        jax.debug.callback(lambda chosen: Watched.asked.append(chosen.tolist()), index)
        return super().batch(index, classes)


@pytest.fixture(scope="module")
def tiny_proxy() -> Callable[..., Progress]:
    dataset = synthetic_dataset(num_examples=60, image_shape=(3, 3, 1), num_classes=4, seed=1)
    model = TinyNetwork()
    network = trace_network(model, jax.ShapeDtypeStruct((1, 3, 3, 1), jnp.float32))
    settings = ProgressSettings(rounds=2, devices=3, steps=2, batch_size=8, held_out=20)

    def make(partition: Partition | None, **changed: int) -> Progress:
        train = Watched(*map(jnp.asarray, dataset.train))
        kept = {
            name: changed.get(name, getattr(settings, name))
            for name in ("rounds", "devices", "steps", "batch_size", "held_out")
        }
        return Progress(
            network, *split_variables(model), train, optax.sgd(0.1), ProgressSettings(**kept), seed=0, partition=partition
        )

    return make


def test_each_device_of_a_round_trains_on_one_clients_examples_and_on_none_held_out(
    tiny_proxy: Callable[..., Progress],
) -> None:
    clients = Partition.from_lists([range(start, start + 12) for start in range(0, 60, 12)], 60)
    Watched.asked = []
    tiny_proxy(clients).trained(Configuration((2,)), 0)
    jax.effects_barrier()
    batches = [batch for batch in Watched.asked if len(batch) == 8]
    owners = [{example // 12 for example in batch} for batch in batches]
    assert len(batches) == 2 * 3 * 2 and all(len(owner) == 1 for owner in owners)
    assert len(set().union(*owners)) >= 3  # the devices of a round are different clients
    held_out = set(np.random.default_rng(0).permutation(60)[:20].tolist())
    assert not held_out & set().union(*batches)


def test_a_single_client_that_holds_everything_is_what_devices_without_a_partition_draw_from(
    tiny_proxy: Callable[..., Progress],
) -> None:
    Watched.asked = []
    everything = Partition(np.random.default_rng(0).permutation(60).astype(np.int32), np.array([0, 60]))
    together, alone = tiny_proxy(None, devices=1), tiny_proxy(everything, devices=1)
    np.testing.assert_array_equal(*(proxy(Configurations.of_widths([[1], [3]]), 0) for proxy in (together, alone)))


def test_fewer_clients_than_devices_are_refused(tiny_proxy: Callable[..., Progress]) -> None:
    two = Partition.from_lists([range(30), range(30, 60)], 60)
    with pytest.raises(InputError, match="2 clients have examples that are not held out, the proxy trains 3 at once"):
        tiny_proxy(two)


# What is compared


class BlockNetwork(nnx.Module):
    """A stem, a residual block, and a layer whose result is concatenated to its input."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(1, 4, (1, 1), rngs=rngs)
        self.inside = nnx.Conv(4, 6, (1, 1), rngs=rngs)
        self.outside = nnx.Conv(6, 4, (1, 1), rngs=rngs)
        self.bottleneck = nnx.Conv(4, 5, (1, 1), rngs=rngs)
        self.grown = nnx.Conv(5, 2, (1, 1), rngs=rngs)
        self.classifier = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.stem(images))
        x = x + self.outside(nnx.relu(self.inside(x)))
        x = jnp.concatenate([x, self.grown(nnx.relu(self.bottleneck(x)))], axis=-1)
        return self.classifier(x.mean(axis=(1, 2)))


def test_block_inner_groups_are_those_of_no_stream_and_no_concatenation(world: World) -> None:
    network = trace_network(BlockNetwork(), jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32))
    space = SearchSpace(network, 0.8)
    inner = inner_weights(space).astype(bool)
    assert [network.filter_groups[group].name for group in np.array(space.groups)[inner]] == ["inside", "bottleneck"]
    assert inner_weights(SearchSpace(network, 0.8, space.groups[1:3])).tolist() == inner[1:3].tolist()
    assert not inner_weights(SearchSpace(world.network, 0.8)).any()  # a chain: all groups are alike
    rates = search_study.rates_of("inner", space, 5, seed=0)
    assert [bool(column.any()) for column in rates.T] == [
        group.name in ("inside", "bottleneck") for group in network.filter_groups
    ]
    assert rates.max() == pytest.approx(0.8)
    table = designed_table(space, [0.7, 0.85, 1], "inside")
    assert len(table) == 3 and all(row[group] == network.full_widths[group] for row in table for group in (0, 3))


def test_a_search_begins_with_vectors_of_one_rate_also_inside_blocks_alone_and_scales_them() -> None:
    network = trace_network(BlockNetwork(), jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32))
    settings = SearchSettings(population=4, generations=4, max_rate=0.8, crossover_probability=0, mutation_eta=1e6)
    found = [
        entry.widths for entry in search(network, lambda vectors, _: vectors.widths.sum(axis=1) / 100, settings).evaluated
    ]
    space = SearchSpace(network, 0.8)
    of_one_rate = {space.widths(row) for row in uniform_rates(space, 1000)}
    inside = {space.widths(row) for row in weighted_rates(space, 1000, inner_weights(space))}
    begun, scaled = set(found[:4]), set(found[4:])
    assert len(begun & of_one_rate) == 2 and len(begun & inside) == 3  # the full network is of both
    # neither crossed nor mutated by as much as a filter
    assert len(scaled) >= 4 and scaled <= of_one_rate | inside and scaled & inside


def test_a_quarter_of_the_first_generation_has_one_rate_and_half_of_it_drops_inside_blocks_alone() -> None:
    network = trace_network(BlockNetwork(), jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32))
    space = SearchSpace(network, 0.8)
    rates = np.array(first_vectors(space, SearchSettings(population=16, max_rate=0.8)))
    inside = inner_weights(space).astype(bool)
    alone = (rates[:, ~inside] == 0).all(axis=1) & (rates[:, inside] > 0).all(axis=1)
    assert (rates.std(axis=1) < 1e-9).sum() == 4 and alone.sum() == 8 and len(rates) == 12


def test_random_rivals_get_as_many_different_vectors_as_were_evaluated(world: World) -> None:
    space = SearchSpace(world.network, 0.95, searched_groups=[0])  # 16 filters: 16 different vectors
    rates = search_study.rates_of("random", space, 14, seed=3)
    assert len({space.widths(row) for row in rates}) == len(rates) == 14


def test_designed_vectors_have_the_costs_and_the_shapes_that_were_asked_for(world: World) -> None:
    space = SearchSpace(world.network, 0.99)
    vectors = designed_vectors(space, [0.06, 0.2, 0.6], [1, 0, -1])
    assert len({vector.widths for vector in vectors}) == 9
    for vector in vectors:
        assert (
            vector.cost == space.cost(Configuration(vector.widths)) == pytest.approx([0.06, 0.2, 0.6][vector.level], rel=0.1)
        )
        first, last = vector.widths[0] / 16, vector.widths[2] / 32
        assert first - last == pytest.approx(0, abs=0.05) if vector.shape == 0 else np.sign(first - last) == vector.shape
        assert vector.widths[3] == 64
    with pytest.raises(InputError, match=r"no 3 vectors of different shape near 0\.1% of its cost"):
        designed_vectors(space, [0.001], [1, 0, -1])


def test_uniform_vectors_stand_beside_each_entry_at_about_its_cost(world: World) -> None:
    space = SearchSpace(world.network, 0.9)
    entries = [(4, 4, 4, 64), (9, 12, 8, 64), (16, 32, 32, 64)]
    uniform = uniform_beside(space, entries)
    assert uniform[-1] == (16, 32, 32, 64)
    for entry, widths in zip(entries, uniform, strict=True):
        assert space.cost(Configuration(widths)) == pytest.approx(space.cost(Configuration(entry)), rel=0.15)
        shares = np.array(widths[:3]) / (16, 32, 32)
        assert np.ptp(shares) < 1 / 16


# The studies, with a proxy that needs no training


class Formula:
    """Stands for a proxy: concave in widths, the first layer worth most, noise by vector and repeat; remembers its calls."""

    made = 0

    def __init__(self, noise: float = 0.02) -> None:
        Formula.made += 1
        self.noise, self.calls = noise, list[tuple[int, int]]()

    def __call__(self, vectors: Configurations, repeat: int) -> np.ndarray:
        widths = vectors.widths
        self.calls += [(repeat, zlib.crc32(row.tobytes())) for row in np.asarray(widths, np.int32)]
        value = np.log1p(20 * np.asarray(widths) / np.array([16, 32, 32, 64])) @ np.array([0.10, 0.04, 0.01, 0.0])
        drawn = [np.random.default_rng([repeat, zlib.crc32(row.tobytes())]).normal() for row in np.asarray(widths, np.int32)]
        return value + self.noise * np.array(drawn)


def png_size(path: Path) -> tuple[int, ...]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    return struct.unpack(">II", content[16:24])


@pytest.fixture
def formulas(monkeypatch: pytest.MonkeyPatch) -> list[Formula]:
    made: list[Formula] = []

    def stand_in(*_: Any, **__: Any) -> Formula:
        made.append(Formula())
        return made[-1]

    for study in (search_study, carry_over, proxy_study):
        monkeypatch.setattr(study, "proxy_in", stand_in)
    return made


def results_of(folder: Path) -> Any:
    report = (folder / "report.md").read_text()
    (picture,) = folder.glob("*.png")
    assert f"({picture.name})" in report
    width, height = png_size(picture)
    assert 600 <= width <= 2100 and 300 <= height <= 1000
    return json.loads((folder / "results.json").read_text())


def test_a_search_meets_its_rivals_at_equal_evaluations_and_is_judged_by_measurements_it_never_saw(
    formulas: list[Formula], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = search_study.Options(seeds="0-2", search=SEARCH, output=search_study.OutputSettings(out=tmp_path / "study"))
    with said_on_stderr(quiet=False):
        search_study.main(options)
    printed, said = capsys.readouterr()
    assert [line.split(": ")[0] for line in said.splitlines()[1:]] == [f"seed {seed}" for seed in range(3) for _ in range(4)]
    results = results_of(tmp_path / "study")
    outcomes = {(outcome["arm"], outcome["seed"]): outcome for outcome in results["outcomes"]}
    assert {arm for arm, _ in outcomes} == {"nsga2", "uniform", "random", "macs"} and "is left out" in printed
    for seed in range(3):
        own = [outcomes[arm, seed] for arm in ("nsga2", "uniform", "random", "macs")]
        assert own[0]["evaluated"] == own[2]["evaluated"] == 24 >= max(outcome["evaluated"] for outcome in own)
    # up to repeat 4 generations are measured, and then what may be on a front; 5 and 6 judge it
    for proxy in formulas:
        assert {repeat for repeat, _ in proxy.calls} == {0, 1, 2, 3, 4, 5, 6}
    front = {zlib.crc32(np.array(widths, np.int32).tobytes()) for widths in outcomes["nsga2", 0]["widths"]}
    assert front <= {widths for repeat, widths in formulas[0].calls if repeat == 5}
    # the difference is that of the areas within seeds
    summary = results["summary"]["uniform"]
    ahead = [outcomes["nsga2", seed]["area"] - outcomes["uniform", seed]["area"] for seed in range(3)]
    assert summary["area_ahead"]["mean"] == pytest.approx(np.mean(ahead))
    assert f"{np.mean(ahead):+.3f} (" in printed  # three seeds: the values, no interval


def test_a_search_over_several_knobs_meets_itself_with_each_left_out(
    formulas: list[Formula], world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here examples and depth cost no progress, so leaving one out costs area, and step factors are worth nothing."""
    knobs = dataclasses.replace(SEARCH, knobs=("filters", "examples", "depth", "step"))
    out = search_study.OutputSettings(out=tmp_path / "study")
    search_study.main(search_study.Options(seeds="0", search=knobs, output=out))
    outcomes = {outcome["arm"]: outcome for outcome in results_of(tmp_path / "study")["outcomes"]}
    assert set(outcomes) >= {f"without_{knob}" for knob in knobs.knobs} | {"nsga2", "uniform", "random", "macs"}
    for knob, place, usual in (("examples", 0, 1), ("depth", 1, 0), ("step", 2, 1)):
        assert all(others[place] == usual for others in outcomes[f"without_{knob}"]["others"])
        assert any(others[place] != usual for arm in outcomes.values() for others in arm["others"])
    assert all(widths == [16, 32, 32, 64] for widths in outcomes["without_filters"]["widths"])
    printed = capsys.readouterr().out
    assert "NSGA-II without frozen layers" in printed and "| step factor |" in printed
    assert search_study.arms_of(dataclasses.replace(knobs, knobs=("examples", "step")), world.network) == [
        "nsga2",
        "without_step",
    ]


def test_area_over_octaves_is_worked_out_by_hand(world: World) -> None:
    """The full network and a vector of half its cost, both gaining 0.5 over the worst corner: 0.5 of cost, one octave."""

    class Two:
        settings = SearchSettings(final_repeats=2)
        evaluated: tuple[Any, ...] = ()
        front = (DropoutTable.from_widths(world.network, [(5, 32, 32, 64)]).entries[0],)

        def hypervolume(self) -> float:
            return 0.0

    space = SearchSpace(world.network, 0.95)
    cost = space.cost(Configuration((5, 32, 32, 64)))
    judged = search_study.Outcome.judged("nsga2", 0, Two(), space, lambda vectors, repeat: np.full(len(vectors.depths), 0.5))  # type: ignore[arg-type]
    assert judged.area == pytest.approx(0.5 * (1 - cost))
    assert judged.over_octaves == pytest.approx(-0.5 * math.log2(cost))
    assert judged.stderr == (0.0,)


def test_a_finished_part_of_a_study_is_not_run_again(
    formulas: list[Formula], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    searched = search_study.Options(seeds="0,1", search=SEARCH, output=search_study.OutputSettings(out=tmp_path / "search"))
    carried = carry_over.Options(
        table=str(table), seeds="0,1", repeats=2, output=carry_over.OutputSettings(out=tmp_path / "carry")
    )
    for study, options, part in (
        (search_study, searched, "random-seed1.json"),
        (carry_over, carried, "later-seed0.json"),
    ):
        study.main(options)
        first, made = capsys.readouterr().out, len(formulas)
        study.main(options)
        assert len(formulas) == made and capsys.readouterr().out == first
        (options.output.out / part).unlink()
        study.main(options)
        assert len(formulas) == made + 1 and capsys.readouterr().out == first


def test_a_table_is_measured_under_each_condition_beside_one_rate_for_all_layers(
    formulas: list[Formula], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = carry_over.OutputSettings(out=tmp_path / "study")
    carry_over.main(carry_over.Options(table=str(table), seeds="0-2", repeats=2, other_dataset="digits", output=output))
    results = results_of(tmp_path / "study")
    names = ["as_searched", "other_dataset", "later", "own_data"]
    assert [condition["condition"] for condition in results["conditions"]] == names
    printed = capsys.readouterr().out
    for label in ("as searched: digits", "another data set: digits", "after 300 mini-batches", "own data: dirichlet:0.3"):
        assert label in printed
    first = results["conditions"][0]
    assert np.shape(first["progress"]) == (3, 2, 5)  # 3 entries, 3 of one rate, the full network in common
    assert results["entries"] == [0, 1, 2] and results["uniform"] == [3, 4, 2]
    # the formula knows no conditions, so the order is the same in each
    assert results["conditions"][3]["order_of_entries"]["mean"] == pytest.approx(1)
    assert first["difference"]["mean"] == pytest.approx(np.mean(first["area_table"]) - np.mean(first["area_uniform"]))


def test_an_entry_is_dominated_by_what_costs_no_more_and_learns_as_fast(world: World) -> None:
    condition = carry_over.Condition("as_searched", "", WorldSettings(), world, TINY)
    costs = np.array([0.1, 0.5, 0.1, 0.4, 1.0])
    steady, noisy = np.array([0.2, 0.5, 0.1, 0.6, 0.9]), np.array([0.0, 0.0, 0.3, 0.0, 0.0])
    # entries 0 and 1, one rate 2, 3 and 4; seed by seed, 3 is ahead of 1, and 2 of 0 by chance
    progress = np.array([[steady], [steady + noisy], [steady], [steady]])
    measured = carry_over.Measured(condition, [], costs, progress, [0, 1, 4], [2, 3, 4])
    assert measured.dominated() == (1, 1)
    assert carry_over.Measured(condition, [], costs, progress + 2 * noisy, [0, 1, 4], [2, 3, 4]).dominated() == (2, 2)
    swaying = np.array([[steady], [steady + 2 * noisy], [steady - 0.1 * noisy], [steady + 0.6 * noisy]])
    assert carry_over.Measured(condition, [], costs, swaying, [0, 1, 4], [2, 3, 4]).dominated() == (2, 1)


def test_the_proxy_is_held_against_federations_in_which_every_mini_batch_uses_one_vector(
    formulas: list[Formula], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[tuple[int, tuple[int, ...]]] = []

    class Result:
        final = 0.0

    def stand_in(federation: Federation, folder: RunFolder, record: RecordSettings) -> Result:
        """No training: the outcome is what the proxy would measure without its noise, and the seed's own noise."""
        (entry,) = federation.table.entries
        plan, _ = federation.plan(0)
        assert (plan.steps_done == 3).all() and (plan.entries == 0).all() and not plan.deadline_hits.any()
        trained.append((federation.world.seed, entry.widths))
        result = Result()
        result.final = float(Formula(noise=0.001)(Configurations.of([entry.configuration]), 100 + federation.world.seed)[0])
        return result

    monkeypatch.setattr(proxy_study, "recorded_run", stand_in)
    monkeypatch.setattr(jax, "clear_caches", lambda: None)  # nothing was compiled that would fill the memory
    options = proxy_study.Options(
        seeds="0,1",
        world=WorldSettings(devices=4, availability="constant:1"),
        training=TrainingSettings(rounds=1, devices_per_round=2, steps=3, batch_size=4),
        progress=ProgressSettings(devices=8, held_out=500),
        output=proxy_study.OutputSettings(out=tmp_path / "study"),
    )
    with said_on_stderr(quiet=False):
        proxy_study.main(options)
    (printed, said), results = capsys.readouterr(), results_of(tmp_path / "study")
    assert said.count("vectors, measured 4 times each") == 2 and "federation 24 of 24: tilt-1 at" in said
    vectors = [tuple(vector["widths"]) for vector in results["vectors"]]
    assert trained == [(seed, widths) for seed in (0, 1) for widths in vectors] and len(set(vectors)) == 12
    assert {name: np.shape(measured) for name, measured in results["measured"].items()} == {
        "8 devices, averaged": (4, 12),
        "one device, as many mini-batches": (4, 12),
    }
    found = results["statistics"]["8 devices, averaged"]
    assert list(found) == list(proxy_study.STATISTICS) and all(label in printed for label in proxy_study.STATISTICS.values())
    assert found["outcome"]["mean"] > 0.9 and found["pairs_in_order"]["low"] > 0.5
    assert len(formulas) == 2
    proxy_study.main(options)
    assert len(formulas) == 2 and capsys.readouterr().out == printed
    proxy_study.main(dataclasses.replace(options, seeds="0", output=proxy_study.OutputSettings(out=tmp_path / "one seed")))
    of_one = capsys.readouterr().out
    assert "federations of 1 seed;" in of_one and not re.search(r"± \d\.\d+ +\|$", of_one, re.MULTILINE)


def test_a_study_runs_with_the_real_proxy(tmp_path: Path) -> None:
    out = search_study.OutputSettings(out=tmp_path / "study")
    settings = SearchSettings(population=4, generations=1, final_repeats=2)
    search_study.main(search_study.Options(seeds="3", progress=TINY, search=settings, output=out))
    outcomes = results_of(tmp_path / "study")["outcomes"]
    assert [outcome["seed"] for outcome in outcomes] == [3] * 4
    assert all(-1 <= progress <= 1 for outcome in outcomes for progress in outcome["progress"])


def test_a_proxy_of_the_outcome_itself_would_be_found_right() -> None:
    generator = np.random.default_rng(0)
    cost = np.repeat([0.1, 0.2, 0.4, 0.8], 4)
    vectors = [DesignedVector((index,), index // 4, 0.0, cost[index]) for index in range(16)]
    outcome = np.log(cost) + generator.uniform(0, 0.5, 16)
    right = proxy_study.statistics_of(vectors, np.stack([outcome] * 3), np.stack([outcome] * 2))
    assert all(right[name].mean == pytest.approx(1) for name in proxy_study.STATISTICS)
    by_cost = np.stack([cost + generator.normal(0, 1e-3, 16) for _ in range(3)])
    blind = proxy_study.statistics_of(vectors, by_cost, np.stack([outcome] * 2))
    assert blind["outcome"].mean > 0.8
    for name, chance in (("outcome_at_equal_cost", 0.0), ("repeated_at_equal_cost", 0.0), ("pairs_in_order", 0.5)):
        low, high = blind[name].low, blind[name].high
        assert low is not None and high is not None and low < chance < high, name


def test_tables_of_several_shapes_are_trained_with_under_the_same_load(
    monkeypatch: pytest.MonkeyPatch, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No training: what is handed over to a comparison, and how it is reported; wide first layers raise the outcome."""
    met: dict[str, Federation] = {}

    def stand_in(
        federation: Federation, record: RecordSettings, output: object, folder: RunFolder, **_: object
    ) -> MethodResult:
        del record, output, folder
        met[federation.method.name] = federation
        wide_first = np.mean([entry.widths[0] / entry.widths[2] for entry in federation.table.entries])
        axes = dict.fromkeys(("rounds", "macs", "bytes_up", "bytes_down", "round_computing", "round_bytes"), (1.0,))
        axes |= {"times": (60.0,)} | dict.fromkeys(("accuracies", "full_accuracies"), (0.5 + 0.1 * wide_first,))
        counts = dict.fromkeys(("macs_spent", "macs_wasted", "macs_idle", "delivered", "memory_bytes"), 1.0)
        whole = dict.fromkeys(("client_rounds", "deadline_hits", "clients_left_out"), 1)
        tiers = {"accuracy_per_tier": {"weakest third": 0.5}}
        return MethodResult(federation.method.name, federation.world.seed, **axes, **counts, **whole, **tiers)  # type: ignore[arg-type]

    monkeypatch.setattr(comparison, "run_method", stand_in)
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    options = table_shapes.Options(
        shapes="0,1,-0.5",
        tables=str(table),
        seeds="0,1",
        entries=6,
        lowest=0.05,
        world=WorldSettings(devices=20, availability="redrawn:0.1,1,3"),
        output=table_shapes.OutputSettings(out=tmp_path / "study"),
    )
    table_shapes.main(options)
    printed = capsys.readouterr().out
    assert list(met) == ["tilt+0", "tilt+1", "tilt-0.5", "table1"]
    assert met["table1"].table.entries == DropoutTable.load(table).entries
    for name in list(met)[:3]:
        found = met[name].table
        assert len(found.entries) == 6 and np.array(found.costs()) == pytest.approx(np.geomspace(0.05, 1, 6), rel=0.3)
    first, last = np.array([[entry.widths[0] / 16, entry.widths[2] / 32] for entry in met["tilt+1"].table.entries[1:-1]]).T
    assert (first > last).all()
    assert "against tilt+0" in printed and printed.index("`tilt+1`") < printed.index("`tilt-0.5`")
    met.clear()
    more = dataclasses.replace(options, shapes="0,0.5", tables="", seeds="0-2")
    table_shapes.main(more)  # in the same folder
    assert list(met) == ["tilt+0", "tilt+0.5"]


@pytest.mark.parametrize("script", ["search_study", "proxy_study", "carry_over", "table_shapes"])
def test_help_names_the_studys_options(script: str, command: Callable[..., tuple[int, str, str]]) -> None:
    status, printed, _ = command(script, "--help")
    assert status == 0
    of_proxy = () if script == "table_shapes" else ("--progress.devices",)
    for option in ("--seeds", "--dataset", "--model", "--data-dir", "--out", "--learning-rate", *of_proxy):
        assert option in printed


BAD_INPUT = {
    "a seed beside the seeds": ("search_study", "--search.seed 1", "the searches' seeds are --seeds"),
    "no seed": ("search_study", "--seeds one", "give seeds such as 0,1,2 or 0-4"),
    "one shape": ("proxy_study", "--shapes 0", "shapes '0'; give at least 2"),
    "a shape twice": ("proxy_study", "--shapes 0,1,-0", "shape '-0' comes twice; name each shape once"),
    "one cost": ("proxy_study", "--levels 1", "levels is 1; give a whole number of at least 2"),
    "no blocks to shape": ("proxy_study", "--shapes 0,inside", "the network has no filters inside blocks"),
    "a load": ("proxy_study", "--availability redrawn:0.1,1,3", "leave it at constant:1"),
    "one device against one": ("proxy_study", "--progress.devices 1", "give at least 2"),
    "one measurement": ("proxy_study", "--repeats 1", "repeats is 1; give a whole number of at least 2"),
    "costs out of order": ("proxy_study", "--lowest 0.6 --highest 0.2", "costs from 0.6 to 0.2"),
    "no table": ("carry_over", "--model leaf_cnn", "none comes with the package for this network"),
    "a table of every knob": (
        "carry_over",
        "--dataset digits --model digits_cnn --table digits_cnn_every_knob",
        "measures tables of filters alone",
    ),
    "the seed of the search": ("carry_over", "--table {table} --seeds 5-8", "the table was searched with seed 7"),
    "no tilt": ("table_shapes", "--shapes 0,steep", "shape 'steep' is neither inside nor a tilt"),
    "no blocks": ("table_shapes", "--shapes 0,inside", "the network has no filters inside blocks"),
    "one entry": ("table_shapes", "--entries 1", "entries is 1; give a whole number of at least 2"),
    "no such table": ("table_shapes", "--tables nowhere.json", "nowhere.json"),
    "no later": ("carry_over", "--table {table} --later 0", "later is 0; give a whole number of at least 1"),
}


@pytest.mark.parametrize(("script", "options", "said"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_ends_in_one_line_before_anything_is_written(
    script: str, options: str, said: str, command: Callable[..., tuple[int, str, str]], table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    status, printed, error = command(script, *options.format(table=table).split(), "--out", str(out))
    assert (status, printed) == (2, "")
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error, error
    assert not out.exists()


# Their pictures


FRONT = Front([0.1, 1.0], [0.2, 0.9], [0.01, 0.02])
PICTURES: dict[str, Callable[[Path], None]] = {
    "rivals": lambda path: rivals_picture(path, {"a": FRONT, "b": FRONT}, {"a": [1.0, 2.0], "b": [1.5, 1.0]}),
    "proxy": lambda path: proxy_picture(path, {"a": [0.1, 0.2, 0.3]}, [0.5, 0.6, 0.7], [0.05, 0.1, 0.5]),
    "conditions": lambda path: conditions_picture(path, dict.fromkeys("abcd", (FRONT, FRONT))),
}
NO_PICTURES: Sequence[Callable[[Path], None]] = (
    lambda path: rivals_picture(path, {}, {}),
    lambda path: rivals_picture(path, dict.fromkeys("abcdefghij", FRONT), {name: [1.0] for name in "abcdefghij"}),
    lambda path: rivals_picture(path, {"a": FRONT, "b": FRONT}, {"a": [1.0], "b": [1.0, 2.0]}),
    lambda path: proxy_picture(path, {"a": [0.1]}, [0.1, 0.2], [0.1, 0.2]),
    lambda path: conditions_picture(path, {"a": (FRONT, Front([0.1], [0.1, 0.2]))}),
)


def test_a_picture_has_room_for_all_ways_of_a_study_and_leaves_none_out(tmp_path: Path) -> None:
    fronts = {
        name: Front([0.1, 1.0], [0.1 + 0.1 * place, 0.9], [0.01, 0.02])
        for place, name in enumerate(search_study.ARMS.values())
    }
    fewer = dict(list(fronts.items())[:-1])
    for file, ways in (("all.png", fronts), ("fewer.png", fewer | {list(fronts)[-1]: fewer[list(fewer)[-1]]})):
        rivals_picture(tmp_path / file, ways, {name: [1.0, 2.0] for name in ways})
    assert (tmp_path / "all.png").read_bytes() != (tmp_path / "fewer.png").read_bytes()


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_the_same_png_each_time_and_no_wider_than_a_screen(name: str, tmp_path: Path) -> None:
    for file in ("one.png", "two.png"):
        PICTURES[name](tmp_path / file)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    width, height = png_size(tmp_path / "one.png")
    assert 600 <= width <= 2100 and 200 <= height <= 2000


@pytest.mark.parametrize("draw", NO_PICTURES)
def test_lists_that_dont_match_are_refused_and_leave_no_picture(draw: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be drawn"):
        draw(tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())
