import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distreal_jax.commands.map_tables import Cell, difference_table
from distreal_jax.errors import InputError
from distreal_jax.record.device_model import DeviceModel
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.report import COST, comparison_table, delivered, level, p_value, quantity, signed
from distreal_jax.record.statistics import (
    Interval,
    area_under_curve,
    final_accuracy,
    holm,
    mean_interval,
    median_time,
    paired_difference,
    paired_p_value,
    restricted_times,
    time_to_target,
)
from distreal_jax.record.summary import scores, summarise

ACCURACY = st.floats(0, 1, width=32)
SEVERAL = st.lists(ACCURACY, min_size=4, max_size=8)


@given(SEVERAL)
def test_an_interval_is_around_its_mean_whatever_the_order_of_the_seeds(values: list[float]) -> None:
    interval = mean_interval(values)
    assert interval.low is not None and interval.high is not None
    assert interval.low <= interval.mean <= interval.high
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)
    assert mean_interval(values[::-1]) == interval


@given(SEVERAL)
def test_a_difference_that_all_seeds_share_has_no_spread(values: list[float]) -> None:
    better = [value + 0.25 for value in values]
    interval = paired_difference(better, values)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))
    assert interval.excludes_zero


def test_an_interval_is_student_s() -> None:
    # Mean 3, standard deviation sqrt(2.5), t of 4 degrees of freedom 2.776: 2.776 sqrt(2.5) / sqrt(5).
    interval = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (interval.mean, interval.high) == pytest.approx((3.0, 3 + 2.7764451 * np.sqrt(0.5)))


def test_pairing_sees_a_small_difference_under_large_spread_between_seeds() -> None:
    generator = np.random.default_rng(0)
    seeds = generator.normal(0.6, 0.1, size=5)
    reference, method = seeds + generator.normal(0, 0.001, 5), seeds + 0.01 + generator.normal(0, 0.001, 5)
    assert paired_difference(method, reference).excludes_zero
    assert paired_p_value(method, reference) < 0.01
    unpaired = mean_interval(method), mean_interval(reference)
    assert unpaired[0].low < unpaired[1].high


@pytest.mark.parametrize("seeds", [4, 5, 10])
def test_an_interval_holds_the_true_mean_as_often_as_it_says(seeds: int) -> None:
    samples = np.random.default_rng(1).normal(size=(2000, seeds))
    held = [interval.low <= 0 <= interval.high for interval in map(mean_interval, samples)]
    assert 0.935 < np.mean(held) < 0.965


def test_p_and_interval_agree_on_what_is_chance() -> None:
    generator = np.random.default_rng(2)
    for _ in range(200):
        a, b = generator.normal(0.5, 1, size=6), np.zeros(6)
        assert (paired_p_value(a, b) < 0.05) == paired_difference(a, b).excludes_zero
    assert paired_p_value([0.5] * 4, [0.5] * 4) == 1.0 and paired_p_value([0.6] * 4, [0.5] * 4) == 0.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, None, 0.005]) == pytest.approx([0.03, 0.06, 0.06, None, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


@given(st.lists(st.none() | st.floats(0, 1), max_size=8))
def test_an_adjusted_p_is_no_smaller_and_in_the_same_order(values: list[float | None]) -> None:
    adjusted = holm(values)
    known = sorted((p, q) for p, q in zip(values, adjusted, strict=True) if p is not None and q is not None)
    assert all(p <= q <= 1 for p, q in known) and [q for _, q in known] == sorted(q for _, q in known)
    assert [p is None for p in values] == [q is None for q in adjusted]


@pytest.mark.parametrize("values", [[0.5, 0.7], [0.5, 0.6, 0.7]])
def test_few_seeds_have_points_and_no_interval(values: list[float]) -> None:
    assert mean_interval(values) == Interval(pytest.approx(0.6), None, None, tuple(values))
    assert paired_p_value(values, [0.1] * len(values)) is None
    assert not paired_difference(values, [0.1] * len(values)).excludes_zero


def test_a_single_seed_says_nothing_about_spread() -> None:
    assert mean_interval([0.5]) == Interval(0.5, None, None)
    assert not paired_difference([0.9], [0.1]).excludes_zero


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mean_interval([]), "at least one"),
        (lambda: mean_interval([0.1, math.nan]), "finite"),
        (lambda: mean_interval([0.1, 0.2], level=95), "level"),
        (lambda: paired_difference([0.1, 0.2], [0.1]), "2 and 1"),
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
        full_accuracies=accuracies,
        delivered=1.0,
        rounds=tuple(range(1, 1 + len(accuracies))),
        macs=tuple(1e6 * time for time in times),
        macs_spent=6e9,
        macs_wasted=1e9,
        macs_idle=3e9,
        client_rounds=100,
        deadline_hits=25,
        clients_left_out=0,
        bytes_up=tuple(3e6 * time for time in times),
        bytes_down=tuple(4e6 * time for time in times),
        round_computing=(1.0,) * len(times),
        round_bytes=(1e6,) * len(times),
        memory_bytes=5e6,
        accuracy_per_tier={"weak": 0.5, "strong": 0.7},
    )
    return MethodResult(method=method, seed=seed, **(fields | more))


