"""Whatever a person types or a disk hands back ends in a run or in one clear line, never in an error of something else."""

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from distreal_jax.availability import make_availability
from distreal_jax.data import synthetic_dataset
from distreal_jax.errors import InputError
from distreal_jax.experiment import parsed_list, parsed_seeds
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import WorldSettings, partition_of
from distreal_jax.methods import CHOICES, METHODS, methods_named
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.metrics import read_metrics
from distreal_jax.record.recorded_run import RecordSettings
from distreal_jax.record.run_folder import RunFolder, read_config
from distreal_jax.search import SearchSettings
from distreal_jax.search.progress import ProgressSettings

AWKWARD_NUMBERS = [
    "0",
    "1",
    "-1",
    "0.5",
    "1e-9",
    "1e400",
    "nan",
    "inf",
    "-0",
    "1_0",
    "٣",
    "²",
    "0x1",
    "",
    " ",
    "1e3",
    "9" * 5000,
]
NUMBERS = st.sampled_from(AWKWARD_NUMBERS) | st.floats().map(str) | st.integers().map(str)
ANY_TEXT = st.text(max_size=12)
AVAILABILITY_KINDS = ["constant", "tiers", "redrawn", "markov", "trace", "planetlab", "phones", "phones_measured"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda items: st.lists(items, max_size=3) | st.dictionaries(ANY_TEXT, items, max_size=3),
    max_leaves=6,
)
IN_ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextlib.contextmanager
def fine_or_one_line() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        assert str(error), "says something"
        assert len(str(error).splitlines()) == 1, "in one line"


def joined(parts: st.SearchStrategy[str], separators: str) -> st.SearchStrategy[str]:
    """Parts with a separator after each but the last, as a person who mistypes would write them."""
    pairs = st.tuples(parts, st.sampled_from([*separators, ""]))
    return st.lists(pairs, max_size=5).map(lambda chosen: "".join(part + separator for part, separator in chosen))


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """What a bad disk, a full one or a careless editor makes of it."""
    place = data.draw(st.integers(0, len(content)))
    rest = content[place:]
    kind = data.draw(st.sampled_from(["cut", "flipped", "zeroed", "inserted", "doubled", "removed", "line ends"]))
    if kind == "cut":
        return content[:place]
    if kind == "flipped":
        return content[:place] + bytes([rest[0] ^ 1 << data.draw(st.integers(0, 7))]) + rest[1:] if rest else content
    if kind == "zeroed":
        return content[:place] + bytes(len(rest))
    if kind == "inserted":
        return content[:place] + data.draw(st.binary(max_size=8)) + rest
    if kind == "doubled":
        return content[:place] + content
    if kind == "removed":
        return content[:place] + rest[data.draw(st.integers(0, len(rest))) :]
    return content.replace(b"\n", b"\r\n")


TIERS = st.tuples(NUMBERS, NUMBERS).map("@".join)
OPTIONS = st.tuples(st.sampled_from(["round_seconds", "period_seconds", "floor", ""]), NUMBERS).map("=".join)
SPECIFICATIONS = st.tuples(
    st.sampled_from(AVAILABILITY_KINDS),
    joined(NUMBERS | TIERS | OPTIONS | ANY_TEXT | st.sampled_from(["/", "\0", "."]), ","),
).map(":".join)


@given(
    text=SPECIFICATIONS | ANY_TEXT | st.sampled_from(AVAILABILITY_KINDS),
    seed=st.integers(-1, 2**70),
    devices=st.integers(-1, 9),
)
@settings(max_examples=400)
def test_any_text_is_an_availability_or_is_refused(text: str, seed: int, devices: int) -> None:
    with fine_or_one_line():
        load = make_availability(text, seed=seed, num_devices=devices, data_dir="nowhere")
        segments = load.during(3, np.arange(devices))
        assert np.all((segments.values > 0) & (segments.values <= 1))
        assert 0 < load.minimum <= segments.values.min()


DATA = synthetic_dataset(num_examples=60, image_shape=(8, 8, 1), num_classes=4, seed=0)


@given(
    text=st.tuples(st.sampled_from(["iid", "dirichlet", "natural", ""]), NUMBERS | ANY_TEXT).map(":".join)
    | st.sampled_from(["iid", "dirichlet", "natural"])
    | ANY_TEXT,
    seed=st.integers(0, 2**40),
    devices=st.integers(-2, 70),
)
@settings(max_examples=300)
def test_any_text_is_a_partition_or_is_refused(text: str, seed: int, devices: int) -> None:
    with fine_or_one_line():
        partition = partition_of(WorldSettings(partition=text, devices=devices), DATA, seed)
        assert partition.sizes.min() >= 1


