"""Claims about the search: it finds what one rate for all layers misses, repeats itself bit for bit, and survives a kill."""

import dataclasses
import itertools
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
from deap import creator

from distreal_jax.errors import InputError
from distreal_jax.networks import make_network
from distreal_jax.search import (
    SearchSettings,
    SearchSpace,
    evaluate_rates,
    hypervolume,
    macs_weights,
    random_rates,
    search,
    uniform_rates,
    weighted_rates,
)
from distreal_jax.search.front import area_below
from distreal_jax.table import Configuration, Configurations, DropoutTable
from distreal_jax.tracing import trace_network

SMALL = SearchSettings(population=8, generations=6, seed=3)


@pytest.fixture(scope="module")
def network():
    """Three convolutional groups of 16, 32 and 32 filters, and 64 dense units."""
    return trace_network(
        make_network("digits_cnn", image_shape=(8, 8, 1), num_classes=10, seed=0), np.zeros((1, 8, 8, 1), np.float32)
    )


def value_of_widths(vectors: Configurations, repeat: int) -> np.ndarray:
    """Concave in every width; the first layer is worth most, the last convolution (which costs most) least."""
    del repeat
    return np.log1p(20 * vectors.widths / np.array([16, 32, 32, 64])) @ np.array([5.0, 2.0, 0.5, 1.0])


def noise_of(vectors: Configurations, repeat: int) -> np.ndarray:
    rows = vectors.widths.astype(np.int32)
    return np.array([np.random.default_rng([repeat, zlib.crc32(row.tobytes())]).normal() for row in rows])


def noisy_value(vectors: Configurations, repeat: int) -> np.ndarray:
    """The same, with noise that depends on nothing but vector and repeat."""
    return value_of_widths(vectors, repeat) + 0.3 * noise_of(vectors, repeat)


class Recorder:
    """An evaluation that remembers how it was called."""

    def __init__(self, evaluate=value_of_widths):
        self.evaluate, self.calls = evaluate, []

    def __call__(self, vectors, repeat):
        self.calls.append((vectors.widths.copy(), repeat))
        return self.evaluate(vectors, repeat)


@pytest.mark.parametrize("seed", range(3))
def test_the_search_beats_vectors_that_take_no_search_at_equal_evaluations(network, seed):
    settings = SearchSettings(population=32, generations=12, seed=seed)
    found = search(network, value_of_widths, settings)
    space, count = SearchSpace(network, settings.max_rate), len(found.evaluated)
    assert count == 32 * 12
    assert all(len(generation.front) > 1 for generation in found.history)
    for rates in (
        uniform_rates(space, count),
        random_rates(space, count, seed),
        weighted_rates(space, count, macs_weights(space)),
        weighted_rates(space, count, [0, 1, 1]),
    ):
        rival = evaluate_rates(network, value_of_widths, settings, rates)
        assert len(rival.evaluated) <= count
        assert found.hypervolume() > rival.hypervolume()
        assert found.history[-1].hypervolume > rival.history[-1].hypervolume


def test_noise_several_times_the_differences_between_shapes_does_not_lead_the_search_below_one_rate(network):
    """A search that went by each vector's own measurement found 0.91 to 1.04 times one rate's area (five seeds)."""
    settings = SearchSettings(population=16, generations=12)
    space = SearchSpace(network, settings.max_rate)

    def noisy(vectors, repeat):
        return value_of_widths(vectors, repeat) + 4 * noise_of(vectors, repeat)

    def area(vectors):
        progress = value_of_widths(Configurations.of(vectors), 0)
        return area_below(np.log([space.cost(vector) for vector in vectors]), progress, (0.0, 5.0))

    uniform = sorted({space.configuration(rates) for rates in space.uniform_seeds(100)}, key=space.cost)
    for seed in range(3):
        found = search(network, noisy, dataclasses.replace(settings, seed=seed))
        assert area([entry.configuration for entry in found.front]) > 1.08 * area(uniform)


