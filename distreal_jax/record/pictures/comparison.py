"""The pictures of methods under the same load: accuracy over time and cost, what became of resources, fairness, the map."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patheffects import withStroke

from distreal_jax.record.device_model import DeviceModel
from distreal_jax.record.method_result import MethodResult
from distreal_jax.record.pictures.look import (
    GREY,
    by_error,
    by_logarithm,
    check_lengths,
    in_percent,
    label_ends,
    picture,
    smaller_model,
    style_of,
    styles_of,
)
from distreal_jax.record.statistics import FEWEST_SEEDS, final_accuracy, of_evaluations
from distreal_jax.record.summary import AXES
from distreal_jax.signs import sentence

_CROWDED = 0.9  # of accuracy, chosen by us: above it a picture has an axis of the logarithm of the error
_CAPTION = 110  # letters in a line below a picture of this width
_TIER_MARKERS = ("v", "o", "^")  # weakest, middle, strongest


def accuracy_picture(
    path: Path,
    curves: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]],
    x_label: str = "simulated time (s)",
    title: str = "",
    targets: Sequence[float] = (),
    score: str = "test accuracy",
    delivered: Mapping[str, float] = MappingProxyType({}),
    not_shown: Sequence[str] = (),
) -> None:
    """Accuracy over time: a line for the mean over seeds, a band from the worst seed to the best, or a line for each of few.

    Args:
      path: The PNG file.
      curves: Method -> for each seed its times and accuracies, each [evaluations].
      x_label: What time is counted in.
      title: Of the picture; the method's name, or that methods are compared, if empty.
      targets: Accuracies drawn as horizontal lines.
      score: As `MethodResult.scored_by`, for an axis.
      delivered: Method -> MACs of the model that it delivers, as a share of the full network's; absent: that network.
      not_shown: Methods of the comparison that end lower and are left out, to be named.
    """
    check_lengths("comparison", list(curves))
    seeds = max(len(runs) for runs in curves.values())
    with picture(path, 8.4, 4.6) as figure:
        axes, styles = figure.subplots(), styles_of(curves)
        ends, finals = dict[str, tuple[float, float]](), dict[str, float]()
        for method, runs in curves.items():
            for times, accuracies in runs:
                check_lengths(method, times, accuracies)
            check_lengths(method, runs)
            grid, values = _mean_curve(runs)
            style, mean = styles[method], values.mean(axis=0)
            marks = {"marker": style.marker, "markevery": max(len(grid) // 8, 1)}
            axes.plot(grid, mean, color=style.colour, linestyle=style.line, **marks)  # type: ignore[arg-type]
            if len(runs) >= FEWEST_SEEDS:
                axes.fill_between(grid, values.min(axis=0), values.max(axis=0), color=style.colour, alpha=0.18, linewidth=0)
            elif len(runs) > 1:
                axes.plot(grid, values.T, color=style.colour, alpha=0.35, linewidth=0.7)
            finals[method] = float(np.mean([final_accuracy(accuracies) for _, accuracies in runs]))
            ends[method] = float(grid[-1]), float(mean[-1])
        spread = "band: worst to best seed" if seeds >= FEWEST_SEEDS else "thin lines: each seed"
        over = f"Line: mean over {seeds} seeds; {spread}. " if seeds > 1 else "One seed. "
        title = title or ("Methods under the same load" if len(curves) > 1 else styles[next(iter(curves))].label)
        axes.set(title=title, xlabel=x_label, ylabel=f"{score} of the delivered model")
        number = "Number, and order of names" if len(curves) > 1 else "Number"
        words = f"{over}{number}: {of_evaluations(min(len(times) for runs in curves.values() for times, _ in runs))}."
        axes.margins(x=0.01)
        axes.set_xlim(left=0)  # before the first evaluation nothing is known, and there is room for the targets
        if _crowds_the_top([*finals.values()], curves):
            by_error(axes)
            words += " Vertical axis: logarithm of the error."
        for target in targets:
            axes.axhline(target, color=GREY, linewidth=1, linestyle=":", zorder=0)
            axes.annotate(
                f"{target:g}", (0.005, target), xycoords=("axes fraction", "data"), va="center", color=GREY, fontsize=9,
                annotation_clip=True, path_effects=[withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip
        words += " Dotted: targets." if targets else ""
        words += f" Not shown, as they end lower: {', '.join(not_shown)}." if not_shown else ""
        figure.supxlabel(textwrap.fill(words, _CAPTION), x=0.01, ha="left", fontsize=9, color=GREY)
        axes.grid(True, axis="y")
        # Names stand where lines end, in the order of their numbers, which may be another than that of the ends.
        upwards = sorted(finals, key=finals.__getitem__)
        places = zip(upwards, sorted(y for _, y in ends.values()), strict=True)
        words_of = {method: f" {final:.3f}{_smaller(delivered, method)}" for method, final in finals.items()}
        label_ends(axes, [(method, *ends[method], place, words_of[method]) for method, place in places], styles)


def _crowds_the_top(
    finals: Sequence[float], curves: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]]
) -> bool:
    """Whether most methods end so near to 1 that a linear axis can't tell them apart."""
    fractions = all(0 <= value <= 1 for runs in curves.values() for _, values in runs for value in values)
    return fractions and len(finals) > 1 and float(np.median(finals)) > _CROWDED