@given(joined(NUMBERS | ANY_TEXT | st.sampled_from(["0-4", "3-1", "-"]), ",-"))
@example("0-99999999999999")
@example("9" * 5000)
@example(str(2**32))
@settings(max_examples=300)
def test_any_text_is_seeds_or_is_refused(text: str) -> None:
    with fine_or_one_line():
        seeds = parsed_seeds(text)
        assert len(set(seeds)) == len(seeds) > 0
        for seed in (min(seeds), max(seeds)):
            jax.random.key(seed)
            np.random.SeedSequence(seed)
            assert seed < 2**32, "a key of JAX has no more bits"


CHOSEN = st.tuples(
    st.sampled_from(list(METHODS)),
    joined(
        st.tuples(st.sampled_from([*CHOICES, ""]), st.sampled_from(["first", "true", "round", ""]) | ANY_TEXT).map("=".join),
        ",",
    ),
).map(lambda parts: f"{parts[0]}[{parts[1]}]")


@given(joined(st.sampled_from([*METHODS, "[", "]", "[filters=first"]) | CHOSEN | ANY_TEXT, ", "))
@settings(max_examples=300)
def test_any_text_is_methods_or_is_refused(text: str) -> None:
    with fine_or_one_line():
        assert methods_named(parsed_list(text, "methods"))


@pytest.mark.parametrize("kind", [TrainingSettings, RecordSettings, SearchSettings, ProgressSettings])
@given(data=st.data())
def test_any_number_is_a_setting_or_is_refused(kind: type, data: st.DataObject) -> None:
    numbers = {int: st.integers(-3, 2**70), float: st.floats()}
    fields = {field.name: numbers[field.type] for field in dataclasses.fields(kind) if field.type in numbers}
    with fine_or_one_line():
        kind(**data.draw(st.fixed_dictionaries({}, optional=fields)))


SETTINGS = {"method": "distreal", "rounds": 50, "data": {"name": "digits", "alpha": 0.3}}
RECORDS = [{"round": number, "accuracy": number / 7, "method": "distreal"} for number in range(4)]
RESULT = MethodResult(
    method="distreal",
    seed=0,
    times=(60.0, 120.0),
    accuracies=(0.5, 0.6),
    full_accuracies=(0.4, 0.5),
    delivered=0.25,
    rounds=(1.0, 2.0),
    macs=(1e6, 2e6),
    macs_spent=1e6,
    macs_wasted=1e5,
    macs_idle=1e4,
    client_rounds=6,
    deadline_hits=2,
    clients_left_out=0,
    bytes_up=(1e6, 2e6),
    bytes_down=(2e6, 4e6),
    round_computing=(1.0, 0.5),
    round_bytes=(1e6, 1e6),
    memory_bytes=1e6,
    accuracy_per_tier={"weakest third": 0.5, "strongest third": float("nan")},
    accuracy_per_class=(0.5, float("nan")),
    accuracy_on={"test": 0.6},
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "run"
    with RunFolder.at(path, SETTINGS) as folder:
        for record in RECORDS:
            folder.append_metrics("metrics", record)
        folder.write_part("result.json", "result", RESULT.to_json())
    return path


@given(name=st.sampled_from(["config.json", "metrics.jsonl", "result.json", "run.lock"]), data=st.data())
@settings(IN_ONE_FOLDER, max_examples=500)
def test_a_damaged_file_of_a_run_is_named_or_mended(written: Path, tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = tmp_path / "run"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(written, path)
    content = damaged((path / name).read_bytes(), data)
    (path / name).write_bytes(content)
    with fine_or_one_line():
        read_metrics(path / "metrics.jsonl")
    with fine_or_one_line(), RunFolder.at(path, SETTINGS) as folder:
        folder.restore_metrics("metrics", RECORDS[:2])
        folder.append_metrics("metrics", RECORDS[2])
        assert folder.read_metrics("metrics") == RECORDS[:3]
        stored = folder.read_part("result.json", "result")
        assert stored in (None, RESULT.to_json()), "what was written is believed, or nothing"
        assert stored is not None or (path / "result.json.damaged").read_bytes() == content, "and nothing is lost"
    if name == "config.json":
        kept = [file.read_bytes() for file in path.glob("config.json*")]
        assert content in kept or read_config(path)["settings"] == SETTINGS, "nothing is lost"


@given(content=JSON, field=st.sampled_from([*RESULT.to_json(), ""]))
def test_any_json_is_a_result_or_is_refused(content: Any, field: str) -> None:
    with fine_or_one_line():
        MethodResult.from_json({**RESULT.to_json(), field: content} if field else content)


@given(config=st.none() | JSON | st.fixed_dictionaries({"settings": JSON, "sessions": JSON}))
@IN_ONE_FOLDER
def test_any_json_is_the_config_of_this_run_or_is_refused(tmp_path: Path, config: Any) -> None:
    for file in tmp_path.iterdir():
        file.unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(InputError, match=re.escape(str(tmp_path))) as error:
        RunFolder.at(tmp_path, SETTINGS)
    assert len(str(error.value).splitlines()) == 1
    assert (tmp_path / "config.json").read_bytes() == before
