"""What comes before large libraries are loaded: a word where they would crash, and none where they only complain."""

import logging
import os
import signal
import sys
from types import FrameType

LEAST_GIB = 3.0  # of address space, measured for the smallest run on two cores: with 2 XLA's compiler aborts


def prepare_loading() -> None:
    """Ends the program in one line and with status 2 where `ulimit -v` leaves too little address space to load JAX.

    What is refused address space ends in SIGSEGV or SIGABRT otherwise, often while it is loaded.
    """
    # Without a home that can be written it keeps its cache elsewhere, and says so at length.
    logging.getLogger("matplotlib").addFilter(_is_no_complaint)
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_GIB * 2**30:
        sys.stderr.write(
            f"error: ulimit -v leaves {limit / 2**30:.2g} GiB of address space, and JAX needs {LEAST_GIB:g}; raise it\n"
        )
        raise SystemExit(2)


def end_at_ctrl_c() -> None:
    """From now on Ctrl-C ends the process without a word, until a command takes it over.

    While libraries load there is nothing to save, and a traceback through them explains nothing. In a container, whose first
    process gets no signal that it does not ask for, the same holds for SIGTERM.
    """
    if os.getpid() == 1:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end)
    else:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


def _is_no_complaint(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(("Matplotlib created a temporary cache directory", "mkdir -p failed for path"))
