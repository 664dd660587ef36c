"""The experiments that are written down: each states its command, can be run as it says, and differs from the others."""

import importlib
import pkgutil
import re
import sys
from types import ModuleType

import pytest

import experiments.configs
from distreal_jax.availability import make_availability
from distreal_jax.experiment import parsed_list, parsed_seeds
from distreal_jax.methods import methods_named
from distreal_jax.networks import NETWORKS
from distreal_jax.own import own

NAMES = sorted(module.name for module in pkgutil.iter_modules(experiments.configs.__path__))


def config(name: str) -> ModuleType:
    return importlib.import_module(f"experiments.configs.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_a_config_asks_a_question_and_states_command_expectation_time_and_machine(name: str) -> None:
    text = config(name).__doc__ or ""
    assert text.split("\n")[0].endswith("?")
    needs_data = config(name).CONFIG.world.dataset != "digits"
    assert f"python -m experiments.configs.{name}{' --data-dir' if needs_data else ''}" in text
    for said in (r"\b\d+\smin\b", "CPU\\scores", "seeds", r"Expected\b[^:]*:.*\d"):
        assert re.search(said, text, re.DOTALL), f"{name} does not state: {said}"


@pytest.mark.parametrize("name", NAMES)
def test_a_configs_methods_seeds_load_and_network_exist(name: str) -> None:
    options = config(name).CONFIG
    if hasattr(options, "methods"):  # studies of searches have none
        methods_named(parsed_list(options.methods, "methods"))
    assert len(parsed_seeds(options.seeds)) >= 3 or hasattr(options, "trials")  # a tuning has few, and others
    assert options.world.model in NETWORKS or own(options.world.model, "model")
    make_availability(options.world.availability, seed=0, num_devices=5, data_dir=None)


def test_no_two_configs_are_the_same() -> None:
    assert len({repr(config(name).CONFIG) for name in NAMES}) == len(NAMES) > 4


def test_a_configs_values_are_the_defaults_of_its_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from distreal_jax.experiment import run_command

    seen = []
    monkeypatch.setattr(sys, "argv", ["config", "--rounds", "7"])
    monkeypatch.setenv("XLA_FLAGS", "")  # the devices of the tests stay as they are
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    given = config("fashion_mnist_harsh").CONFIG
    run_command(seen.append, given)
    assert seen[0].training.rounds == 7 != given.training.rounds
    assert seen[0].methods == given.methods and seen[0].world == given.world


def test_configs_that_judge_distreal_name_their_setting_and_no_two_the_same() -> None:
    settings = [setting for name in NAMES if (setting := getattr(config(name), "SETTING", ""))]
    assert len(set(settings)) == len(settings) > 10 and all(
        setting[0].isupper() and "|" not in setting for setting in settings
    )
