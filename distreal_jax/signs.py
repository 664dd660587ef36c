"""Progress messages on the logger `distreal_jax`, and progress bars on terminals.

A library is silent until its user asks, as Python's logging has it. The commands ask, unless they are given `--quiet`:

    logging.getLogger("distreal_jax").setLevel(logging.INFO)
"""

import contextlib
import logging
import sys
import time
from collections.abc import Container, Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

LOG = logging.getLogger("distreal_jax")
_NOW_AND_THEN = 20.0  # seconds between two lines of how many are done, chosen by us

Item = TypeVar("Item")


def say(line: str) -> None:
    """Says what is being done."""
    LOG.info(line)


def bar(**options: Any) -> "tqdm[Any]":
    """A bar of tqdm's, on a terminal and where lines are said."""
    return tqdm(**options, disable=not (sys.stderr.isatty() and LOG.isEnabledFor(logging.INFO)))


def watched(items: Iterable[Item], total: int, done: str, noun: str) -> Iterator[Item]:
    """The items, one by one, below a bar; without one a line says now and then how many are done, once that takes long.

    Args:
      items: What is done as it is asked for.
      total: How many there are.
      done: What was done with them: "compiled".
      noun: What one of them is called: "training step".
    """
    said = time.monotonic()
    with bar(total=total, desc=done, unit=noun, leave=False) as progress:
        for number, item in enumerate(items, 1):
            progress.update()
            if progress.disable and number < total and time.monotonic() - said >= _NOW_AND_THEN:
                said = time.monotonic()
                say(f"{done} {number:,} of {how_many(total, noun)}")
            yield item


@contextlib.contextmanager
def said_on_stderr(*, quiet: bool) -> Iterator[None]:
    """Inside, what is said appears on stderr, above bars that are on the screen; or, if quiet, is not said at all."""
    handler, level, propagate = _AboveBars(), LOG.level, LOG.propagate
    LOG.addHandler(handler)
    LOG.propagate = False  # or libraries that log by themselves would say everything once more
    LOG.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        LOG.propagate = propagate


class _AboveBars(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class Pace:
    """How long the rest of something takes, by how long its parts took; compiling, in the first parts, is left out.

    Args:
      total: Parts in all.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._settled: tuple[int, float] | None = None  # parts, and when they were done

    def left(self, done: int) -> str:
        """In words, after so many parts: "12 s left"; empty where nothing is left, or nothing is known yet."""
        now, known = time.monotonic(), self._settled
        if known is None:
            self._settled = (done, now)
        if done >= self.total or known is None:
            return ""
        return f"about {duration((self.total - done) * (now - known[1]) / max(done - known[0], 1))} left"


class MeanPace:
    """How long the rest of several runs takes, by the mean time of those that were seen from beginning to end.

    Args:
      runs: Names of those that are not finished.
      noun: What one of them is called.
    """

    def __init__(self, runs: Iterable[str], noun: str) -> None:
        self._left, self._noun, self._taken = set(runs), noun, list[float]()

    def done(self, run: str, seconds: float | None) -> None:
        """Counts a run that is done; seconds: None if it was finished, or begun, before."""
        self._left.discard(run)
        if seconds is not None:
            self._taken.append(seconds)

    def left(self) -> str:
        """In words: "about 12 min left for 6 runs"; empty where nothing is left, or nothing is known yet."""
        if not self._taken or not self._left:
            return ""
        mean, count = sum(self._taken) / len(self._taken), len(self._left)
        return f"about {duration(count * mean)} left for {how_many(count, self._noun)}"


def how_many(count: int, noun: str) -> str:
    """A number and its noun: "1 program", "1,200 programs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def sentence(words: str) -> str:
    """Words as they begin a sentence: "Test accuracy", "Validation R squared"."""
    return words[:1].upper() + words[1:]


def scored_on(others: Container[str]) -> str:
    """The examples that are scored, in words: those of a `validation` split where the test set is among the others."""
    return "validation" if "test" in others else "test"


def percent(share: float) -> str:
    """A share in percent, in tenths: "8.4%"; one that these would show as nothing with two digits: "0.039%"."""
    return f"{100 * share:.2g}%" if 0 < share < 0.0005 else f"{share:.1%}"


def duration(seconds: float) -> str:
    """A time in the unit that a person would take."""
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
