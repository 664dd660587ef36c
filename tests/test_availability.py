"""Availability: drawn load has the statistics it claims, any round and device can be asked for alone, and traces replay."""

import itertools
import zipfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from distreal_jax.availability import Availability, Segments, make_availability
from distreal_jax.availability.draws import permuted, philox, uniforms
from distreal_jax.errors import InputError

DRAWN = (
    "constant:0.3",
    "constant:0.1,1",
    "tiers:1,0.5,0.25,0.125",
    "redrawn:0.1,1,0.01",
    "redrawn:0.1,1,0.7",
    "redrawn:0.02,0.2,30",
    "markov:0.1,0.4,1,0.05",
    "markov:1,0.6,0.4,0.1,8",
)
REAL_TRACES = Path(__file__).parents[2] / "shared" / "tfds"


def make(spec: str, seed: int = 0, num_devices: int = 1000) -> Availability:
    return make_availability(spec, seed=seed, num_devices=num_devices, data_dir=REAL_TRACES)


def history(segments: Segments, row: int) -> list[tuple[float, float]]:
    """When a device's availability begins to be what, without the padding."""
    times, values = segments.times[row, :-1], segments.values[row]
    return [(time, value) for time, value in zip(times, values, strict=True) if time < 1]


@pytest.fixture
def traces(tmp_path: Path) -> dict[str, str]:
    rows = tmp_path / "load.csv"
    rows.write_text("device,time,availability\na,5,1\na,15,0.5\na,35,0.25\nb,0,0.125\n")
    arrays = tmp_path / "load.npz"
    np.savez(arrays, monday=np.array([[0, 50, 75], [100, 20, 20]], np.uint8), tuesday=np.array([[0.5, 0.0, 1.0, 0.75]]))
    return {"csv": f"trace:{rows}", "npz": f"trace:{arrays}"}


@pytest.fixture(params=[*DRAWN, "csv", "npz"])
def spec(request: pytest.FixtureRequest, traces: dict[str, str]) -> str:
    options = {"csv": ",round_seconds=7", "npz": ",round_seconds=7,period_seconds=3,floor=0.02"}
    return traces[request.param] + options[request.param] if request.param in options else request.param


def test_philox_gives_the_published_known_answers() -> None:
    # Random123 1.14, tests/kat_vectors: philox4x32, 10 rounds
    digits = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    cases = {
        ((0, 0), (0, 0, 0, 0)): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF,) * 4): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ((0xA4093822, 0x299F31D0), digits): (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    }
    for (key, counters), expected in cases.items():
        a, b, c, d = (np.array([word], np.uint64) for word in counters)
        assert tuple(int(word[0]) for word in philox(key, (a, b, c, d))) == expected


def test_uniforms_are_uniform_and_differ_by_seed_role_and_counter() -> None:
    draws = uniforms(0, "a", np.arange(100_000))
    assert draws.min() >= 0 and draws.max() < 1
    assert np.max(np.abs(np.sort(draws) - np.linspace(0, 1, len(draws)))) < 2 / np.sqrt(len(draws))  # Kolmogorov-Smirnov
    others = [
        uniforms(1, "a", np.arange(100_000)),
        uniforms(0, "b", np.arange(100_000)),
        uniforms(0, "a", np.arange(100_000), 1),
    ]
    for other in others:
        assert abs(np.corrcoef(draws, other)[0, 1]) < 5 / np.sqrt(len(draws))


@hypothesis.given(size=strategies.integers(1, 300), seed=strategies.integers(0, 5))
def test_permuted_is_a_permutation(size: int, seed: int) -> None:
    assert sorted(permuted(seed, "test", np.arange(size), size)) == list(range(size))


def test_segments_cover_the_round_and_stay_within_the_minimum_and_one(spec: str) -> None:
    availability = make(spec)
    for round_index in (0, 1, 40):
        segments = availability.during(round_index, np.arange(100))
        assert segments.times.shape == (100, segments.values.shape[1] + 1)
        assert segments.times.dtype == segments.values.dtype == np.float64
        assert np.all(segments.times[:, 0] == 0) and np.all(segments.times[:, -1] == 1)
        assert np.all(np.diff(segments.times) >= 0)
        assert np.all(segments.values >= availability.minimum) and availability.minimum > 0
        assert np.all(segments.values <= 1)