def test_the_same_seed_finds_the_same_and_another_seed_something_else(network):
    found = search(network, noisy_value, SMALL)
    assert search(network, noisy_value, SMALL) == found
    assert search(network, noisy_value, dataclasses.replace(SMALL, seed=4)).evaluated != found.evaluated


def test_callers_do_not_notice_that_deap_draws_from_global_random_numbers(network):
    random.setstate(random.Random(12345).getstate())
    before, numpy_before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    created = set(vars(creator))

    def evaluate(vectors, repeat):
        assert random.getstate() == before
        return value_of_widths(vectors, repeat)

    def watch(generation):
        assert random.getstate() == before

    found = search(network, evaluate, SMALL, on_generation=watch)
    assert random.getstate() == before and np.random.get_state()[1].tolist() == numpy_before  # noqa: NPY002
    assert set(vars(creator)) == created
    random.setstate(random.Random(54321).getstate())
    assert search(network, value_of_widths, SMALL) == found


def test_random_numbers_are_given_back_when_the_search_fails(network, monkeypatch):
    before = random.getstate()

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("deap.tools.mutPolynomialBounded", fail)
    with pytest.raises(KeyboardInterrupt):
        search(network, value_of_widths, SMALL)
    assert random.getstate() == before


def test_no_widths_are_evaluated_twice_and_every_batch_is_full(network):
    recorder = Recorder()
    settings = dataclasses.replace(SMALL, repeats=2, final_repeats=3)
    found = search(network, recorder, settings)
    batches = [{tuple(row) for row in widths.tolist()} for widths, _ in recorder.calls]
    assert all(widths.shape == (8, 4) for widths, _ in recorder.calls)
    searched = batches[: 6 * 2]
    assert all(first == second for first, second in zip(searched[::2], searched[1::2], strict=True))
    assert set.union(*searched) == {entry.widths for entry in found.evaluated}
    assert len(found.evaluated) == 8 * 6 and [generation.evaluated for generation in found.history] == [
        8,
        16,
        24,
        32,
        40,
        48,
    ]


def test_every_generation_draws_anew_and_what_enters_the_table_is_measured_by_draws_of_its_own(network):
    recorder = Recorder()
    search(network, recorder, dataclasses.replace(SMALL, repeats=2, final_repeats=3))
    assert [repeat for _, repeat in recorder.calls] == list(range(6 * 2 + 3))


def test_a_space_smaller_than_the_population_is_searched_without_repeating_itself(network):
    recorder = Recorder()
    found = search(network, recorder, dataclasses.replace(SMALL, max_rate=0.15, generations=20), searched_groups=[0])
    assert {entry.widths for entry in found.evaluated} == {(width, 32, 32, 64) for width in (14, 15, 16)}
    assert found.front[-1].widths == (16, 32, 32, 64) and len(found.history) == 20


def test_dense_groups_are_kept_whole_unless_they_are_searched(network):
    assert {entry.widths[3] for entry in search(network, value_of_widths, SMALL).evaluated} == {64}
    dense = search(network, value_of_widths, SMALL, searched_groups=[3])
    assert {entry.widths[:3] for entry in dense.evaluated} == {(16, 32, 32)}


def test_the_first_generation_holds_uniform_vectors_from_the_full_network_to_the_highest_rate(network):
    first = Recorder()
    search(network, first, dataclasses.replace(SMALL, population=16, generations=1))
    rows = {tuple(row) for row in first.calls[0][0].tolist()}
    assert len(rows) == 16
    assert {(16, 32, 32, 64), (11, 22, 22, 64), (6, 12, 12, 64), (1, 2, 2, 64)} <= rows


