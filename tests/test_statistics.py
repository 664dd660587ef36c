import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distreal_jax.errors import InputError
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.report import comparison_table, level, quantity, signed
from distreal_jax.record.statistics import (
    Interval,
    area_under_curve,
    final_accuracy,
    mean_interval,
    median_time,
    paired_bootstrap,
    restricted_times,
    time_to_target,
)
from distreal_jax.record.summary import summarise

ACCURACY = st.floats(0, 1, width=32)
SEVERAL = st.lists(ACCURACY, min_size=2, max_size=8)


@given(SEVERAL)
def test_an_interval_holds_its_mean_and_lies_within_the_values(values: list[float]) -> None:
    interval = mean_interval(values, resamples=200)
    assert interval.low is not None and interval.high is not None
    slack = 1e-12
    assert min(values) - slack <= interval.low <= interval.mean + slack
    assert interval.mean - slack <= interval.high <= max(values) + slack


@given(SEVERAL, st.randoms(use_true_random=False))
def test_an_interval_does_not_depend_on_the_order_of_the_seeds(values: list[float], random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert mean_interval(shuffled, resamples=200) == mean_interval(values, resamples=200)


@given(SEVERAL)
def test_a_difference_that_all_seeds_share_has_no_spread(values: list[float]) -> None:
    better = [value + 0.25 for value in values]
    interval = paired_bootstrap(better, values, seed=3, resamples=200)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))
    assert interval.excludes_zero


def test_pairing_sees_a_small_difference_under_large_spread_between_seeds() -> None:
    generator = np.random.default_rng(0)
    seeds = generator.normal(0.6, 0.1, size=5)
    reference, method = seeds + generator.normal(0, 0.001, 5), seeds + 0.01 + generator.normal(0, 0.001, 5)
    assert paired_bootstrap(method, reference).excludes_zero
    unpaired = mean_interval(method), mean_interval(reference)
    assert unpaired[0].low < unpaired[1].high


def test_an_interval_of_five_seeds_holds_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(500):
        interval = mean_interval(generator.normal(size=5), resamples=2000)
        held += interval.low <= 0 <= interval.high
    assert 0.89 < held / 500 < 0.96


def test_a_single_seed_says_nothing_about_spread() -> None:
    assert mean_interval([0.5]) == Interval(0.5, None, None)
    assert not paired_bootstrap([0.9], [0.1]).excludes_zero


