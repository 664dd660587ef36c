"""One line in place of JAX's twenty, where a process of a job is ended because another one is gone.

JAX's runtime ends it from a thread of its own, with a fatal log that no setting shortens, before Python could say anything.
So what is written below Python, to file descriptor 2, goes through a process that outlives this one and knows that log. It
runs this file as a script, which therefore imports nothing but Python's own.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

# What Python writes: to have the line said once, and to have it not said.
LOST = b"another process of the job is lost\n"
SPOKEN = b"this process has said why it ends\n"
_FATAL = b"Terminating process because the JAX distributed service detected fatal errors"
_OF_THE_JOB = re.compile(rb"[EF]\d{4} [\d:.]+\s+\d+ (coordination_service|client\.h)")
_OF_OTHERS = re.compile(rb"[IWEF]\d{4} [\d:.]+\s+\d+ ")
_filters = list["subprocess.Popen[bytes]"]()


def have_the_last_word(line: str) -> None:
    """From now on `line` is said, once, where JAX ends this process, or `give_up` does.

    Python's own stderr is as before. Where no process can be started, JAX has the last word.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-I", "-S", __file__, line]
    with contextlib.suppress(OSError):
        filtering = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        _filters.append(filtering)
        assert filtering.stdin is not None
        own = os.dup(2)
        os.dup2(filtering.stdin.fileno(), 2)
        filtering.stdin.close()
        # It stays open until the process ends.
        sys.stderr = open(own, "w", encoding=sys.stderr.encoding, errors="replace", buffering=1, closefd=False)  # noqa: SIM115


def say_no_more() -> None:
    """From now on the line is not said, nor anything else below Python: this process has said by itself why it ends."""
    if _filters:
        with contextlib.suppress(OSError):
            os.write(2, SPOKEN)


def give_up() -> None:
    """Has the line said, and ends this process at once: what is taken down in order waits for the others."""
    with contextlib.suppress(OSError):
        os.write(2, LOST)
    os._exit(1)


@contextlib.contextmanager
def quiet_below_python() -> Iterator[None]:
    """Inside, what is written to file descriptor 1, but not by Python, is not seen."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _filter(coming: IO[bytes], line: str) -> None:
    """Hands on what comes, but for JAX's log of a lost process, in whose place it says the line."""
    held, lost, of_the_job = list[bytes](), False, False
    for said in coming:
        if said in (LOST, SPOKEN) or _FATAL in said:
            if not lost and said != SPOKEN:
                os.write(2, f"{line}\n".encode())
            held, lost = [], True
        elif _OF_OTHERS.match(said):
            of_the_job = _OF_THE_JOB.match(said) is not None
        if lost:
            continue
        if of_the_job:
            held.append(said)  # with the lines that follow on it; perhaps the fatal one comes
        else:
            os.write(2, said)
    os.write(2, b"".join(held))


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the process that writes here decides
    with contextlib.suppress(OSError):
        _filter(sys.stdin.buffer, sys.argv[1])
