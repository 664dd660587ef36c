"""Scripts run in the process of the tests, which have imported already what takes longest."""

import contextlib
import io
import runpy
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_here(script: str, *options: str) -> tuple[int, str, str]:
    """Runs a script in this process, as `python experiments/SCRIPT.py OPTIONS`: status, stdout and stderr."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers, arguments = [signal.getsignal(number) for number in numbers], sys.argv
    out, error, status = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.chdir(ROOT), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            sys.argv = [f"experiments/{script}.py", *options]
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 0
    finally:
        sys.argv = arguments
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
    return status, out.getvalue(), error.getvalue()