def test_the_callers_random_state_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002  # the state that must not change
    mean_interval([0.1, 0.2, 0.4])
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mean_interval([]), "at least one"),
        (lambda: mean_interval([0.1, math.nan]), "finite"),
        (lambda: mean_interval([0.1, 0.2], level=95), "level"),
        (lambda: paired_bootstrap([0.1, 0.2], [0.1]), "2 and 1"),
        (lambda: time_to_target([0, 1], [0.1], 0.5), "2 and 1"),
        (lambda: time_to_target([1, 0], [0.1, 0.2], 0.5), "sort"),
        (lambda: time_to_target([0, 1], [0.1, 0.2], 0.5, smooth=0), "at least 1"),
        (lambda: area_under_curve([0, 1], [0.1, 0.2], 0), "positive"),
        (lambda: final_accuracy([]), "at least one"),
        (lambda: median_time([]), "at least one"),
        (lambda: summarise([]), "no results"),
    ],
)
def test_bad_input_ends_in_one_line_that_says_what_to_do(call, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_the_time_to_a_target_is_that_of_the_first_evaluation_there() -> None:
    times, accuracies = [0, 10, 20, 30], [0.1, 0.5, 0.4, 0.7]
    assert time_to_target(times, accuracies, 0.5) == 10
    assert time_to_target(times, accuracies, 0.45, smooth=2) == 20  # (0.5 + 0.4) / 2
    assert time_to_target(times, accuracies, 0.55, smooth=2) == 30  # (0.4 + 0.7) / 2
    assert time_to_target(times, accuracies, 0.9) is None


@given(st.lists(ACCURACY, min_size=1, max_size=20), ACCURACY, st.integers(1, 4))
def test_a_higher_target_is_never_reached_earlier(accuracies: list[float], target: float, smooth: int) -> None:
    times = list(range(len(accuracies)))
    low, high = (time_to_target(times, accuracies, value, smooth) for value in (target, target + 0.1))
    assert high is None or (low is not None and low <= high)


def test_a_median_is_censored_when_half_of_the_runs_did_not_arrive() -> None:
    assert median_time([30, None, 10]) == 30
    assert median_time([10, 20, None, None]) is None
    assert median_time([10, 20, 30, None]) == 25
    assert restricted_times([10, None, 80], horizon=50) == [10, 50, 50]


def test_the_area_under_a_curve_is_its_mean_over_time() -> None:
    assert area_under_curve([0, 10], [0.0, 1.0], horizon=10) == pytest.approx(0.5)
    assert area_under_curve([0, 10], [0.0, 1.0], horizon=20) == pytest.approx(0.75)  # constant after the end
    assert area_under_curve([0, 10], [0.0, 1.0], horizon=5) == pytest.approx(0.25)


@given(st.lists(ACCURACY, min_size=1, max_size=12), st.floats(0.5, 30))
def test_an_area_lies_between_the_lowest_and_the_highest_value(values: list[float], horizon: float) -> None:
    area = area_under_curve(list(range(len(values))), values, horizon)
    assert min(values) - 1e-9 <= area <= max(values) + 1e-9


def test_the_final_accuracy_is_the_mean_of_the_last_three_evaluations() -> None:
    assert final_accuracy([0.0, 0.1, 0.5, 0.6, 0.7]) == pytest.approx(0.6)
    assert final_accuracy([0.4]) == pytest.approx(0.4)


def result(method: str = "distreal", seed: int = 0, accuracies: tuple[float, ...] = (0.1, 0.5, 0.7), **more) -> MethodResult:
    times = tuple(10.0 * index for index in range(len(accuracies)))
    fields = dict(
        times=times,
        accuracies=accuracies,
        rounds=tuple(range(len(accuracies))),
        macs=tuple(1e6 * time for time in times),
        macs_spent=6e9,
        macs_wasted=1e9,
        macs_idle=3e9,
        client_rounds=100,
        deadline_hits=25,
        clients_left_out=0,
        bytes_up=3e6,
        bytes_down=4e6,
        accuracy_per_tier={"weak": 0.5, "strong": 0.7},
    )
    return MethodResult(method=method, seed=seed, **(fields | more))


@given(
    st.lists(st.tuples(ACCURACY, ACCURACY), min_size=1, max_size=6),
    st.dictionaries(st.text(max_size=5), ACCURACY, max_size=3),
    st.none() | ACCURACY,
)
@settings(max_examples=30)
def test_a_result_reads_back_as_it_was_written(curve, tiers, submodel) -> None:
    written = result(
        accuracies=tuple(value for value, _ in curve),
        accuracy_per_tier=tiers,
        accuracy_per_class=tuple(value for _, value in curve),
        largest_submodel_accuracy=submodel,
    )
    assert MethodResult.from_json(written.to_json()) == written


def test_a_class_without_test_examples_stays_without_an_accuracy() -> None:
    content = json.loads(json.dumps(result(accuracy_per_class=(0.5, math.nan)).to_json(), allow_nan=False))
    seen, missing = MethodResult.from_json(content).accuracy_per_class
    assert seen == 0.5 and math.isnan(missing)


def test_a_tier_without_an_accuracy_is_null_in_the_file_and_stays_without_one() -> None:
    text = json.dumps(result(accuracy_per_tier={"weak": math.nan, "strong": 0.7}).to_json(), allow_nan=False)
    assert '"accuracy_per_tier": {"weak": null, "strong": 0.7}' in text
    read = MethodResult.from_json(json.loads(text))
    assert list(read.accuracy_per_tier) == ["weak", "strong"]
    assert math.isnan(read.accuracy_per_tier["weak"]) and read.accuracy_per_tier["strong"] == 0.7
    assert read.to_json() == json.loads(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("times", "soon"),
        ("macs_idle", None),
        ("method", 3),
        ("accuracy_per_tier", {"weak": "low"}),
        ("extra", 1),
    ],
)
def test_a_damaged_result_is_refused_by_the_name_of_the_field(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name) as error:
        MethodResult.from_json(result().to_json() | {name: value}, source="results.json")
    assert "results.json" in str(error.value) and "\n" not in str(error.value)