def utilisation_picture(
    path: Path, shares: Mapping[str, tuple[float, float, float]], title: str = "What became of the devices' resources"
) -> None:
    """A bar for each method: what its devices spent on the model, wasted and left idle.

    Args:
      path: The PNG file.
      shares: Method -> (spent, wasted, idle) in any one unit, disjoint; drawn as shares of their sum.
      title: Of the picture.
    """
    check_lengths("comparison", list(shares))
    parts = (("spent", "#009E73", ""), ("wasted at the deadline", "#D55E00", "///"), ("left idle", "#D9D9D9", ""))
    with picture(path, 7.6, 1.5 + 0.36 * len(shares)) as figure:
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
        axes.set_yticks(places, [style_of(method).label for method in shares])
        axes.set(xlim=(0, 1), xlabel="share of the MACs on offer")
        in_percent(axes, "x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_title(title, pad=30)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.3, borderpad=0)


def fairness_picture(
    path: Path,
    accuracies: Mapping[str, Sequence[float]],
    tier_names: Sequence[str],
    title: str = "Accuracy on the data of each device tier",
    delivered: Mapping[str, float] = MappingProxyType({}),
    score: str = "test accuracy",
) -> None:
    """How well the model serves weak and strong devices: a row for each method, a point for each tier.

    Args:
      path: The PNG file.
      accuracies: Method -> accuracy on the data of each tier, [tiers].
      tier_names: Weakest first, [tiers].
      title: Of the picture.
      delivered: As for `accuracy_picture`.
      score: As for `accuracy_picture`.
    """
    check_lengths("comparison", list(accuracies))
    with picture(path, 7.6, 1.7 + 0.36 * len(accuracies)) as figure:
        axes, styles = figure.subplots(), styles_of(accuracies)
        places = np.arange(len(accuracies))[::-1]
        for place, (method, values) in zip(places, accuracies.items(), strict=True):
            check_lengths(method, values, tier_names)
            axes.plot([min(values), max(values)], [place, place], color=styles[method].colour, linewidth=1, alpha=0.4)
            for tier, value in enumerate(values):
                face = styles[method].colour if tier % 2 == 0 else "white"
                marker = _TIER_MARKERS[tier % len(_TIER_MARKERS)]
                axes.plot([value], [place], marker=marker, color=styles[method].colour, markerfacecolor=face, linestyle="")
        for tier, name in enumerate(tier_names):
            face = GREY if tier % 2 == 0 else "white"
            marker = _TIER_MARKERS[tier % len(_TIER_MARKERS)]
            axes.plot([], [], marker=marker, color=GREY, markerfacecolor=face, linestyle="", label=name)
        axes.set_yticks(places, [f"{styles[method].label}{_smaller(delivered, method)}" for method in accuracies])
        axes.set(xlabel=f"{score} of the delivered model", ylim=(-0.6, len(accuracies) - 0.4))
        axes.grid(True, axis="x")
        axes.tick_params(axis="y", length=0)
        axes.set_title(title, pad=30)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(tier_names), borderaxespad=0.3, borderpad=0)


def costs_picture(path: Path, runs: Mapping[str, Sequence[MethodResult]], device: DeviceModel) -> None:
    """Accuracy over what it costs: MACs, bytes, energy, time with links, each the mean over seeds, and peak memory.

    Args:
      path: The PNG file.
      runs: Method -> its results, one for each seed.
      device: The model of energy and of links.
    """
    check_lengths("comparison", list(runs))
    score = next(iter(runs.values()))[0].scored_by
    panels = (
        ("macs", "MACs of all devices"),
        ("bytes", "bytes up and down"),
        ("joules", "energy (J, by the model)"),
        ("link_seconds", f"time with links of {device.megabits_per_second:g} Mbit/s (s)"),
    )
    with picture(path, 10.6, 6.4) as figure:
        grid, styles = figure.subplots(2, 3).ravel(), styles_of(runs)
        shares = {method: float(np.mean([result.delivered for result in results])) for method, results in runs.items()}
        for axes, (axis, label) in zip(grid, panels, strict=False):
            for method, results in runs.items():
                along, values = _mean_curve([(AXES[axis](result, device), result.accuracies) for result in results])
                style = styles[method]
                axes.plot(along, values.mean(axis=0), color=style.colour, linestyle=style.line)
                axes.plot(along[-1:], values.mean(axis=0)[-1:], color=style.colour, marker=style.marker or "_")
            if axis != "link_seconds":  # seconds of all methods are of one size
                by_logarithm(axes)
            axes.set(xlabel=label, ylabel=score)
            axes.grid(True, axis="y")
        for method, results in runs.items():
            style, memory = styles[method], max(result.memory_bytes for result in results)
            final = float(np.mean([result.final for result in results]))
            drawn = {"color": style.colour, "marker": style.marker or "_", "markeredgewidth": 2.0, "linestyle": ""}
            grid[4].plot([1e-6 * memory], [final], **drawn)
            grid[5].plot([], [], **(drawn | {"linestyle": style.line}), label=f"{style.label}{_smaller(shares, method)}")
        grid[4].set(xlabel="peak memory of a device (MB)", ylabel=f"final {score}")
        grid[4].grid(True, axis="y")
        grid[5].axis("off")
        grid[5].legend(loc="center left", fontsize=9)
        figure.suptitle(f"{sentence(score)} of the delivered model over what it costs", x=0.01, ha="left", weight="bold")


