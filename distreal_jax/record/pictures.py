"""The pictures of searches, comparisons and devices, as PNG files that are legible at the size of a README.

A method has the same colour, marker and line in every picture. Colours are told apart by the colour-blind (Okabe and Ito,
2008, with Tol's muted set beyond its eight), and marker or label says the same again.
"""

import contextlib
import dataclasses
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from distreal_jax.errors import InputError
from distreal_jax.record.run_folder import write_atomically
from distreal_jax.record.statistics import final_accuracy

_DOTS_PER_INCH = 150
_LOOK: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11.0,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 6.0,
}
_GREY = "#666666"


@dataclasses.dataclass(frozen=True)
class _Style:
    label: str
    colour: str
    marker: str
    line: str = "-"


_STYLES = {
    "distreal": _Style("DISTREAL", "#D55E00", "o"),
    "distreal_uniform": _Style("DISTREAL, uniform rates", "#E69F00", "s"),
    "federated_dropout": _Style("Federated Dropout", "#CC79A7", "v"),
    "heterofl": _Style("HeteroFL", "#0072B2", "^"),
    "fjord": _Style("FjORD", "#56B4E9", "D"),
    "fedrolex": _Style("FedRolex", "#332288", "P"),
    "small_network": _Style("small network", "#999933", "X"),
    "drop_stragglers": _Style("stragglers dropped", "#882255", "<"),
    "partial_work": _Style("partial work", "#009E73", ">"),
    "full_resources": _Style("full resources", "#000000", "", "--"),
}
_OTHER_COLOURS = ("#117733", "#AA4499", "#661100", "#44AA99", "#6699CC", "#888888")
_OTHER_MARKERS = ("p", "h", "*", "d", "8")


def _style(method: str) -> _Style:
    """Of a method without a style of its own, one that depends on its name alone, so that it too is the same everywhere."""
    if method in _STYLES:
        return _STYLES[method]
    number = zlib.crc32(method.encode())
    colour, marker = _OTHER_COLOURS[number % len(_OTHER_COLOURS)], _OTHER_MARKERS[number % len(_OTHER_MARKERS)]
    return _Style(method.replace("_", " "), colour, marker, "-.")