def test_the_table_reaches_from_the_cheapest_uniform_vector_to_the_full_network(network, tmp_path):
    found = search(network, noisy_value, SMALL)
    table = found.to_table(network, {"command": "search.py --seed 3"})
    assert table.entries[-1].widths == network.full_widths and table.entries[0].macs <= network.training_macs((1, 2, 2, 64))
    assert table.checked_for(network).entries == found.front
    assert table.provenance["search"]["settings"] == {
        **dataclasses.asdict(SMALL),
        "knobs": ["filters"],
        "memory_shares": [],
    }
    table.save(tmp_path / "table.json")
    assert DropoutTable.load(tmp_path / "table.json") == table
    short = found.to_table(network, {}, most_entries=4)
    assert len(short.entries) == 4
    assert (short.entries[0], short.entries[-1]) == (table.entries[0], table.entries[-1])
    with pytest.raises(InputError, match="allow at least 2"):
        found.to_table(network, {}, most_entries=1)
    with pytest.raises(InputError, match="another network"):
        found.to_table(dataclasses.replace(network, cost=dataclasses.replace(network.cost, batch_size=2)), {})


def test_entries_are_nearer_to_the_truth_than_their_own_measurements_and_know_how_near(network):
    noise, repeats = 0.3, 4
    found = search(network, noisy_value, dataclasses.replace(SMALL, population=32, final_repeats=repeats))
    vectors = Configurations.of([entry.configuration for entry in found.candidates])
    errors = [entry.progress for entry in found.candidates] - value_of_widths(vectors, 0)
    stderr = np.array([entry.progress_stderr for entry in found.candidates])
    assert np.sqrt(np.mean(errors**2)) < 0.7 * noise / np.sqrt(repeats)
    assert 0.6 < np.sqrt(np.mean((errors / stderr) ** 2)) < 1.4


def test_vectors_that_were_not_searched_may_enter_the_table_and_take_no_part_in_the_search(network):
    given = [(13, 26, 26, 64), (5, 9, 9, 64)]
    also = [Configuration(widths) for widths in given]
    alone, found = search(network, noisy_value, SMALL), search(network, noisy_value, SMALL, also=also)
    assert found.evaluated == alone.evaluated and found.history == alone.history
    estimated = {entry.widths: entry.progress for entry in found.candidates}
    for widths in given:
        value = estimated[widths]
        cheaper = [entry for entry in found.front if entry.macs <= network.training_macs(widths)]
        assert max(entry.progress for entry in cheaper) >= value - 1e-9


def test_the_history_is_the_hypervolume_of_what_was_known_of_all_that_was_evaluated_until_then(network):
    found = search(network, noisy_value, SMALL)
    for generation in found.history:
        costs = [entry.macs / network.training_macs() for entry in generation.front]
        progress = [entry.progress for entry in generation.front]
        assert generation.hypervolume == pytest.approx(hypervolume(costs, progress), rel=1e-9)
        until_then = {entry.widths for entry in found.evaluated[: generation.evaluated]}
        assert {entry.widths for entry in generation.front} <= until_then
    assert found.history[-1].hypervolume > found.history[0].hypervolume


def value_of_knobs(vectors: Configurations, repeat: int) -> np.ndarray:
    """Filters, examples and trained layers are each worth something, and the best step is twice the optimiser's."""
    far = np.abs(np.log2(vectors.step_factors) - 1)
    return value_of_widths(vectors, repeat) + np.log(vectors.batch_shares) - 0.1 * vectors.depths - 0.2 * far


EVERY_KNOB = dataclasses.replace(SMALL, population=16, knobs=("filters", "examples", "depth", "step"))


def test_a_search_over_all_knobs_finds_the_best_step_and_mixes_the_others(network, tmp_path):
    settings = dataclasses.replace(EVERY_KNOB, population=32, generations=12)
    found = search(network, value_of_knobs, settings, batch_size=8)
    last = found.front[-1]
    assert (last.widths, last.batch_share, last.depth) == (network.full_widths, 1, 0)
    chosen = [entry.configuration for entry in found.front]
    assert sum(1 <= vector.step_factor <= 4 for vector in chosen) > 0.7 * len(chosen)
    assert {vector.batch_share for vector in chosen} <= {1, 1 / 2, 1 / 4, 1 / 8} and any(v.batch_share < 1 for v in chosen)
    assert any(vector.depth for vector in chosen) and any(vector.widths != network.full_widths for vector in chosen)
    alone = search(network, value_of_knobs, dataclasses.replace(settings, knobs=("filters",)))
    assert found.hypervolume() > alone.hypervolume()
    table = found.to_table(network, {})
    table.save(tmp_path / "table.json")
    assert DropoutTable.load(tmp_path / "table.json") == table and table.checked_for(network) is table


