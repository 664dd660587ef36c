"""The pictures of methods under the same load: accuracy, what became of resources, fairness, and who is best where."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distreal_jax.record.pictures.look import GREY, check_lengths, in_percent, label_ends, picture, style_of, styles_of
from distreal_jax.record.statistics import final_accuracy


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
    check_lengths("comparison", list(curves))
    seeds = max(len(runs) for runs in curves.values())
    with picture(path, 8.4, 4.6) as figure:
        axes, ends, styles = figure.subplots(), [], styles_of(curves)
        for method, runs in curves.items():
            for times, accuracies in runs:
                check_lengths(method, times, accuracies)
            check_lengths(method, runs)
            horizon = min(times[-1] for times, _ in runs)
            grid = np.unique(np.concatenate([np.asarray(times, dtype=np.float64) for times, _ in runs]))
            grid = grid[grid <= horizon]
            values = np.stack([np.interp(grid, times, accuracies) for times, accuracies in runs])
            style, mean = styles[method], values.mean(axis=0)
            marks = {"marker": style.marker, "markevery": max(len(grid) // 8, 1)}
            axes.plot(grid, mean, color=style.colour, linestyle=style.line, **marks)  # type: ignore[arg-type]
            axes.fill_between(grid, values.min(axis=0), values.max(axis=0), color=style.colour, alpha=0.18, linewidth=0)
            final = np.mean([final_accuracy(accuracies) for _, accuracies in runs])
            ends.append((method, float(grid[-1]), float(mean[-1]), f" {final:.3f}"))
        over = f"Line: mean over {seeds} seeds; band: worst to best seed. " if seeds > 1 else "One seed. "
        axes.set(title=title, xlabel=x_label, ylabel="test accuracy of the model")
        figure.supxlabel(f"{over}Number: mean of the last three evaluations.", x=0.01, ha="left", fontsize=9, color=GREY)
        axes.margins(x=0.01)
        if target is not None:
            axes.axhline(target, color=GREY, linewidth=1, linestyle=":")
            axes.annotate(f"target {target:g}", (0.01, target), xycoords=("axes fraction", "data"), va="bottom", color=GREY)
        axes.grid(True, axis="y")
        label_ends(axes, ends)


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
) -> None:
    """How well the model serves weak and strong devices.

    Args:
      path: The PNG file.
      accuracies: Method -> accuracy on the data of each tier, [tiers].
      tier_names: Weakest first, [tiers].
      title: Of the picture.
    """
    check_lengths("comparison", list(accuracies))
    with picture(path, 7.6, 4.4) as figure:
        axes, ends, styles = figure.subplots(), [], styles_of(accuracies)
        places = np.arange(len(tier_names))
        for method, values in accuracies.items():
            check_lengths(method, values, tier_names)
            style = styles[method]
            axes.plot(places, values, color=style.colour, marker=style.marker, linestyle=style.line)
            ends.append((method, float(places[-1]), float(values[-1]), ""))
        axes.set_xticks(places, tier_names)
        axes.set(title=title, xlabel="device tier, weakest first", ylabel="test accuracy of the model")
        axes.margins(x=0.04)
        axes.grid(True, axis="y")
        label_ends(axes, ends)


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
    check_lengths("map", y_values, winners, margins)
    check_lengths("map's first row", x_values, winners[0], margins[0])
    grid = 100 * np.asarray(margins, dtype=np.float64)
    limit = max(float(np.nanmax(np.abs(grid), initial=0.0)), 1e-9)
    with picture(path, 2.6 + 1.35 * len(x_values), 1.7 + 0.72 * len(y_values)) as figure:
        axes = figure.subplots()
        image = axes.imshow(grid, cmap="PuOr_r", vmin=-limit, vmax=limit, origin="lower", aspect="auto")
        for (row, column), margin in np.ndenumerate(grid):
            if np.isfinite(margin):
                winner = style_of(winners[row][column]).label.replace(", ", ",\n") if winners[row][column] else "–"
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