@contextlib.contextmanager
def _picture(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure, `width` by `height` inches, that is written when the block ends."""
    with matplotlib.rc_context(_LOOK):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=_DOTS_PER_INCH)
    write_atomically(Path(path), png.getvalue())


def _percent(axes: Axes, axis: str) -> None:
    getattr(axes, f"{axis}axis").set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def _label_ends(axes: Axes, ends: Sequence[tuple[str, float, float, str]]) -> None:
    """Names each line (method, x, y of its end, words after its name) to the right, moved apart where they would overlap."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    points = axes.get_window_extent().height * 72 / axes.figure.dpi
    spacing = 13.5 / points * (top - bottom)  # a line of 9.5 points and its leading
    order = sorted(range(len(ends)), key=lambda index: ends[index][2])
    places = np.array([ends[index][2] for index in order])
    for _ in range(500):
        gaps = np.diff(places)
        close = np.flatnonzero(gaps < 0.999 * spacing)
        if not close.size:
            break
        push = (spacing - gaps[close]) / 2
        np.subtract.at(places, close, push)
        np.add.at(places, close + 1, push)
        places += max(bottom - places[0], 0.0)
        places -= max(places[-1] - top, 0.0)
    for index, place in zip(order, places, strict=True):
        method, x, y, words = ends[index]
        style = _style(method)
        mark_x = right + 0.05 * (right - left)
        axes.plot([x, mark_x], [y, place], color=style.colour, linewidth=0.7, clip_on=False)
        axes.plot([mark_x], [place], color=style.colour, marker=style.marker or "_", clip_on=False)
        axes.annotate(
            f"{style.label}{words}", (mark_x, place), (8, 0), textcoords="offset points", color=style.colour,
            fontsize=9.5, va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set(xlim=(left, right), ylim=(bottom, top))


@dataclasses.dataclass(frozen=True)
class Front:
    """Dropout vectors in the plane of the search.

    Attributes:
      macs_fraction: Cost as a fraction of the full network's, [vectors].
      progress: What the search maximises, [vectors].
      standard_error: Of `progress` over repeats, [vectors]; None: not drawn.
    """

    macs_fraction: Sequence[float]
    progress: Sequence[float]
    standard_error: Sequence[float] | None = None


def front_picture(path: Path, *, searched: Front, uniform: Front, title: str, progress: str = "progress") -> None:
    """The searched Pareto front over the curve of uniform rates.

    Args:
      path: The PNG file.
      searched: The front.
      uniform: The same rate in all layers, for several rates.
      title: Of the picture.
      progress: What progress is measured in.

    Raises:
      InputError: Nothing to draw, lists of different lengths, or the file can't be written; as all pictures.
    """
    curves = ((uniform, "distreal_uniform", "one rate for all layers"), (searched, "distreal", "searched, a rate per layer"))
    with _picture(path, 7.2, 4.4) as figure:
        axes = figure.subplots()
        for front, method, label in curves:
            errors = front.standard_error if front.standard_error is not None else np.zeros(len(front.progress)).tolist()
            _check("front", front.macs_fraction, front.progress, errors)
            order = np.argsort(front.macs_fraction)
            x, y, error = (np.asarray(values)[order] for values in (front.macs_fraction, front.progress, errors))
            style = _style(method)
            axes.errorbar(x, y, error, color=style.colour, marker=style.marker, capsize=2.5, elinewidth=1, label=label)
        axes.set(
            title=title, xlabel="MACs of a training step, relative to the full network", ylabel=progress, xlim=(0, None)
        )
        _percent(axes, "x")
        axes.grid(True)
        axes.legend(loc="lower right")


def accuracy_picture(
    path: Path,
    curves: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]],
    x_label: str = "simulated time (s)",
    title: str = "Accuracy under the same load",
    target: float | None = None,
) -> None:
    """Accuracy over time: a line for the mean over seeds, a band from the worst seed to the best.

    Args:
      path: The PNG file.
      curves: Method -> for each seed its times and accuracies, each [evaluations].
      x_label: What time is counted in.
      title: Of the picture.
      target: Accuracy drawn as a horizontal line.
    """
    _check("comparison", list(curves))
    seeds = max(len(runs) for runs in curves.values())
    with _picture(path, 8.4, 4.6) as figure:
        axes, ends = figure.subplots(), []
        for method, runs in curves.items():
            for times, accuracies in runs:
                _check(method, times, accuracies)
            _check(method, runs)
            horizon = min(times[-1] for times, _ in runs)
            grid = np.unique(np.concatenate([np.asarray(times, dtype=np.float64) for times, _ in runs]))
            grid = grid[grid <= horizon]
            values = np.stack([np.interp(grid, times, accuracies) for times, accuracies in runs])
            style, mean = _style(method), values.mean(axis=0)
            marks = {"marker": style.marker, "markevery": max(len(grid) // 8, 1)}
            axes.plot(grid, mean, color=style.colour, linestyle=style.line, **marks)  # type: ignore[arg-type]
            axes.fill_between(grid, values.min(axis=0), values.max(axis=0), color=style.colour, alpha=0.18, linewidth=0)
            final = np.mean([final_accuracy(accuracies) for _, accuracies in runs])
            ends.append((method, float(grid[-1]), float(mean[-1]), f" {final:.3f}"))
        over = f"Line: mean over {seeds} seeds; band: worst to best seed. " if seeds > 1 else "One seed. "
        axes.set(title=title, xlabel=x_label, ylabel="test accuracy of the full model")
        figure.supxlabel(f"{over}Number: mean of the last three evaluations.", x=0.01, ha="left", fontsize=9, color=_GREY)
        axes.margins(x=0.01)
        if target is not None:
            axes.axhline(target, color=_GREY, linewidth=1, linestyle=":")
            axes.annotate(f"target {target:g}", (0.01, target), xycoords=("axes fraction", "data"), va="bottom", color=_GREY)
        axes.grid(True, axis="y")
        _label_ends(axes, ends)


def utilisation_picture(
    path: Path, shares: Mapping[str, tuple[float, float, float]], title: str = "What became of the devices' resources"
) -> None:
    """A bar for each method: what its devices spent on the model, wasted and left idle.

    Args:
      path: The PNG file.
      shares: Method -> (spent, wasted, idle) in any one unit, disjoint; drawn as shares of their sum.
      title: Of the picture.
    """
    _check("comparison", list(shares))
    parts = (("spent", "#009E73", ""), ("wasted at the deadline", "#D55E00", "///"), ("left idle", "#D9D9D9", ""))
    with _picture(path, 7.6, 1.5 + 0.36 * len(shares)) as figure:
        axes = figure.subplots()
        values = np.array(list(shares.values()), dtype=np.float64)
        values /= np.maximum(values.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        starts = np.cumsum(values, axis=1) - values
        places = np.arange(len(shares))[::-1]
        for part, (label, colour, hatch) in enumerate(parts):
            axes.barh(
                places, values[:, part], left=starts[:, part], height=0.72, color=colour, hatch=hatch,
                edgecolor="white", linewidth=0.8, label=label,
            )  # fmt: skip
            for place, start, value in zip(places, starts[:, part], values[:, part], strict=True):
                if value >= 0.07:
                    box = {"facecolor": colour, "edgecolor": "none", "pad": 1.5}
                    colour_of_text = "black" if part == 2 else "white"
                    axes.text(
                        start + value / 2, place, f"{100 * value:.0f} %", ha="center", va="center", fontsize=9.5,
                        color=colour_of_text, bbox=box,
                    )  # fmt: skip
        axes.set_yticks(places, [_style(method).label for method in shares])
        axes.set(xlim=(0, 1), xlabel="share of the MACs on offer")
        _percent(axes, "x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_title(title, pad=30)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.3, borderpad=0)


def fairness_picture(
    path: Path,
    accuracies: Mapping[str, Sequence[float]],
    tier_names: Sequence[str],
    title: str = "Accuracy on the data of each device tier",
) -> None:
    """How well the model serves weak and strong devices.

    Args:
      path: The PNG file.
      accuracies: Method -> accuracy on the data of each tier, [tiers].
      tier_names: Weakest first, [tiers].
      title: Of the picture.
    """
    _check("comparison", list(accuracies))
    with _picture(path, 7.6, 4.4) as figure:
        axes, ends = figure.subplots(), []
        places = np.arange(len(tier_names))
        for method, values in accuracies.items():
            _check(method, values, tier_names)
            style = _style(method)
            axes.plot(places, values, color=style.colour, marker=style.marker, linestyle=style.line)
            ends.append((method, float(places[-1]), float(values[-1]), ""))
        axes.set_xticks(places, tier_names)
        axes.set(title=title, xlabel="device tier, weakest first", ylabel="test accuracy of the full model")
        axes.margins(x=0.04)
        axes.grid(True, axis="y")
        _label_ends(axes, ends)


def rates_heatmap(
    path: Path,
    rates: Sequence[Sequence[float]],
    group_names: Sequence[str],
    macs_fraction: Sequence[float],
    title: str = "Dropout rate of each layer in the table",
) -> None:
    """The dropout table: a row per entry, cheapest at the top, a column per filter group.

    Args:
      path: The PNG file.
      rates: Dropout rates, [entries, groups].
      group_names: After the layers that create the filters, [groups].
      macs_fraction: Cost of each entry as a fraction of the full network's, [entries].
      title: Of the picture.
    """
    _check("table", rates, macs_fraction)
    _check("table's first entry", rates[0], group_names)
    order = np.argsort(macs_fraction)
    grid = np.asarray(rates, dtype=np.float64)[order]
    with _picture(path, float(np.clip(2.6 + 0.42 * len(group_names), 5, 14)), 2.4 + 0.26 * min(len(grid), 24)) as figure:
        axes = figure.subplots()
        image = axes.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        shown = range(0, len(grid), -(-len(grid) // 24))
        axes.set_yticks(shown, [f"{100 * macs_fraction[order[row]]:.3g} %" for row in shown])
        axes.set_xticks(range(len(group_names)), group_names, rotation=90 if len(group_names) > 8 else 30, fontsize=9)
        if len(group_names) <= 8:
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        if grid.size <= 150:
            for (row, column), rate in np.ndenumerate(grid):
                axes.text(column, row, f"{rate:.2f}", ha="center", va="center", fontsize=8.5,
                          color="black" if rate > 0.55 else "white")  # fmt: skip
        axes.set(title=title, xlabel="filter group", ylabel="MACs of the entry,\nrelative to the full network")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        figure.colorbar(image, label="dropout rate", pad=0.02)


def availability_picture(
    path: Path,
    *,
    times: Sequence[float],
    availability: Sequence[float],
    step_starts: Sequence[float],
    step_ends: Sequence[float],
    step_costs: Sequence[float],
    end: float,
    deadlines: Sequence[float] = (),
    title: str = "One device riding its load",
    x_label: str = "simulated time (s)",
) -> None:
    """One device: what is available, and below it what each mini-batch costs and how long it takes.

    Args:
      path: The PNG file.
      times: When availability changes, first the start, [changes].
      availability: From then on, a fraction of the full speed, [changes].
      step_starts: Start of each mini-batch, [steps].
      step_ends: End of each mini-batch, [steps].
      step_costs: MACs of the chosen entry as a fraction of the full network's, [steps].
      end: Where the picture ends.
      deadlines: Ends of rounds, drawn as vertical lines.
      title: Of the picture.
      x_label: What time is counted in.
    """
    _check("load", times, availability)
    _check("device", step_starts, step_ends, step_costs)
    with _picture(path, 8.4, 4.6) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        steps_x, steps_y = [*times, end], [*availability, availability[-1]]
        above.step(steps_x, steps_y, where="post", color="#0072B2")
        above.fill_between(steps_x, steps_y, step="post", color="#0072B2", alpha=0.15, linewidth=0)
        above.set(title=title, ylabel="available speed", ylim=(0, 1.05), xlim=(times[0], end))
        starts = np.asarray(step_starts, dtype=np.float64)
        widths = np.asarray(step_ends, dtype=np.float64) - starts
        below.bar(starts, step_costs, widths, align="edge", color="#D55E00", edgecolor="white", linewidth=0.6)
        below.set(ylabel="MACs of the\nchosen entry", ylim=(0, 1.05), xlabel=f"{x_label}; a bar is a mini-batch")
        for axes in (above, below):
            _percent(axes, "y")
            axes.grid(True, axis="y")
            for index, deadline in enumerate(deadlines):
                axes.axvline(deadline, color="black", linewidth=1, linestyle="--", label="" if index else "end of a round")
        if len(deadlines):
            above.legend(loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)


def hypervolume_picture(
    path: Path,
    history: Mapping[str, Sequence[float]],
    title: str = "Progress of the search",
    x_label: str = "generation",
) -> None:
    """Dominated hypervolume over the generations of a search, and of those it is compared with.

    Args:
      path: The PNG file.
      history: Name of the search -> hypervolume after each generation, [generations].
      title: Of the picture.
      x_label: What is counted.
    """
    _check("search", list(history))
    with _picture(path, 7.2, 4.0) as figure:
        axes = figure.subplots()
        styles = zip(("#D55E00", "#0072B2", "#009E73", "#CC79A7"), ("o", "s", "^", "D"), strict=True)
        for (name, values), (colour, marker) in zip(history.items(), styles, strict=False):
            _check(name, values)
            marks = {"marker": marker, "markevery": max(len(values) // 12, 1)}
            axes.plot(range(len(values)), values, color=colour, label=name, **marks)  # type: ignore[arg-type]
        axes.set(title=title, xlabel=x_label, ylabel="dominated hypervolume")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(True)
        if len(history) > 1:
            axes.legend(loc="lower right")


def map_picture(
    path: Path,
    *,
    x_values: Sequence[float],
    y_values: Sequence[float],
    winners: Sequence[Sequence[str]],
    margins: Sequence[Sequence[float]],
    title: str = "Who is best where, and DISTREAL's margin over partial work",
    margin_label: str = "DISTREAL minus partial work\n(points of accuracy)",
) -> None:
    """The map of methods: mean availability by rate of change.

    Args:
      path: The PNG file.
      x_values: Mean availability, [columns].
      y_values: Changes of availability a round, [rows].
      winners: Method with the best final accuracy in each cell, [rows, columns]; empty: none.
      margins: Difference of two methods' accuracies, 0 to 1, [rows, columns]; NaN: not run.
      title: Of the picture.
      margin_label: What the colour means.
    """
    _check("map", y_values, winners, margins)
    _check("map's first row", x_values, winners[0], margins[0])
    grid = 100 * np.asarray(margins, dtype=np.float64)
    limit = max(float(np.nanmax(np.abs(grid), initial=0.0)), 1e-9)
    with _picture(path, 2.6 + 1.35 * len(x_values), 1.7 + 0.72 * len(y_values)) as figure:
        axes = figure.subplots()
        image = axes.imshow(grid, cmap="PuOr_r", vmin=-limit, vmax=limit, origin="lower", aspect="auto")
        for (row, column), margin in np.ndenumerate(grid):
            if np.isfinite(margin):
                winner = _style(winners[row][column]).label.replace(", ", ",\n") if winners[row][column] else "–"
                colour = "white" if abs(margin) > 0.65 * limit else "black"
                axes.text(
                    column,
                    row,
                    winner + f"\n{margin:+.1f}".replace("-", "−"),
                    ha="center",
                    va="center",
                    fontsize=9,
                    color=colour,
                )
        axes.set_xticks(range(len(x_values)), [f"{value:g}" for value in x_values])
        axes.set_yticks(range(len(y_values)), [f"{value:g}" for value in y_values])
        axes.set(title=title, xlabel="mean availability", ylabel="changes of availability a round")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        figure.colorbar(image, label=margin_label)


def seconds_picture(
    path: Path,
    macs: Sequence[Sequence[float]],
    seconds: Sequence[Sequence[float]],
    names: Sequence[str],
    title: str = "Time of a training step, measured",
) -> None:
    """Measured seconds against MACs, beside what they would be in proportion.

    Args:
      path: The PNG file.
      macs: Of the entries of each series, as fractions of the full network's, [series][entries].
      seconds: Measured for them, [series][entries].
      names: Of the series, such as executions, networks or devices, [series].
      title: Of the picture.
    """
    _check("measurement", macs, seconds, names)
    with _picture(path, 7.2, 4.4) as figure:
        axes = figure.subplots()
        styles = (("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#332288", "P"))
        for index, name in enumerate(names):
            _check(name, macs[index], seconds[index])
            order = np.argsort(macs[index])
            x, y = np.asarray(macs[index])[order], 1e3 * np.asarray(seconds[index])[order]
            colour, marker = styles[index % len(styles)]
            axes.plot(x, y, color=colour, marker=marker, label=name)
            proportional = "in proportion to MACs" if index == len(macs) - 1 else None
            axes.plot([0, x[-1]], [0, y[-1]], color=_GREY, linewidth=1, linestyle=":", label=proportional, zorder=1)
        axes.set(
            title=title,
            xlabel="MACs of the step, relative to the full network",
            ylabel="milliseconds a step",
            xlim=(0, None),
            ylim=(0, None),
        )
        _percent(axes, "x")
        axes.grid(True)
        axes.legend(loc="lower right")


def _check(what: str, *lists: Sequence[object]) -> None:
    lengths = {len(items) for items in lists}
    if len(lengths) > 1 or 0 in lengths:
        raise InputError(
            f"the {what} can't be drawn: its lists have lengths {[len(items) for items in lists]}, not one above 0"
        )