@pytest.mark.parametrize("knobs", [("examples",), ("depth", "step"), ("examples", "depth")])
def test_what_is_no_knob_stays_as_it_is(network, knobs):
    settings = dataclasses.replace(EVERY_KNOB, knobs=knobs, generations=3)
    found = search(network, value_of_knobs, settings, batch_size=8)
    for name, usual in (("widths", network.full_widths), ("batch_share", 1), ("depth", 0), ("step_factor", 1)):
        knob = {"widths": "filters", "batch_share": "examples", "step_factor": "step"}.get(name, name)
        assert any(getattr(entry, name) != usual for entry in found.evaluated) == (knob in knobs), name


def test_a_search_over_all_knobs_goes_on_bit_by_bit(network, tmp_path):
    run_until(2, tmp_path / "search.json", network, EVERY_KNOB, batch_size=8)
    with pytest.raises(InputError, match="of another search: its knobs"):
        search(
            network, noisy_value, dataclasses.replace(EVERY_KNOB, knobs=("filters",)), checkpoint=tmp_path / "search.json"
        )
    with pytest.raises(InputError, match="of another search: its size_of_mini_batches is 8, this one's is 12"):
        search(network, noisy_value, EVERY_KNOB, checkpoint=tmp_path / "search.json", batch_size=12)
    resumed = search(network, noisy_value, EVERY_KNOB, checkpoint=tmp_path / "search.json", batch_size=8)
    assert resumed == search(network, noisy_value, EVERY_KNOB, batch_size=8)


def filters_kept(vector: Configuration) -> float:
    """Bytes, say, of a device that holds nothing but filters, for a mini-batch's part."""
    return 1000 * sum(vector.widths) * vector.batch_share


def test_what_a_device_can_t_hold_is_neither_measured_nor_in_the_table(network):
    recorder = Recorder()
    found = search(network, recorder, dataclasses.replace(SMALL, memory_limit=120_000.0), memory=filters_kept)
    assert all(widths.sum(axis=1).max() <= 120 for widths, _ in recorder.calls)
    assert len(found.evaluated) == 48 and sum(found.front[-1].widths) <= 120
    with pytest.raises(InputError, match=r"none of 64 vectors can be trained in 1,000 bytes of memory; allow more"):
        search(network, recorder, dataclasses.replace(SMALL, memory_limit=1000.0), memory=filters_kept)
    with pytest.raises(InputError, match="a limit of 1,000 bytes, and what a configuration needs is not known"):
        search(network, recorder, dataclasses.replace(SMALL, memory_limit=1000.0))


def test_with_memory_as_an_objective_a_search_leaves_a_table_for_each_share_of_it(network):
    settings = dataclasses.replace(EVERY_KNOB, population=32, generations=12, memory_shares=(0.25, 0.5))
    found = search(network, value_of_knobs, settings, batch_size=8, memory=filters_kept)
    limits = [share * filters_kept(Configuration(network.full_widths)) for share in settings.memory_shares]
    within = [[entry for entry in found.candidates if filters_kept(entry.configuration) <= limit] for limit in limits]
    for front, fitting, limit in zip(found.memory_fronts, within, limits, strict=True):
        assert all(filters_kept(entry.configuration) <= limit for entry in front)
        dominated = found.hypervolume(front)
        assert dominated == pytest.approx(found.hypervolume(fitting)) and dominated < found.hypervolume()
    quarter = found.to_table(network, {}, memory_share=0.25)
    assert quarter.entries == found.memory_fronts[0] and quarter.provenance["search"]["memory_share"] == 0.25
    # A search that did not look for little memory has less to offer to a device of a quarter.
    blind = search(network, value_of_knobs, dataclasses.replace(settings, memory_shares=()), batch_size=8)
    offered = [entry for entry in blind.candidates if filters_kept(entry.configuration) <= limits[0]]
    assert found.hypervolume(found.memory_fronts[0]) > blind.hypervolume(offered)
    for wrong, message in (
        ((0.001,), "nothing can be trained: the leanest vector needs 0.0"),
        ((0.5, 0.5), "give different"),
    ):
        with pytest.raises(InputError, match=message):
            changed = dataclasses.replace(settings, memory_shares=wrong)
            search(network, value_of_knobs, changed, batch_size=8, memory=filters_kept)


