"""What every test runs under: two CPU devices, strict shapes, no window, no account, and examples that CI can repeat.

Warnings are errors too; the exceptions and their reasons are in pyproject.toml.
"""

import gc
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

# Read by the libraries when they are imported, so it has to be set before.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()
os.environ["MPLBACKEND"] = "Agg"
os.environ["WANDB_MODE"] = "offline"
# What is compiled here runs once or twice, so it is compiled quickly rather than well, in processes that tests start too:
# without most of LLVM's optimisations, and by XLA's older way to write loops, in a third of the time (of a short training
# 0.6 s in place of 1.8 s). Arithmetic is the same but for its rounding. A claim about the bits of programs that are compiled
# as users compile them is tested under `optimised`, or in a process without these variables.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # XLA ends a process that gives it a flag it doesn't know
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
# Workers and the processes that tests start share what they compile, and it goes when the session ends: a test that passes
# because an earlier session left its compiled program on disk would hide a failure to compile.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="distreal_jax-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import hypothesis
import jax
import jax._src.compiler as jax_compiler
import pytest
from running_scripts import run_here

jax.config.update("jax_numpy_rank_promotion", "raise")

# The first run of an example compiles, so no deadline in milliseconds holds. CI draws the same examples each time.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


AS_USERS_COMPILE = []
if "xla_cpu_use_fusion_emitters" in os.environ["XLA_FLAGS"]:
    AS_USERS_COMPILE = [("xla_cpu_use_fusion_emitters", True), ("xla_cpu_parallel_codegen_split_count", 32)]  # the defaults
LONGEST = (
    "processes",
    "experiments",
    "resume",
    "readme",
    "fleet",
    "notebooks",
    "sharing",
    "step",
    "cost",
    "sweeps",
    "surroundings",
    "progress",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin, so that no worker is left alone with one of them at the end."""
    place = {f"test_{name}.py": index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def pytest_collection_finish() -> None:
    """What was imported stays, and what traces leave mostly goes by itself: Python need not search it for rings so often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def two_devices() -> None:
    """Tests of sharding mean something only where there is more than one device."""
    assert len(jax.devices()) == 2, "the tests need two CPU devices; jax was imported before tests/conftest.py"


@pytest.fixture
def optimised(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs are compiled as users compile them."""
    options_of = jax_compiler.get_compile_options

    def as_users_have_them(*arguments: Any, **keywords: Any) -> Any:
        options = options_of(*arguments, **keywords)
        options.env_option_overrides = [*AS_USERS_COMPILE, *options.env_option_overrides]
        return options

    monkeypatch.setattr(jax_compiler, "get_compile_options", as_users_have_them)
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def pytest_unconfigure() -> None:
    """What this session compiled goes when its last worker has ended."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture
def command() -> Any:
    """`run_here`: a script in this process."""
    return run_here
