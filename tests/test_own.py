"""MODULE:NAME on a command line: a person's own network, data set, method and load, without an edit of the package."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from distreal_jax.availability import make_availability
from distreal_jax.data import load_dataset
from distreal_jax.errors import InputError
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.methods import METHODS, method_named, methods_named
from distreal_jax.own import is_own

MINE = """
import dataclasses
import numpy as np
from flax import nnx
from distreal_jax.availability import Availability
from distreal_jax.availability.segments import unchanging
from distreal_jax.data import Dataset
from distreal_jax.methods import Method

class Net(nnx.Module):
    def __init__(self, num_classes, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.out = nnx.Linear(4, num_classes, rngs=rngs)
    def __call__(self, x):
        return self.out(nnx.relu(self.conv(x)).mean(axis=(1, 2)))

def data():
    images, labels = np.arange(24 * 16, dtype=np.uint8).reshape(24, 4, 4), np.arange(24) % 2
    return Dataset.from_arrays("mine", 2, dict(train_images=images[:16], train_labels=labels[:16],
                                               test_images=images[16:], test_labels=labels[16:]))

patient = Method("patient", "a paper of mine", rates="uniform", pace="remaining")

@dataclasses.dataclass(frozen=True)
class Half:
    seed: int
    minimum: float = 0.5
    def during(self, round_index, devices):
        return unchanging(np.full(len(devices), self.minimum))

def load(seed):
    return Half(seed)

taken = dataclasses.replace(patient, name="distreal")
number = 3
class Wide:
    def __init__(self, depth):
        self.depth = depth
def broken():
    return 1 / 0
def useless():
    return 7
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of a person's own, that can be imported until the test ends."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "unfinished.py").write_text("import numpy\nvalue = numpy.nowhere\n")
    (tmp_path / "needy.py").write_text("import a_library_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("distreal_jax.own._hashes", {})
    for name in ("mine", "unfinished", "needy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


OPTIONS = (
    "--model mine:Net --dataset mine:data --method mine:patient --availability mine:load --partition iid --devices 4 "
    "--devices-per-round 2 --rounds 2 --steps 2 --batch-size 2 --eval-every 1 --execution masked"
).split()


def test_train_takes_all_four_and_other_code_of_the_same_name_is_another_run(mine: Path, command: Any) -> None:
    out = mine / "out"
    status, printed, said = command("train", *OPTIONS, "--out", str(out))
    assert status == 0 and printed.startswith("patient: accuracy ")
    assert said.startswith(
        f"folder: {out}\npatient (seed 0): rounds 1 to 2, each of 2 of 4 devices; up to 1 training step to compile"
    )
    _, again, said = command("train", *OPTIONS, "--out", str(out))
    assert again == printed and said == (
        f"folder: {out}, begun before: what is finished is read, the rest goes on\n"
        f"patient (seed 0): finished before, its result is read from {out / 'result.json'}\n"
    )
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings["method"] == "mine:patient" and list(settings["own_code"]) == ["mine"]
    (mine / "mine.py").write_text(MINE.replace("minimum: float = 0.5", "minimum: float = 0.25"))
    del sys.modules["mine"]
    status, _, error = command("train", *OPTIONS, "--out", str(out))
    assert status == 2 and error.count("\n") == 1 and "own_code" in error


def test_a_method_of_ones_own_takes_other_choices_and_stands_beside_others(mine: Path) -> None:
    varied = method_named("mine:patient[drawn=round]")
    assert (varied.name, varied.drawn, varied.pace) == ("patient[drawn=round]", "round", "remaining")
    assert [method.name for method in methods_named(["mine:patient", "partial_work"])] == ["patient", "partial_work"]


def test_a_load_and_a_data_set_get_what_they_ask_for(mine: Path) -> None:
    assert make_availability("mine:load", seed=7, num_devices=3).seed == 7  # type: ignore[attr-defined]
    assert load_dataset("mine:data").name == "mine"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: method_named("mine:patent"), "method 'mine:patent': module 'mine' has no 'patent'; did you mean 'patient'"),
        (lambda: method_named("theirs:method"), "module 'theirs' is neither in this folder nor installed"),
        (lambda: method_named("needy:method"), "ModuleNotFoundError: No module named 'a_library_that_nobody_has'"),
        (lambda: method_named("unfinished:value"), r"AttributeError: .*'nowhere'.*\(unfinished.py, line 2\)"),
        (lambda: method_named("mine:number"), "method 'mine:number' is a int; give a class or a function"),
        (lambda: method_named("mine:taken"), "has the name 'distreal'; give it one of its own"),
        (lambda: method_named("mine:broken"), r"fails: ZeroDivisionError: division by zero \(mine.py, line \d+\)"),
        (lambda: load_dataset("mine:useless"), "data set 'mine:useless' is a int; give a function that returns"),
        (lambda: make_availability("mine:useless", seed=0, num_devices=1), "is a int without `during"),
        (lambda: make_availability("sometimes", seed=0, num_devices=1), "unknown availability 'sometimes'; give one like"),
        (lambda: World.make(WorldSettings(model="mine:Wide"), 0), "takes depth, which is not known here; it may take "),
        (lambda: World.make(WorldSettings(model="mine:useless"), 0), "makes a int; expected a Flax NNX module"),
    ],
)
def test_what_wont_do_is_refused_in_one_line_that_names_the_place(mine: Path, make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_names_that_are_there_already_mean_what_they_did() -> None:
    assert not any(map(is_own, [*METHODS, "cifar10:3.0.2", "emnist/balanced", "redrawn:0.1,1,3", "dirichlet:0.3"]))
