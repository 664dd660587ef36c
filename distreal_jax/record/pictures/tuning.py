"""The picture of tuning: how much a method's score depends on its learning rate and batch size."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from distreal_jax.record.pictures.look import GREY, by_logarithm, check_lengths, picture, smaller_model, style_of

_COLUMNS = 3


def sensitivity_picture(
    path: Path,
    trials: Mapping[str, Sequence[tuple[float, int, float]]],
    best: Mapping[str, tuple[float, int, float]],
    rounds: int,
    delivered: Mapping[str, float],
    score_name: str = "accuracy",
) -> None:
    """A panel for each method: its score over the learning rate, a line for each batch size through its best trials.

    Args:
      path: The PNG file.
      trials: Method -> for each trial its learning rate, batch size and validation score after `rounds`.
      best: Method -> learning rate, batch size and score after `rounds` of what was chosen.
      rounds: After which all trials are compared.
      delivered: Method -> MACs of the model that is scored, as a share of the full network's.
      score_name: What the task calls its score.
    """
    check_lengths("tuning", list(trials))
    sizes = sorted({size for points in trials.values() for _, size, _ in points})
    colours = dict(zip(sizes, matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(sizes))), strict=True))
    lines = -(-len(trials) // _COLUMNS)
    columns = min(_COLUMNS, len(trials))
    with picture(path, 1.4 + 3.1 * columns, 1.1 + 2.3 * lines) as figure:
        grid = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)).ravel()
        for axes in grid[len(trials) :]:
            axes.axis("off")
        lowest = slice(max(len(trials) - columns, 0), len(trials))  # of each column, which may not be in the last row
        for axes in grid[lowest]:
            axes.tick_params(axis="x", which="both", labelbottom=True)
        for axes, (method, points) in zip(grid, trials.items(), strict=False):
            for size in sizes:
                of_size = [(rate, score) for rate, batch, score in points if batch == size]
                rates = sorted({rate for rate, _ in of_size})
                highest = [max(score for at, score in of_size if at == rate) for rate in rates]
                axes.plot(rates, highest, color=colours[size], linewidth=1.2)
                axes.plot(*zip(*of_size, strict=True) if of_size else ((), ()), "o", color=colours[size], markersize=4)
            rate, _, score = best[method]
            axes.plot([rate], [score], "o", markersize=11, markerfacecolor="none", color=GREY)
            axes.set_title(f"{style_of(method).label}\n{smaller_model(delivered[method])}".strip(), fontsize=10)
            axes.grid(True, axis="y")
        by_logarithm(grid[0], {rate for points in trials.values() for rate, _, _ in points})  # all share it
        handles = [matplotlib.lines.Line2D([], [], color=colours[size], marker="o", label=f"{size}") for size in sizes]
        figure.legend(handles=handles, loc="outside right upper", title="batch size", fontsize=9)
        figure.supxlabel("learning rate", fontsize=10)
        figure.supylabel(f"validation {score_name} after {rounds} rounds", fontsize=10)
