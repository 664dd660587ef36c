"""The table that compares methods, and the report in Markdown that holds tables and pictures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distreal_jax.errors import InputError
from distreal_jax.files import write_atomically
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.statistics import Interval
from distreal_jax.record.summary import MethodSummary, TimeToTarget, summarise, usual_reference

COLUMNS: dict[str, tuple[str, Callable[[MethodSummary], str]]] = {
    "final": ("final accuracy", lambda summary: level(summary.final)),
    "final_difference": ("against {reference}", lambda summary: _difference(summary, summary.final_difference)),
    "area": ("mean accuracy over time", lambda summary: level(summary.area)),
    "area_difference": ("mean accuracy over time, against {reference}", lambda s: _difference(s, s.area_difference)),
    "seconds": ("simulated time to {target} (s)", lambda summary: _to_target(summary.seconds, "{:,.4g}".format)),
    "rounds": ("rounds to {target}", lambda summary: _to_target(summary.rounds, "{:,.4g}".format)),
    "macs": ("MACs to {target}", lambda summary: _to_target(summary.macs, quantity)),
    "macs_computed": ("MACs computed", lambda summary: quantity(summary.macs_computed)),
    "spent": ("spent", lambda summary: f"{summary.spent:.0%}"),
    "wasted": ("wasted", lambda summary: f"{summary.wasted:.0%}"),
    "idle": ("idle", lambda summary: f"{summary.idle:.0%}"),
    "deadline_hits": ("cut by the deadline", lambda summary: f"{summary.deadline_hits:.0%}"),
    "bytes_up": ("up", lambda summary: quantity(summary.bytes_up) + "B"),
    "bytes_down": ("down", lambda summary: quantity(summary.bytes_down) + "B"),
    "tiers": ("accuracy per tier", lambda s: ", ".join(f"{n} {v:.3f}" for n, v in s.accuracy_per_tier.items()) or "–"),
    "largest_submodel": ("largest sub-model", lambda s: "–" if s.largest_submodel is None else level(s.largest_submodel)),
}
"""Columns of `comparison_table`: name -> heading, and how a summary's cell is written."""


def comparison_table(
    results: Sequence[MethodResult],
    *,
    columns: Sequence[str] = ("final", "final_difference", "seconds", "area", "spent", "wasted", "idle"),
    reference: str | None = None,
    target: float | None = None,
    smooth: int = 1,
) -> str:
    """A Markdown table, a row per method in the order given, with intervals over seeds.

    Args:
      results: At least one.
      columns: Names from `COLUMNS`; those about the target are left out without one.
      reference: Whom the others are compared with; None: `usual_reference`.
      target: Accuracy to reach.
      smooth: As for `summarise`.

    Raises:
      InputError: An unknown column, or as `summarise`.
    """
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise InputError(f"unknown column {unknown[0]!r}; choose from: {', '.join(COLUMNS)}")
    shown = [name for name in columns if target is not None or "{target}" not in COLUMNS[name][0]]
    reference = reference or usual_reference(results)
    names = {"reference": reference, "target": "" if target is None else f"{target:.3g}"}
    rows = [["method", *(COLUMNS[name][0].format(**names) for name in shown), "seeds"]]
    for summary in summarise(results, reference=reference, target=target, smooth=smooth):
        cells = [COLUMNS[name][1](summary) for name in shown]
        rows.append([f"`{summary.method}`", *cells, str(len(summary.seeds))])
    return markdown_table(rows)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of texts, the first row its heading, columns padded so that it reads well as plain text too."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]) + "\n"


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
      heading: Its title.
      text: Paragraphs and tables, in Markdown.
      pictures: File of each picture, relative to the report -> what it shows, for those who can't see it.
    """

    heading: str
    text: str = ""
    pictures: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write_report(path: Path, title: str, *sections: Section) -> None:
    """Writes a report in Markdown.

    Raises:
      InputError: The file can't be written.
    """
    parts = [f"# {title}"]
    for section in sections:
        pictures = [f"![{what}]({file})" for file, what in section.pictures.items()]
        parts += [f"## {section.heading}", *([section.text.strip()] if section.text.strip() else []), *pictures]
    write_atomically(path, ("\n\n".join(parts) + "\n").encode())


def level(interval: Interval) -> str:
    """A level with the half width of its interval: `0.834 ± 0.006`; the mean alone with a single seed."""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} ± {(interval.high - interval.low) / 2:.3f}"


def signed(interval: Interval) -> str:
    """A difference with the ends of its interval: `+0.012 [+0.004, +0.020]`."""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:+.3f}"
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def quantity(value: float) -> str:
    """A large number with three digits and its SI prefix: `40.8 M`."""
    for exponent, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        # 999.6 would be shown as 1e+03 of the smaller unit
        if abs(value) >= 0.9995 * 10**exponent:
            return f"{value / 10**exponent:.3g} {prefix}"
    return f"{value:.3g} "


def _difference(summary: MethodSummary, interval: Interval | None) -> str:
    return "–" if interval is None else signed(interval)


def _to_target(time: TimeToTarget | None, number: Callable[[float], str]) -> str:
    if time is None:
        return "–"
    shown = f"> {number(time.horizon)}" if time.median is None else number(time.median)
    return shown if time.reached == time.runs else f"{shown} ({time.reached} of {time.runs})"