def test_a_round_asked_for_directly_equals_it_asked_for_after_all_before(spec: str) -> None:
    devices, asked = np.arange(30), make(spec)
    for round_index in range(8):
        after = asked.during(round_index, devices)
    direct = make(spec).during(7, devices)
    np.testing.assert_array_equal(after.times, direct.times)
    np.testing.assert_array_equal(after.values, direct.values)


def test_a_device_asked_for_alone_equals_it_among_others(spec: str) -> None:
    availability, devices = make(spec), np.array([11, 3, 500, 7])
    together = availability.during(23, devices)
    for row, device in enumerate(devices):
        assert history(availability.during(23, np.array([device])), 0) == history(together, row)


def test_no_devices_have_no_segments_to_speak_of(spec: str) -> None:
    assert len(make(spec).during(3, np.array([], dtype=np.int64)).values) == 0


def test_availability_goes_on_from_one_round_to_the_next(spec: str) -> None:
    availability, devices = make(spec), np.arange(50)
    rounds = [availability.during(round_index, devices) for round_index in range(60)]
    for row in range(50):
        for before, after in itertools.pairwise(rounds):
            assert history(before, row)[-1][1] == after.values[row, 0]


@pytest.mark.parametrize("spec", DRAWN)
def test_a_population_of_billions_takes_no_memory(spec: str) -> None:
    availability = make(spec, num_devices=2**32)
    assert np.all(availability.during(5, np.array([0, 2**31, 2**32 - 1])).values > 0)


