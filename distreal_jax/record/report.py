"""The table that compares methods, and the report in Markdown that holds tables and pictures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distreal_jax import processes
from distreal_jax.errors import InputError
from distreal_jax.files import write_atomically
from distreal_jax.record.device_model import DeviceModel
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.statistics import Interval
from distreal_jax.record.summary import MethodSummary, TimeToTarget, summarise, usual_reference

COLUMNS: dict[str, tuple[str, Callable[[MethodSummary], str]]] = {
    "delivered": ("delivered", lambda summary: delivered(summary.delivered)),
    "final": ("final accuracy", lambda summary: level(summary.final)),
    "full": ("full network's", lambda summary: level(summary.full)),
    "final_difference": ("against {reference}", lambda summary: _difference(summary, summary.final_difference)),
    "final_p": ("p (Holm)", lambda summary: "–" if summary.final_p is None else p_value(summary.final_p)),
    "area": ("mean accuracy over time", lambda summary: level(summary.area)),
    "area_difference": ("mean accuracy over time, against {reference}", lambda s: _difference(s, s.area_difference)),
    "macs_computed": ("MACs computed", lambda summary: quantity(summary.macs_computed)),
    "spent": ("spent", lambda summary: f"{summary.spent:.0%}"),
    "wasted": ("wasted", lambda summary: f"{summary.wasted:.0%}"),
    "idle": ("idle", lambda summary: f"{summary.idle:.0%}"),
    "deadline_hits": ("cut by the deadline", lambda summary: f"{summary.deadline_hits:.0%}"),
    "bytes_up": ("up", lambda summary: quantity(summary.bytes_up) + "B"),
    "bytes_down": ("down", lambda summary: quantity(summary.bytes_down) + "B"),
    "memory": ("peak memory", lambda summary: quantity(summary.memory_bytes) + "B"),
    "joules_spent": ("energy", lambda summary: quantity(summary.joules) + "J"),
    "tiers": ("accuracy per tier", lambda s: ", ".join(f"{n} {v:.3f}" for n, v in s.accuracy_per_tier.items()) or "–"),
}
"""Columns of `comparison_table`: name -> heading, and how a summary's cell is written."""

TO_TARGET: dict[str, tuple[str, Callable[[float], str]]] = {
    "seconds": ("simulated time to {target} (s)", "{:,.4g}".format),
    "rounds": ("rounds to {target}", "{:,.4g}".format),
    "macs": ("MACs to {target}", lambda value: quantity(value)),
    "bytes": ("bytes to {target}", lambda value: quantity(value) + "B"),
    "joules": ("energy to {target}", lambda value: quantity(value) + "J"),
    "link_seconds": ("time to {target} with links (s)", "{:,.4g}".format),
}
"""Columns that there are one of for each target: axis of a summary's `to_target` -> heading, and how a number is written."""

ACCURACY = ("delivered", "final", "final_difference", "final_p", "full", "seconds", "area", "area_difference")
COST = ("delivered", "link_seconds", "bytes_up", "bytes_down", "memory", "joules_spent", "spent", "wasted", "idle")


def comparison_table(
    results: Sequence[MethodResult],
    *,
    columns: Sequence[str] = ACCURACY,
    reference: str | None = None,
    targets: Sequence[float] = (),
    smooth: int = 1,
    device: DeviceModel = DeviceModel(),
) -> str:
    """A Markdown table, a row per method in the order given, with intervals over seeds.

    Args:
      results: At least one.
      columns: Names from `COLUMNS`, and from `TO_TARGET`, which stand for a column for each target.
      reference: Whom the others are compared with; None: `usual_reference`.
      targets: Accuracies to reach.
      smooth: As for `summarise`.
      device: As for `summarise`.

    Raises:
      InputError: An unknown column, or as `summarise`.
    """
    unknown = [name for name in columns if name not in COLUMNS and name not in TO_TARGET]
    if unknown:
        raise InputError(f"unknown column {unknown[0]!r}; choose from: {', '.join((*COLUMNS, *TO_TARGET))}")
    reference = reference or usual_reference(results)
    headings: list[str] = []
    for name in columns:
        if name in COLUMNS:
            heading = COLUMNS[name][0].replace("accuracy", "{score}")
            headings.append(heading.format(reference=reference, score=_cell(_score_of(results))))
        else:
            headings += [TO_TARGET[name][0].format(target=f"{target:.6g}") for target in targets]
    rows = [["method", *headings, "seeds"]]
    for summary in summarise(results, reference=reference, targets=targets, smooth=smooth, device=device):
        cells: list[str] = []
        for name in columns:
            if name in COLUMNS:
                cells.append(COLUMNS[name][1](summary))
            else:
                cells += [_to_target(time, TO_TARGET[name][1]) for time in summary.to_target[name]]
        rows.append([f"`{summary.method}`", *cells, str(len(summary.seeds))])
    return markdown_table(rows)


def _score_of(results: Sequence[MethodResult]) -> str:
    """The score in words; the test set goes without saying."""
    return results[0].scored_by.removeprefix("test ") if results else "accuracy"


def _cell(text: str) -> str:
    """A text that a user chose, for a cell of a Markdown table."""
    return text.replace("|", "\\|")


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
    """Writes a report in Markdown; of the processes of a job, process 0 does.

    Raises:
      InputError: The file can't be written.
    """
    if not processes.is_first():
        return
    parts = [f"# {title}"]
    for section in sections:
        pictures = [f"![{what}]({file})" for file, what in section.pictures.items()]
        parts += [f"## {section.heading}", *([section.text.strip()] if section.text.strip() else []), *pictures]
    write_atomically(path, ("\n\n".join(parts) + "\n").encode())


def level(interval: Interval) -> str:
    """A level with the half width of its interval: `0.834 ± 0.006`; with the values of few seeds: `0.834 (0.830, 0.838)`."""
    if interval.half_width is None:
        return f"{interval.mean:z.3f}{_points(interval, 'z.3f')}"
    return f"{interval.mean:z.3f} ± {interval.half_width:.3f}"


def signed(interval: Interval) -> str:
    """A difference with the ends of its interval: `+0.012 [+0.004, +0.020]`; what rounds to nothing is `+0.000`."""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:+z.3f}{_points(interval, '+z.3f')}"
    return f"{interval.mean:+z.3f} [{interval.low:+z.3f}, {interval.high:+z.3f}]"


def delivered(share: float) -> str:
    """The model that a method hands over: `full network`, or the MACs of a smaller one: `6.3% of its MACs`."""
    return "full network" if share == 1 else f"{share:.1%} of its MACs"


def p_value(p: float) -> str:
    """A p-value: `0.013`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def quantity(value: float) -> str:
    """A large number with three digits and its SI prefix: `40.8 M`."""
    for exponent, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        # 999.6 would be shown as 1e+03 of the smaller unit
        if abs(value) >= 0.9995 * 10**exponent:
            return f"{value / 10**exponent:.3g} {prefix}"
    return f"{value:.3g} "


def _difference(summary: MethodSummary, interval: Interval | None) -> str:
    return "–" if interval is None else signed(interval)


def _points(interval: Interval, form: str) -> str:
    return f" ({', '.join(format(point, form) for point in interval.points)})" if interval.points else ""


def _to_target(time: TimeToTarget, number: Callable[[float], str]) -> str:
    shown = f"> {number(time.horizon)}" if time.median is None else number(time.median)
    return shown if time.reached == time.runs else f"{shown} ({time.reached} of {time.runs})"