def test_memory_that_bounds_nothing_is_not_counted(network):
    """Counting it traces a training step, which takes as long as a short training does."""

    def never(vector):
        raise AssertionError("nothing asks for it")

    assert search(network, value_of_widths, SMALL, memory=never) == search(network, value_of_widths, SMALL)


class Clock:
    """A device on which the last convolution takes all the time, and a step of the full network two seconds."""

    device, full_seconds = "bench", 2.0

    def __init__(self) -> None:
        self.timed: list[Configuration] = []

    def __call__(self, vectors):
        self.timed += vectors
        return np.array([0.1 + 0.9 * vector.widths[2] / 32 * vector.batch_share for vector in vectors])


def test_a_search_by_seconds_takes_what_is_dear_in_them_and_times_each_vector_once(network, tmp_path):
    clock, path = Clock(), tmp_path / "search.json"
    by_macs, found = (search(network, value_of_widths, SMALL, seconds=seconds) for seconds in (None, clock))
    assert len(clock.timed) == len(set(clock.timed)) and found.unit == "seconds:bench"
    table = found.to_table(network, {})
    assert table.unit == "seconds:bench" and table.full_seconds == {"bench": 2.0}
    for entry, cost in zip(table.entries, table.costs("seconds:bench"), strict=True):
        assert cost == pytest.approx(0.1 + 0.9 * entry.widths[2] / 32)
    # In seconds the first two layers cost nothing, so more of them is kept.
    by_seconds, by_count = (np.mean([entry.widths[:2] for entry in each.front]) for each in (found, by_macs))
    assert by_seconds > 1.2 * by_count
    table.save(path)
    assert DropoutTable.load(path) == table and table.checked_for(network) is table


def test_a_search_by_seconds_goes_on_with_the_seconds_that_it_had(network, tmp_path):
    run_until(2, tmp_path / "search.json", network, EVERY_KNOB, batch_size=8, seconds=Clock())
    clock = Clock()
    resumed = search(network, noisy_value, EVERY_KNOB, checkpoint=tmp_path / "search.json", batch_size=8, seconds=clock)
    assert resumed == search(network, noisy_value, EVERY_KNOB, batch_size=8, seconds=Clock())
    before = {dataclasses.replace(entry.configuration, step_factor=1.0) for entry in resumed.evaluated[: 3 * 16]}
    assert not before & set(clock.timed)
    with pytest.raises(InputError, match="of another search: its unit is 'seconds:bench', this one's is 'macs'"):
        search(network, noisy_value, EVERY_KNOB, checkpoint=tmp_path / "search.json", batch_size=8)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (("widths",), "unknown knob 'widths'|each one of: filters"),
        ((), "needs a knob"),
        (("step",), "needs a knob that changes"),
    ],
)
def test_a_search_without_a_knob_that_changes_the_cost_is_refused(knobs, message):
    with pytest.raises(InputError, match=message):
        SearchSettings(knobs=knobs)


class KilledError(Exception):
    """The machine goes down."""


def run_until(generation: int, checkpoint: Path, network, settings=SMALL, **options) -> None:
    """A search that is killed after that generation."""

    def kill(report):
        if report.index == generation:
            raise KilledError

    with pytest.raises(KilledError):
        search(network, noisy_value, settings, checkpoint=checkpoint, on_generation=kill, **options)


