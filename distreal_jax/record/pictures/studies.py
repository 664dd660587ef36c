"""The pictures of what a search is worth: against rivals, its proxy against the outcome, its table in other conditions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from distreal_jax.record.pictures.look import check_lengths, check_room, in_percent, picture, style_of
from distreal_jax.record.pictures.search import Front

_STYLES = (
    ("#D55E00", "o"), ("#E69F00", "s"), ("#0072B2", "^"), ("#009E73", "D"), ("#CC79A7", "v"),
    ("#56B4E9", "P"), ("#661100", "X"), ("#999933", "h"), ("#332288", "*"),
)  # fmt: skip
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_COST = "MACs, relative to the full network"


def rivals_picture(
    path: Path,
    fronts: Mapping[str, Front],
    areas: Mapping[str, Sequence[float]],
    title: str = "What a search is worth",
) -> None:
    """The fronts that several ways to choose vectors end with, and the areas below them for several seeds.

    Args:
      path: The PNG file.
      fronts: Name of the way -> its front with one seed; at most nine ways.
      areas: The same names -> area for each seed, [seeds]; the line is their mean.
      title: Of the picture.

    Raises:
      InputError: Nothing to draw, too many ways, lists that don't match, or the file can't be written; as all pictures.
    """
    names = list(fronts)
    check_lengths("rivals", names, list(areas))
    check_room("rivals", names, len(_STYLES))
    check_lengths("rivals' seeds", *(areas[name] for name in names))
    with picture(path, 10.4, 4.4) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        places = np.arange(len(names))
        values = np.array([areas[name] for name in names], dtype=np.float64)
        for place, name, (colour, marker) in zip(places, names, _STYLES, strict=False):
            _curve(left, fronts[name], colour, marker, name)
            right.scatter(np.full(values.shape[1], place), values[place], color=colour, marker=marker, s=28, zorder=2)
            right.hlines(values[place].mean(), place - 0.3, place + 0.3, color=colour, linewidth=2.5)
        left.set(title=title, xlabel=_COST, ylabel="gain of accuracy in a short training")
        _logarithmic(left)
        left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=9.5)  # where no front is
        right.set_xticks(places, names, rotation=25, ha="right", rotation_mode="anchor", fontsize=9.5)
        right.set(ylabel="area below the front", xlim=(-0.6, len(names) - 0.4))
        right.grid(True, axis="y")


def proxy_picture(
    path: Path,
    proxies: Mapping[str, Sequence[float]],
    outcome: Sequence[float],
    macs_fraction: Sequence[float],
    title: str = "Does a short training predict the accuracy of a federation?",
) -> None:
    """Accuracy of the federation that trained with a vector, over what each proxy measured of it; colour is cost.

    Args:
      path: The PNG file.
      proxies: Name of the proxy, a panel each -> its measurements, [vectors].
      outcome: Test accuracy of the federation, [vectors].
      macs_fraction: Cost as a fraction of the full network's, [vectors].
      title: Of the picture.
    """
    check_lengths("proxy", list(proxies))
    check_lengths("proxy", outcome, macs_fraction, *proxies.values())
    with picture(path, 1.6 + 4.2 * len(proxies), 4.2) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(proxies), sharey=True))
        for axes, (name, measured) in zip(panels, proxies.items(), strict=True):
            points = axes.scatter(
                measured, outcome, c=macs_fraction, cmap="cividis", norm=LogNorm(), s=46, edgecolors="white", linewidths=0.6
            )
            axes.set_title(name, fontsize=10.5, fontweight="normal")
            axes.set(xlabel="gain of accuracy in a short training")
            axes.locator_params(axis="x", nbins=5)  # or the numbers of panels meet
            axes.grid(True)
        panels[0].set_ylabel("test accuracy of the federation")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        bar = figure.colorbar(points, ax=panels.tolist(), label=_COST)
        low, high = min(macs_fraction), max(macs_fraction)
        bar.set_ticks([tick for tick in _TICKS if low <= tick <= high])
        bar.ax.minorticks_off()
        in_percent(bar.ax, "y")


def conditions_picture(
    path: Path, conditions: Mapping[str, tuple[Front, Front]], title: str = "Does the table carry over?"
) -> None:
    """A table and vectors of one rate for all layers, measured under several conditions, a panel each.

    Args:
      path: The PNG file.
      conditions: What is different -> the table's entries and the uniform vectors as measured then.
      title: Of the picture.
    """
    check_lengths("conditions", list(conditions))
    with picture(path, 1.0 + 3.2 * len(conditions), 3.9) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(conditions)))
        for axes, (name, fronts) in zip(panels, conditions.items(), strict=True):
            for front, method, label in zip(
                fronts, ("distreal", "distreal_uniform"), ("the table", "one rate for all layers"), strict=True
            ):
                _curve(axes, front, style_of(method).colour, style_of(method).marker, label)
            axes.set_title(name, fontsize=10.5, fontweight="normal")
            _logarithmic(axes, ticks=(0.01, 0.03, 0.1, 0.3, 1.0))
        figure.supxlabel(_COST, fontsize=11)
        panels[0].set_ylabel("gain of accuracy\nin a short training")
        panels[0].legend(loc="upper left", fontsize=9.5)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")


def _curve(axes: Axes, front: Front, colour: str, marker: str, label: str) -> None:
    errors = front.standard_error if front.standard_error is not None else np.zeros(len(front.progress)).tolist()
    check_lengths("front", front.cost, front.progress, errors)
    order = np.argsort(front.cost)
    x, y, error = (np.asarray(values)[order] for values in (front.cost, front.progress, errors))
    axes.errorbar(
        x, y, error, color=colour, marker=marker, markersize=4.5, capsize=2, elinewidth=1, linewidth=1.4, label=label
    )


def _logarithmic(axes: Axes, ticks: Sequence[float] = _TICKS) -> None:
    """The axis of cost by its logarithm, for a table serves devices of a twentieth of the resources as well as others."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.minorticks_off()
    in_percent(axes, "x")
    axes.grid(True)