@given(
    st.lists(st.tuples(ACCURACY, ACCURACY), min_size=1, max_size=6),
    st.dictionaries(st.text(max_size=5), ACCURACY, max_size=3),
    ACCURACY,
)
@settings(max_examples=30)
def test_a_result_reads_back_as_it_was_written(curve, tiers, submodel) -> None:
    written = result(
        accuracies=tuple(value for value, _ in curve),
        accuracy_per_tier=tiers,
        accuracy_per_class=tuple(value for _, value in curve),
        accuracy_on={"test": submodel},
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
    reference, rival = summarise([*ours, *theirs], targets=[0.65])
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
    ours, rival, small = (summary.to_target["seconds"][0] for summary in summarise(results, targets=[0.5]))
    assert (ours.median, ours.reached) == (10, 3) and (rival.median, rival.reached) == (20, 2)
    assert rival.difference is not None and rival.difference.mean == pytest.approx(10)
    assert (small.median, small.reached) == (None, 0)
    table = comparison_table(results, targets=[0.5], columns=["final", "seconds", "macs"])
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
    with pytest.raises(InputError, match="unknown column 'finale'; choose from: delivered, final"):
        comparison_table([result()], columns=["finale"])


def test_numbers_are_written_with_their_intervals_and_units() -> None:
    assert level(Interval(0.8341, 0.828, 0.840)) == "0.834 ± 0.006"
    assert level(Interval(0.8341, None, None)) == "0.834"
    assert level(Interval(0.6, None, None, (0.5, 0.7))) == "0.600 (0.500, 0.700)"
    assert signed(Interval(0.012, 0.004, 0.02)) == "+0.012 [+0.004, +0.020]"
    assert signed(Interval(0.1, None, None, (0.0, 0.2))) == "+0.100 (+0.000, +0.200)"
    assert signed(Interval(-0.0001, -0.0002, 0.0)) == "+0.000 [+0.000, +0.000]", "nothing has no sign of a loss"
    assert level(Interval(-0.0001, None, None, (-0.0004, 0.0002))) == "0.000 (0.000, 0.000)"
    assert (delivered(1.0), delivered(0.0632), p_value(0.0004), p_value(0.04)) == (
        "full network",
        "6.3% of its MACs",
        "< 0.001",
        "0.040",
    )
    assert [quantity(value) for value in (12, 40_800_000, 999_700, 2.5e12)] == ["12 ", "40.8 M", "1 M", "2.5 T"]


def test_energy_and_time_with_links_are_those_of_the_stated_model_by_hand() -> None:
    run = result(macs=(1e9, 2e9, 3e9), round_computing=(0.5, 1.0, 0.25), round_bytes=(1e6, 1e6, 10e6))
    device = DeviceModel(100.0, 2.0, 1.0, megabits_per_second=2.0)
    assert device.joules(run)[1] == pytest.approx(2e9 * 1e-10 + 30e6 * 2e-6 + 40e6 * 1e-6)
    # A round lasts 20 / 3 s; to send 1 MB takes 4 s, 10 MB 40 s.
    assert device.link_seconds(run) == pytest.approx((4.0, 4 + 20 / 3, 4 + 20 / 3 + 40))


def test_a_run_that_reaches_a_target_counts_though_another_of_its_method_ended_earlier() -> None:
    """With links a round ends with its last client, so the runs of a method are not equally long."""
    late = {"accuracies": (0.1, 0.4, 0.5), "round_bytes": (1e6, 1e6, 1e6)}
    quick, slow = result(seed=0, round_computing=(0.1, 0.1, 0.1), **late), result(seed=1, **late)
    (summary,) = summarise([quick, slow], targets=(0.5,))
    (with_links,), (simulated,) = summary.to_target["link_seconds"], summary.to_target["seconds"]
    assert DeviceModel().link_seconds(slow)[-1] > DeviceModel().link_seconds(quick)[-1]
    assert (with_links.reached, simulated.reached) == (2, 2)


def test_a_table_has_a_column_for_each_target_and_says_what_is_delivered() -> None:
    small = result("small_network", accuracies=(0.1, 0.4, 0.5), delivered=0.05, full_accuracies=(0.1, 0.1, 0.1))
    table = comparison_table([result(), small], targets=(0.3, 0.5, 0.7))
    assert [f"time to {target} (s)" in table for target in (0.3, 0.5, 0.7)] == [True] * 3
    assert "5.0% of its MACs" in table and "full network" in table and "0.100" in table
    costs = comparison_table([result(), small], columns=COST, targets=(0.3, 0.5))
    assert "| delivered " in costs and "5 MB" in costs and "time to 0.3 with links (s)" in costs


def test_differences_of_a_table_are_corrected_for_their_number() -> None:
    finals = {"distreal": 0.5, "heterofl": 0.52, "fjord": 0.51, "fedrolex": 0.505}
    noise = np.random.default_rng(0).normal(0, 0.01, (4, 5))
    runs = [
        result(name, seed, accuracies=(0.1, final + noise[row, seed]))
        for row, (name, final) in enumerate(finals.items())
        for seed in range(5)
    ]
    summaries = summarise(runs)
    alone = [summarise([run for run in runs if run.method in ("distreal", name)])[1].final_p for name in list(finals)[1:]]
    assert [summary.final_p for summary in summaries[1:]] == pytest.approx(holm(alone))
    assert summaries[0].final_p is None and any(
        after > before for after, before in zip([s.final_p for s in summaries[1:]], alone, strict=True)
    )


def cells_of(differences: dict[tuple[float, str], float]) -> list[Cell]:
    """Cells by mean availability in which the first method is ahead of each other one by so much, in five seeds."""
    noise, cells = (0.0, 0.01, -0.01, 0.005, -0.005), {}
    for (mean, other), ahead in differences.items():
        runs = cells.setdefault(mean, [result(seed=seed, accuracies=(0.5,) * 3) for seed in range(5)])
        runs += [result(other, seed, (0.5 - ahead + noise[seed],) * 3) for seed in range(5)]
    return [Cell(mean, 1.0, tuple(runs)) for mean, runs in cells.items()]


def test_tables_name_the_score_and_whether_it_is_of_a_validation_split() -> None:
    def heading(**more: object) -> str:
        return comparison_table([result(**more)], columns=("final",)).splitlines()[0]

    assert "| final accuracy " in heading()
    assert "| final validation accuracy " in heading(accuracy_on={"test": 0.5})
    assert "| final \\|error\\| to the {n} " in heading(score_name="|error| to the {n}")


def test_a_map_says_in_how_many_cells_a_method_is_behind_or_ahead_of_all() -> None:
    ahead_of_all = {(0.1, "a"): 0.2, (0.1, "b"): 0.2}
    level_with_one = {(0.3, "a"): 0.2, (0.3, "b"): 0.001}
    behind_one = {(0.6, "a"): 0.2, (0.6, "b"): -0.2}
    text = difference_table(cells_of(ahead_of_all | level_with_one | behind_one), "final")
    assert "distreal minus the others, final accuracy" in text
    assert "Behind one of them (*) in 1 of 3 cells, ahead of all of them (*) in 1." in text
    last = text.split("| 0.6 ")[1].split("\n")[0]
    assert last.count("*") == 2 and "-0.200 [" in last and "+0.200 [" in last
    assert text.split("| 0.3 ")[1].split("\n")[0].count("*") == 1
    average = text.split("| all ")[2].split("\n")[0]
    assert "+0.200 [" in average and "+0.000 [" in average and average.count("*") == 1
    assert "| all " not in difference_table(cells_of(ahead_of_all), "final")


def test_the_average_over_the_cells_of_a_map_is_one_value_for_each_seed() -> None:
    """Three cells of the same seeds are no three times as many seeds."""
    one, *_ = cells_of({(0.1, "a"): 0.005})
    text = difference_table([one, one, one], "final")
    alone = difference_table([one], "final").split("| 0.1 ")[1].split("|")[2].strip()
    assert text.split("| all ")[2].split("|")[1].strip() == alone


def test_the_stars_of_a_map_are_corrected_for_all_of_its_comparisons() -> None:
    alone, *_ = cells_of({(0.1, "a"): 0.0105})
    many = cells_of({(mean, "a"): 0.0105 if mean == 0 else 0.0 for mean in range(10)})
    assert "*" in difference_table([alone], "final").split("|\n")[2]
    assert "ahead of all of them (*) in 0" in difference_table(many, "area")


def test_scores_are_those_of_the_summary() -> None:
    runs = [result(method, seed, (0.1 * seed, 0.5)) for method in ("distreal", "other") for seed in range(4)]
    for summary in summarise(runs):
        final, area = (list(scores(runs, measure)[summary.method].values()) for measure in ("final", "area"))
        assert mean_interval(final) == summary.final and mean_interval(area) == summary.area
    with pytest.raises(InputError, match="choose from: final, area"):
        scores(runs, "speed")