@pytest.mark.parametrize("generation", [0, 1, 3, 5])
def test_resume_is_bitwise(network, tmp_path, generation):
    checkpoint = tmp_path / "new" / "search.json"
    run_until(generation, checkpoint, network)
    reports = []
    resumed = search(network, noisy_value, SMALL, checkpoint=checkpoint, on_generation=reports.append)
    assert resumed == search(network, noisy_value, SMALL)
    assert tuple(reports) == resumed.history[generation + 1 :]


@pytest.mark.parametrize("calls", [0, 1, 4, 7])
def test_resume_is_bitwise_after_a_kill_in_the_middle_of_an_evaluation(network, tmp_path, calls):
    left = itertools.count(calls, -1)

    def evaluate(vectors, repeat):
        if not next(left):
            raise KilledError
        return noisy_value(vectors, repeat)

    with pytest.raises(KilledError):
        search(network, evaluate, SMALL, checkpoint=tmp_path / "search.json")
    assert search(network, noisy_value, SMALL, checkpoint=tmp_path / "search.json") == search(network, noisy_value, SMALL)


@pytest.mark.parametrize("remaining", [0, 10, 500, -3])
def test_a_truncated_checkpoint_falls_back_to_the_one_before_and_says_so_in_one_line(network, tmp_path, capsys, remaining):
    checkpoint = tmp_path / "search.json"
    run_until(3, checkpoint, network)
    checkpoint.write_bytes(checkpoint.read_bytes()[:remaining])
    reports = []
    resumed = search(network, noisy_value, SMALL, checkpoint=checkpoint, on_generation=reports.append)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{checkpoint} is damaged") and line.endswith("going on from the checkpoint before it")
    assert resumed == search(network, noisy_value, SMALL) and reports[0].index == 3
    assert len(list(tmp_path.iterdir())) == 2  # the last checkpoint and the one before it


def test_a_kill_between_the_two_renames_of_a_checkpoint_loses_one_generation_at_most(network, tmp_path):
    checkpoint = tmp_path / "search.json"
    run_until(3, checkpoint, network)
    checkpoint.unlink()
    assert search(network, noisy_value, SMALL, checkpoint=checkpoint) == search(network, noisy_value, SMALL)


def test_a_search_with_nothing_left_but_damaged_checkpoints_says_so(network, tmp_path):
    checkpoint = tmp_path / "search.json"
    run_until(0, checkpoint, network)
    checkpoint.write_text(checkpoint.read_text().replace('"counts": [8]', '"counts": [9]'))
    with pytest.raises(InputError, match=r"changed after it was written.*delete it to start the search anew"):
        search(network, noisy_value, SMALL, checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"population": 12}, {}, "its population is 8, this one's is 12"),
        ({"seed": 4}, {}, "its seed is 3, this one's is 4"),
        ({}, {"searched_groups": [0]}, "its searched_groups is .0, 1, 2., this one's is .0."),
        ({}, {"measures": "cifar10"}, "its measures is '', this one's is 'cifar10'"),
    ],
)
def test_a_checkpoint_of_another_search_is_refused_and_left_alone(network, tmp_path, changes, options, message):
    checkpoint = tmp_path / "search.json"
    run_until(2, checkpoint, network)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            search(network, noisy_value, dataclasses.replace(SMALL, **changes), checkpoint=checkpoint, **options)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        checkpoint.unlink(missing_ok=True)  # now only the one before it is left
        before.pop(checkpoint, None)