def map_picture(
    path: Path,
    *,
    x_values: Sequence[float],
    y_values: Sequence[float],
    winners: Sequence[Sequence[str]],
    best: Sequence[Sequence[float]],
    delivered: Sequence[Sequence[float]],
    margins: Sequence[Sequence[float]],
    title: str = "DISTREAL's margin over partial work",
    margin_label: str = "DISTREAL minus partial work\n(points of accuracy)",
) -> None:
    """The map of methods, mean availability by rate of change: which is best, and apart from it the margin between two.

    Args:
      path: The PNG file.
      x_values: Mean availability, [columns].
      y_values: Changes of availability a round, [rows].
      winners: Method with the best final accuracy in each cell, [rows, columns]; empty: none.
      best: That accuracy, 0 to 1, [rows, columns].
      delivered: MACs of the model that it delivers, as a share of the full network's, [rows, columns].
      margins: Difference of two methods' accuracies, 0 to 1, [rows, columns]; NaN: not run.
      title: Of the margin.
      margin_label: What its colour means.
    """
    check_lengths("map", y_values, winners, best, delivered, margins)
    check_lengths("map's first row", x_values, winners[0], best[0], delivered[0], margins[0])
    grid = 100 * np.asarray(margins, dtype=np.float64)
    limit = max(float(np.nanmax(np.abs(grid), initial=0.0)), 1.0)  # below a point, margins stay pale
    with picture(path, 3.6 + 2.2 * len(x_values), 2.0 + 0.84 * len(y_values)) as figure:
        left, right = figure.subplots(1, 2)
        shades = [[_shade(method) for method in row] for row in winners]
        left.imshow(np.array(shades), origin="lower", aspect="auto")
        image = right.imshow(grid, cmap="PuOr_r", vmin=-limit, vmax=limit, origin="lower", aspect="auto")
        for (row, column), margin in np.ndenumerate(grid):
            if winners[row][column]:
                style = style_of(winners[row][column])
                of = smaller_model(delivered[row][column])
                words = _in_lines(style.label, 14) + f"\n{best[row][column]:.3f}\n{of}"
                left.text(column, row, words.strip(), ha="center", va="center", fontsize=9)
            if np.isfinite(margin):
                colour = "white" if abs(margin) > 0.65 * limit else "black"
                words = f"{margin:+z.1f}".replace("-", "−")
                right.text(column, row, words, ha="center", va="center", fontsize=9, color=colour)
        broad = int(9.5 * (1.2 + 1.1 * len(x_values)))  # characters of a heading above the cells
        for axes, heading in ((left, "Best method and its accuracy"), (right, title)):
            axes.set_xticks(range(len(x_values)), [f"{value:g}" for value in x_values])
            axes.set_yticks(range(len(y_values)), [f"{value:g}" for value in y_values])
            axes.set(title=_in_lines(heading, broad), xlabel="mean availability")
            axes.spines[:].set_visible(False)
            for axis, values in ((axes.xaxis, x_values), (axes.yaxis, y_values)):  # cells that look alike are still cells
                axis.set_ticks(np.arange(1, len(values)) - 0.5, minor=True)
            axes.grid(True, which="minor", color="white", linewidth=1.5)
            axes.set_axisbelow(False)
            axes.tick_params(which="both", length=0)
        left.set_ylabel("changes of availability a round")
        figure.colorbar(image, ax=right, label=margin_label)


def _in_lines(words: str, width: int) -> str:
    """Text in lines of at most so many characters where that can be; lines may end within the brackets of a method."""
    lines = [""]
    for part in re.findall(r"[^\s\[,]*[\s\[,]?", words):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _shade(method: str) -> tuple[float, ...]:
    """A light shade of a method's colour, for a cell of the map; white for none."""
    return to_rgb("white") if not method else tuple(1 - 0.3 * (1 - part) for part in to_rgb(style_of(method).colour))


def _smaller(delivered: Mapping[str, float], method: str) -> str:
    """What stands after a name where the accuracy is not the full network's."""
    words = smaller_model(delivered.get(method, 1.0))
    return f" ({words})" if words else ""


def _mean_curve(runs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Points [points] up to the end of the shortest run, and each run's value there, [seeds, points]."""
    horizon = min(times[-1] for times, _ in runs)
    grid = np.unique(np.concatenate([np.asarray(times, dtype=np.float64) for times, _ in runs]))
    grid = grid[grid <= horizon]
    return grid, np.stack([np.interp(grid, times, values) for times, values in runs])