def test_seeds_give_different_load() -> None:
    first, second = (make("redrawn:0.1,1,3", seed=seed).during(0, np.arange(50)).means() for seed in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.7
    assert not np.any(first == second)


def test_constant_gives_everyone_the_same_or_a_value_in_its_range() -> None:
    assert np.all(make("constant:0.3").during(4, np.arange(9)).values == 0.3)
    values = make("constant:0.2,0.6").during(4, np.arange(1000)).values[:, 0]
    assert values.min() >= 0.2 and values.max() <= 0.6
    assert abs(values.mean() - 0.4) < 5 * 0.4 / np.sqrt(12 * 1000)


@hypothesis.given(
    shares=strategies.lists(strategies.integers(1, 9), min_size=1, max_size=6), num_devices=strategies.integers(1, 500)
)
def test_every_tier_has_its_share_of_the_devices(shares: list[int], num_devices: int) -> None:
    levels = [(tier + 1) / 10 for tier in range(len(shares))]
    spec = "tiers:" + ",".join(f"{level}@{share}" for level, share in zip(levels, shares, strict=True))
    values = make(spec, num_devices=num_devices).during(0, np.arange(num_devices)).values[:, 0]
    for level, share in zip(levels, shares, strict=True):
        assert abs(np.sum(values == level) - num_devices * share / sum(shares)) <= 1


def test_tiers_without_shares_are_equally_large_and_dealt_at_random() -> None:
    values = make("tiers:1,0.5", num_devices=40).during(0, np.arange(40)).values[:, 0]
    assert np.sum(values == 1) == np.sum(values == 0.5) == 20
    assert 3 < np.sum(values[:20] == 1) < 17


@pytest.mark.parametrize("rate", [0.01, 0.3, 3.0, 30.0])
def test_redraws_are_a_poisson_process(rate: float) -> None:
    devices, rounds = np.arange(1500), 8
    availability = make(f"redrawn:0.1,1,{rate}", num_devices=1500)
    segments = [availability.during(round_index, devices) for round_index in range(rounds)]
    counts = np.array([np.sum((part.times[:, 1:-1] < 1) & (part.times[:, 1:-1] > 0), axis=1) for part in segments])
    error = 5 * np.sqrt(rate / counts.size)
    assert abs(counts.mean() - rate) < error
    assert abs(counts.var() - rate) < 5 * np.sqrt((rate + 2 * rate**2) / counts.size)
    assert abs(np.corrcoef(counts[:-1].ravel(), counts[1:].ravel())[0, 1]) < 5 / np.sqrt(counts.size)
    times = np.sort(np.concatenate([part.times[:, 1:-1][part.times[:, 1:-1] < 1] for part in segments]))
    assert np.max(np.abs(times - np.linspace(0, 1, len(times)))) < 2 / np.sqrt(len(times))


@pytest.mark.parametrize("rate", [0.02, 0.5, 4.0])
def test_redrawn_values_are_uniform_and_last_a_round_with_probability_exp_of_minus_the_rate(rate: float) -> None:
    devices = np.arange(20_000)
    availability = make(f"redrawn:0.2,1,{rate}", num_devices=20_000)
    for round_index in (0, 75):
        start = availability.during(round_index, devices).values[:, 0]
        assert np.max(np.abs(np.sort(start) - np.linspace(0.2, 1, len(start)))) < 2 * 0.8 / np.sqrt(len(start))
    same = np.mean(start == availability.during(76, devices).values[:, 0])
    assert abs(same - np.exp(-rate)) < 5 * np.sqrt(np.exp(-rate) / len(devices))


@pytest.mark.parametrize("rate", [0.1, 2.0, 12.0])
def test_markov_moves_to_neighbouring_levels_with_the_chains_probabilities(rate: float) -> None:
    levels, devices = [0.1, 0.7, 0.3, 1.0], np.arange(8_000)
    availability = make("markov:" + ",".join(map(str, levels)) + f",{rate}", num_devices=8_000)
    here = np.searchsorted(np.sort(levels), availability.during(60, devices).values)
    here = np.argsort(levels)[here]  # values back to the order of the levels
    assert np.all(np.abs(np.diff(here, axis=1)) <= 1)
    start = here[:, 0]
    end = np.argsort(levels)[np.searchsorted(np.sort(levels), availability.during(61, devices).values[:, 0])]
    moves = np.diag([-1.0, -2.0, -2.0, -1.0]) + np.diag([1.0] * 3, 1) + np.diag([1.0] * 3, -1)
    rates, vectors = np.linalg.eigh(moves * rate / 2)
    probabilities = vectors @ np.diag(np.exp(rates)) @ vectors.T
    for level in range(4):
        assert abs(np.mean(start == level) - 0.25) < 5 * np.sqrt(0.25 / len(devices))
        for other in range(4):
            assert abs(np.mean(end[start == level] == other) - probabilities[level, other]) < 0.056  # 5 sigma of 2,000


def test_a_recorded_value_holds_until_the_next_row_and_the_last_as_long_as_the_one_before(traces: dict[str, str]) -> None:
    # Device a: 1 for 10 s, 0.5 for 20 s, 0.25 for 20 s, again and again; b: 0.125 for ever.
    availability = make(traces["csv"] + ",round_seconds=50")
    segments = availability.during(3, np.arange(2))
    means = segments.means()
    a = int(np.argmax(means))
    assert sorted(means) == [pytest.approx(0.125), pytest.approx(0.5)]  # (10 * 1 + 20 * 0.5 + 20 * 0.25) / 50
    spent = dict.fromkeys((1.0, 0.5, 0.25), 0.0)
    for length, value in zip(np.diff(segments.times[a]), segments.values[a], strict=True):
        spent[value] += length * 50
    assert spent == {1.0: pytest.approx(10), 0.5: pytest.approx(20), 0.25: pytest.approx(20)}
    order = [value for _, value in history(segments, a)]
    assert all(pair in [(1.0, 0.5), (0.5, 0.25), (0.25, 1.0)] for pair in itertools.pairwise(order))


def test_a_round_may_hold_several_replays_of_its_trace(traces: dict[str, str]) -> None:
    means = make(traces["csv"] + ",round_seconds=150").during(2, np.arange(2)).means()
    assert sorted(means) == [pytest.approx(0.125), pytest.approx(0.5)]


def test_utilisation_in_percent_leaves_the_rest_and_nothing_is_below_the_floor(traces: dict[str, str]) -> None:
    availability = make(traces["npz"] + ",round_seconds=9,period_seconds=3,floor=0.05")
    rows = [sorted({value for _, value in history(availability.during(0, np.arange(3)), row)}) for row in range(3)]
    assert availability.minimum == 0.05
    assert [0.25, 0.5, 1.0] in rows  # 0, 50 and 75 percent used
    assert [0.05, 0.8] in rows  # 100 and 20 percent used
    longer = make(traces["npz"] + ",round_seconds=12,period_seconds=3,floor=0.05").during(0, np.arange(3))
    assert [0.05, 0.5, 0.75, 1.0] in [sorted({value for _, value in history(longer, row)}) for row in range(3)]


def test_the_period_in_the_file_is_used_unless_another_is_given(tmp_path: Path) -> None:
    np.savez(tmp_path / "load.npz", load=np.array([[0.2, 0.4]]), period_seconds=10)
    written = make(f"trace:{tmp_path / 'load.npz'},round_seconds=20").during(0, np.arange(5))
    assert np.allclose(written.means(), 0.3)
    given = make(f"trace:{tmp_path / 'load.npz'},round_seconds=20,period_seconds=1000")
    assert np.mean([len(history(given.during(0, np.array([device])), 0)) for device in range(50)]) < 1.5


def test_no_machine_is_replayed_twice_before_all_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "load.npz", load=np.arange(1, 101).reshape(100, 1) / 100, period_seconds=60)
    values = make(f"trace:{tmp_path / 'load.npz'},round_seconds=30").during(0, np.arange(200)).values[:, 0]
    assert len(set(values[:100])) == len(set(values[100:])) == 100