def test_a_result_with_curves_of_different_lengths_is_refused() -> None:
    with pytest.raises(InputError, match="distreal with seed 0"):
        result(accuracies=(0.1, 0.2), times=(0.0,))


def test_summaries_pair_the_seeds_that_both_methods_have() -> None:
    ours = [result(seed=seed, accuracies=(0.1, 0.6 + seed / 10)) for seed in range(3)]
    theirs = [result("partial_work", seed, accuracies=(0.1, 0.5 + seed / 10)) for seed in (2, 1)]
    reference, rival = summarise([*ours, *theirs], target=0.65)
    assert reference.final_difference is None
    assert rival.final_difference is not None
    assert rival.final_difference.mean == pytest.approx(-0.05)  # the last three of two evaluations are both
    assert rival.seeds == (1, 2)
    assert (reference.spent, reference.wasted, reference.idle) == pytest.approx((0.6, 0.1, 0.3))
    assert reference.deadline_hits == pytest.approx(0.25)
    assert reference.accuracy_per_tier == pytest.approx({"weak": 0.5, "strong": 0.7})


def test_runs_that_never_reach_the_target_are_shown_as_longer_than_the_runs() -> None:
    results = [result(seed=seed) for seed in range(3)]
    results += [result("partial_work", seed, accuracies=(0.1, 0.3, 0.6 if seed else 0.2)) for seed in range(3)]
    results += [result("small_network", seed, accuracies=(0.1, 0.1, 0.2)) for seed in range(3)]
    ours, rival, small = summarise(results, target=0.5)
    assert ours.seconds is not None and (ours.seconds.median, ours.seconds.reached) == (10, 3)
    assert rival.seconds is not None and (rival.seconds.median, rival.seconds.reached) == (20, 2)
    assert rival.seconds.difference is not None and rival.seconds.difference.mean == pytest.approx(10)
    assert small.seconds is not None and (small.seconds.median, small.seconds.reached) == (None, 0)
    table = comparison_table(results, target=0.5, columns=["final", "seconds", "macs"])
    assert "> 20 (0 of 3)" in table and "20 (2 of 3)" in table and "> 20 M (0 of 3)" in table


def test_a_method_given_twice_with_a_seed_is_refused() -> None:
    with pytest.raises(InputError, match="distreal with seed 0 is there twice"):
        summarise([result(), result()])


def test_without_distreal_the_first_method_is_what_others_are_compared_with() -> None:
    rivals = [result("partial_work"), result("heterofl", accuracies=(0.1, 0.5, 0.5))]
    assert "against partial_work" in comparison_table(rivals)
    assert "against heterofl" in comparison_table(rivals[::-1])
    assert "against distreal" in comparison_table([*rivals, result()])
    assert "against heterofl" in comparison_table([*rivals, result()], reference="heterofl")


def test_a_table_has_a_row_for_each_method_and_no_target_columns_without_a_target() -> None:
    table = comparison_table([result(), result("partial_work", accuracies=(0.1, 0.5, 0.5))])
    lines = table.splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert "time to" not in table
    assert "`partial_work`" in lines[3] and "-0.067" in lines[3] and "against distreal" in lines[0]
    with pytest.raises(InputError, match="unknown column 'finale'; choose from: final"):
        comparison_table([result()], columns=["finale"])


def test_numbers_are_written_with_their_intervals_and_units() -> None:
    assert level(Interval(0.8341, 0.828, 0.840)) == "0.834 ± 0.006"
    assert level(Interval(0.8341, None, None)) == "0.834"
    assert signed(Interval(0.012, 0.004, 0.02)) == "+0.012 [+0.004, +0.020]"
    assert [quantity(value) for value in (12, 40_800_000, 999_700, 2.5e12)] == ["12 ", "40.8 M", "1 M", "2.5 T"]