def test_a_file_that_is_no_checkpoint_is_refused_and_left_alone(network, tmp_path):
    path = tmp_path / "table.json"
    DropoutTable.full(network).save(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="expected a 'distreal_jax search checkpoint'"):
        search(network, noisy_value, SMALL, checkpoint=path)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="can't write"):
        search(network, noisy_value, SMALL, checkpoint=path / "search.json")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 10}, "population is 10, expected a multiple of 4"),
        ({"population": 0}, "population is 0"),
        ({"generations": 0}, "generations is 0"),
        ({"max_rate": 1.0}, "max_rate is 1, expected a finite number above 0 and below 1"),
        ({"max_rate": float("nan")}, "max_rate is nan"),
        ({"crossover_eta": -1.0}, "crossover_eta is -1,"),
        ({"mutation_eta": float("inf")}, "mutation_eta is inf"),
        ({"crossover_probability": 1.5}, "crossover_probability is 1.5"),
        ({"repeats": 0}, "repeats is 0"),
        ({"final_repeats": 1}, "final_repeats is 1, expected a whole number of at least 2"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_can_not_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SearchSettings(**settings)


@pytest.mark.parametrize("groups", [[], [0, 0], [4], [-1]])
def test_groups_that_are_not_there_are_refused(network, groups):
    with pytest.raises(InputError, match=r"searched_groups|no convolutional"):
        search(network, value_of_widths, SMALL, searched_groups=groups)


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        (lambda vectors, repeat: np.full(len(vectors.depths), np.nan), "progress of Configuration.* is nan; lower"),
        (lambda vectors, repeat: np.zeros((len(vectors.depths), 1)), r"shape \(8, 1\), expected \(8,\)"),
    ],
)
def test_progress_that_is_no_number_per_vector_is_refused(network, evaluate, message):
    with pytest.raises(InputError, match=message):
        search(network, evaluate, SMALL)


def test_weighted_rates_grow_in_proportion_until_they_reach_the_highest(network):
    space = SearchSpace(network, 0.8)
    rates = weighted_rates(space, 7, [1, 2, 0])
    # sums of 0 to 1.6 in sixths: in proportion 1:2 up to (0.4, 0.8), then the first alone
    first = [0, 4 / 45, 8 / 45, 12 / 45, 16 / 45, 24 / 45, 36 / 45]
    second = [0, 8 / 45, 16 / 45, 24 / 45, 32 / 45, 0.8, 0.8]
    assert rates == pytest.approx(np.array([first, second, [0] * 7]).T)
    assert np.diff(rates.sum(axis=1)) == pytest.approx(np.full(6, 1.6 / 6))


@pytest.mark.parametrize("weights", [[1, 1], [0, 0, 0], [1, -1, 1], [1, np.nan, 1]])
def test_weights_that_can_not_be_are_refused(network, weights):
    with pytest.raises(InputError, match="expected 3 of at least 0"):
        weighted_rates(SearchSpace(network, 0.8), 5, weights)


def test_the_layer_with_most_macs_weighs_most(network):
    full = network.training_macs()
    saved = [full - network.training_macs(widths) for widths in ((1, 32, 32, 64), (16, 1, 32, 64), (16, 32, 1, 64))]
    assert macs_weights(SearchSpace(network, 0.8)).tolist() == saved


def test_random_rates_are_named_by_their_seed(network):
    space = SearchSpace(network, 0.8)
    assert random_rates(space, 5, 1).tolist() == random_rates(space, 5, 1).tolist() != random_rates(space, 5, 2).tolist()
    assert random_rates(space, 3, 1).tolist() == random_rates(space, 5, 1)[:3].tolist()


def test_uniform_rates_are_evaluated_once_for_each_of_their_widths(network):
    space, recorder = SearchSpace(network, SMALL.max_rate), Recorder()
    rival = evaluate_rates(network, recorder, SMALL, uniform_rates(space, 500))
    assert len(rival.evaluated) == len({space.widths(rates) for rates in uniform_rates(space, 500)}) < 100
    assert rival.history[-1].evaluated == len(rival.evaluated)
    assert rival.front == tuple(sorted(rival.front, key=lambda entry: entry.macs))
    with pytest.raises(InputError, match="no vector to evaluate"):
        evaluate_rates(network, recorder, SMALL, np.zeros((0, 3)))