needs_traces = pytest.mark.skipif(
    not (REAL_TRACES / "../data/device_traces").is_dir(), reason="the optional folder device_traces is not here"
)


@needs_traces
def test_planetlab_replays_a_day_of_thousands_of_machines() -> None:
    availability = make("planetlab", num_devices=5000)
    assert availability.minimum == 0.01
    day = np.mean([availability.during(round_index, np.arange(5000)).means().mean() for round_index in range(96)])
    assert 0.85 < day < 0.92  # the mean utilisation in the file is 11 percent
    assert len(history(availability.during(0, np.array([0])), 0)) >= 3
    assert make("planetlab:floor=0.2,round_seconds=300").minimum == 0.2


@needs_traces
def test_phones_are_as_fast_as_their_scores_and_times_say() -> None:
    values = make("phones", num_devices=333).during(9, np.arange(333)).values[:, 0]
    assert len(values) == 333 and values.max() == 1
    assert values.min() == pytest.approx(105 / 4310)
    measured = make("phones_measured", num_devices=30).during(9, np.arange(30)).values[:, 0]
    assert len(set(measured)) == 3 and measured.max() == 1 and measured.min() > 0.8


def test_measured_speeds_are_geometric_means_over_the_batches_that_all_ran(tmp_path: Path) -> None:
    (tmp_path / "device_traces").mkdir()
    (tmp_path / "device_traces" / "phone_train_time.csv").write_text(
        "phone,cpu_config,model,batch,train_ms_per_batch\nA,x,net,1,10\nA,x,net,2,10\nB,x,net,1,20\nB,x,net,2,80\nB,x,net,4,1\n"
    )
    availability = make_availability("phones_measured", seed=0, num_devices=2, data_dir=tmp_path)
    assert sorted(availability.during(0, np.arange(2)).values[:, 0]) == [pytest.approx(0.25), 1.0]  # sqrt(1/2 * 1/8)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "unknown availability"),
        ("uniform:0.1,1", "redrawn:0.1,1,3"),
        ("constant", "write it like constant:0.3"),
        ("constant:0.1,0.2,0.3", "write it like constant:0.3"),
        ("constant:0", "0 in 'constant:0' is outside (0, 1]"),
        ("constant:1.5", "1.5 in"),
        ("constant:-0.1", "-0.1 in"),
        ("constant:nan", "'nan', expected a number"),
        ("constant:fast", "'fast', expected a number"),
        ("constant:0.9,0.1", "swap"),
        ("tiers", "expected a number"),
        ("tiers:1,2", "2 in"),
        ("tiers:1@0.5,0.5", "for every tier or for none"),
        ("tiers:1@0,0.5@1", "for every tier or for none"),
        ("redrawn:0.1,1", "write it like redrawn"),
        ("redrawn:0.1,1,0", "outside [1e-06, 1000] changes a round"),
        ("redrawn:0.1,1,1e9", "outside [1e-06, 1000] changes a round"),
        ("redrawn:1,0.1,3", "swap"),
        ("markov:0.5,3", "write it like markov"),
        ("markov:0.5,1.5,3", "1.5 in"),
        ("trace", "write it like trace:PATH"),
        ("trace:load.csv", "write it like trace:PATH"),
        ("trace:load.csv,round_seconds=0", "round_seconds in"),
        ("trace:load.csv,round_seconds=5,speed=2", "valid are round_seconds"),
        ("trace:load.csv,round_seconds=5,round_seconds=6", "repeated"),
        ("trace:load.csv,round_seconds=5,floor=2", "floor in"),
        ("trace:nowhere.csv,round_seconds=5", "nowhere.csv"),
        ("trace:nowhere.npz,round_seconds=5", "nowhere.npz"),
        ("trace:load.xls,round_seconds=5", ".csv or .npz"),
        ("planetlab", "--data-dir"),
        ("planetlab:9", "valid are round_seconds"),
        ("phones:9", "write it like phones"),
        ("phones_measured", "--data-dir"),
    ],
)
def test_a_spec_that_makes_no_sense_gets_one_clear_line(spec: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        make_availability(spec, seed=0, num_devices=10)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "no column 'device'"),
        ("device,time\na,0\n", "no column 'availability'"),
        ("device,time,availability\n", "no rows"),
        ("device,time,availability\na,0,1\na,5\n", "row 2"),
        ("device,time,availability\na,0,1\na,0,1\n", "sort the rows"),
        ("device,time,availability\na,0,much\n", "'much', expected a number"),
        ("device,time,availability\na,0,nan\n", "'nan', expected a number"),
        ("device,time,availability\na,0,1.2\n", "availability of 1.2, expected 0 to 1"),
        ("device,time,availability\na,0,1\na,1e-9,1\n", "lower round_seconds"),
        ("\x00\xff", "load.csv"),
    ],
)
def test_a_damaged_csv_gets_one_clear_line(tmp_path: Path, rows: str, said: str) -> None:
    (tmp_path / "load.csv").write_bytes(rows.encode("latin-1"))
    with pytest.raises(InputError) as error:
        make(f"trace:{tmp_path / 'load.csv'},round_seconds=5")
    assert said in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(InputError, match="leave it out"):
        make(f"trace:{tmp_path / 'load.csv'},round_seconds=5,period_seconds=5")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"load": np.array([[1.0]])}, "period_seconds=300"),
        ({"load": np.array([[1.0]]), "period_seconds": np.array(-1)}, "expected one positive number"),
        ({"load": np.array([[1.0]]), "period_seconds": np.array([1, 2])}, "expected one positive number"),
        ({"load": np.array([1.0]), "period_seconds": np.array(1)}, "expected numbers [machines, samples]"),
        ({"load": np.zeros((0, 5)), "period_seconds": np.array(1)}, "expected numbers [machines, samples]"),
        ({"load": np.array([["a"]]), "period_seconds": np.array(1)}, "expected numbers [machines, samples]"),
        ({"load": np.array([[101]], np.uint8), "period_seconds": np.array(1)}, "utilisation in whole percent"),
        ({"load": np.array([[np.nan]]), "period_seconds": np.array(1)}, "availability of nan"),
        ({"load": np.array([[{}]]), "period_seconds": np.array(1)}, "can't read"),
        ({"period_seconds": np.array(1)}, "no samples"),
    ],
)
def test_an_npz_of_another_format_gets_one_clear_line(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "load.npz", **arrays)
    with pytest.raises(InputError) as error:
        make(f"trace:{tmp_path / 'load.npz'},round_seconds=5")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_npz_gets_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "load.npz"
    np.savez(path, load=np.full((20, 20), 0.5), period_seconds=1)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        inside = archive.getinfo("load.npy").header_offset + 1000
    for damaged in (whole[:500], b"", b"no archive", whole[:inside] + b"\x00\x01\x02" + whole[inside + 3 :]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="NPZ file"):
            make(f"trace:{path},round_seconds=5")


def test_a_csv_with_a_byte_order_mark_is_read_and_times_out_of_range_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text("device,time,availability\na,0,0.5\na,5,0.25\n", encoding="utf-8-sig")
    assert set(make(f"trace:{path},round_seconds=10").during(0, np.arange(3)).values.ravel()) == {0.5, 0.25}
    path.write_text("device,time,availability\na,-1e308,0.5\na,1e308,0.25\n")
    with pytest.raises(InputError, match="times beyond 1e"):
        make(f"trace:{path},round_seconds=10")


def test_devices_outside_the_population_and_negative_seeds_are_refused() -> None:
    with pytest.raises(InputError, match="expected 0 to 9"):
        make("tiers:1,0.5", num_devices=10).during(0, np.array([10]))
    with pytest.raises(InputError, match="seed -1"):
        make("constant:1", seed=-1)
    with pytest.raises(InputError, match="0 devices"):
        make("constant:1", num_devices=0)
