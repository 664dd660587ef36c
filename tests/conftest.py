"""What every test runs under: two CPU devices, strict shapes, no window, no account, and examples that CI can repeat.

Warnings are errors too; the exceptions and their reasons are in pyproject.toml.
"""

import os
import runpy
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read by the libraries when they are imported, so it has to be set before.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()
os.environ["MPLBACKEND"] = "Agg"
os.environ["WANDB_MODE"] = "offline"
# The scripts that tests run as processes share compiled programs, of these tests alone.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="distreal_jax-compiled-")

import hypothesis
import jax
import pytest

ROOT = Path(__file__).parents[1]

jax.config.update("jax_numpy_rank_promotion", "raise")
# A test that passes because an earlier run left its compiled program on disk would hide a failure to compile.
jax.config.update("jax_enable_compilation_cache", False)

# The first run of an example compiles, so no deadline in milliseconds holds. CI draws the same examples each time.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session", autouse=True)
def two_devices() -> None:
    """Tests of sharding mean something only where there is more than one device."""
    assert len(jax.devices()) == 2, "the tests need two CPU devices; jax was imported before tests/conftest.py"


@pytest.fixture(scope="session", autouse=True)
def compiled_programs() -> Iterator[None]:
    """What the processes of this session compiled goes when it ends."""
    yield
    shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Runs a script in this process, as `python experiments/SCRIPT.py OPTIONS`: status, stdout and stderr."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(script: str, *options: str) -> tuple[int, str, str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [f"experiments/{script}.py", *options])
        status = 0
        try:
            runpy.run_path(f"experiments/{script}.py", run_name="__main__")
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 0
        return status, *capsys.readouterr()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
