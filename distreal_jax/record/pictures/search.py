"""The pictures of a search: its front, its hypervolume, and the rates of the table that it found."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from matplotlib.ticker import MaxNLocator

from distreal_jax.errors import InputError
from distreal_jax.record.pictures.look import check_lengths, check_room, in_percent, picture, style_of
from distreal_jax.signs import percent

_STYLES = (("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"))


@dataclasses.dataclass(frozen=True)
class Front:
    """Dropout vectors in the plane of the search.

    Attributes:
      cost: As a fraction of the full network's, [vectors].
      progress: What the search maximises, [vectors].
      standard_error: Of `progress` over repeats, [vectors]; None: not drawn.
    """

    cost: Sequence[float]
    progress: Sequence[float]
    standard_error: Sequence[float] | None = None


def front_picture(
    path: Path,
    *,
    searched: Front,
    uniform: Front,
    title: str,
    progress: str = "progress",
    cost: str = "MACs",
    label: str = "searched, a rate per layer",
) -> None:
    """The searched Pareto front over the curve of uniform rates.

    Args:
      path: The PNG file.
      searched: The front.
      uniform: The same rate in all layers, for several rates.
      title: Of the picture.
      progress: What progress is measured in.
      cost: What cost is measured in.
      label: What was searched, in words.

    Raises:
      InputError: Nothing to draw, lists of different lengths, or the file can't be written; as all pictures.
    """
    curves = ((uniform, "distreal_uniform", "one rate for all layers"), (searched, "distreal", label))
    with picture(path, 7.2, 4.4) as figure:
        axes = figure.subplots()
        for front, method, label in curves:
            errors = front.standard_error if front.standard_error is not None else np.zeros(len(front.progress)).tolist()
            check_lengths("front", front.cost, front.progress, errors)
            order = np.argsort(front.cost)
            x, y, error = (np.asarray(values)[order] for values in (front.cost, front.progress, errors))
            style = style_of(method)
            axes.errorbar(x, y, error, color=style.colour, marker=style.marker, capsize=2.5, elinewidth=1, label=label)
        axes.set(
            title=title, xlabel=f"{cost} of a training step, relative to the full network", ylabel=progress, xlim=(0, None)
        )
        in_percent(axes, "x")
        axes.grid(True)
        axes.legend(loc="lower right")


def hypervolume_picture(
    path: Path,
    history: Mapping[str, Sequence[float]],
    title: str = "Progress of the search",
    x_label: str = "generation",
) -> None:
    """Dominated hypervolume over the generations of a search, and of those it is compared with.

    Args:
      path: The PNG file.
      history: Name of the search -> hypervolume after each generation, [generations]; at most four.
      title: Of the picture.
      x_label: What is counted.

    Raises:
      InputError: Nothing to draw, or more searches; as all pictures.
    """
    check_lengths("search", list(history))
    check_room("searches", list(history), len(_STYLES))
    with picture(path, 7.2, 4.0) as figure:
        axes = figure.subplots()
        for (name, values), (colour, marker) in zip(history.items(), _STYLES, strict=False):
            check_lengths(name, values)
            marks = {"marker": marker, "markevery": max(len(values) // 12, 1)}
            axes.plot(range(1, len(values) + 1), values, color=colour, label=name, **marks)  # type: ignore[arg-type]
        axes.set(title=title, xlabel=x_label, ylabel="dominated hypervolume")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(True)
        if len(history) > 1:
            axes.legend(loc="lower right")


def rates_heatmap(
    path: Path,
    rates: Sequence[Sequence[float]],
    group_names: Sequence[str],
    costs: Sequence[float],
    title: str = "",
    *,
    cost: str = "MACs",
    others: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> None:
    """The dropout table: a row per entry, cheapest at the top, a column per filter group and for what else is left out.

    Args:
      path: The PNG file.
      rates: Dropout rates, [entries, groups].
      group_names: After the layers that create the filters, [groups].
      costs: Of each entry as a fraction of the full network's, [entries].
      title: Of the picture; says what is shown if empty.
      cost: What cost is measured in.
      others: What else is left out, such as examples -> share that is not trained, [entries].
    """
    check_lengths("table", rates, costs, *others.values())
    if len(rates[0]) != len(group_names) or not (group_names or others):
        raise InputError(
            f"the table can't be drawn: its first entry has {len(rates[0])} rates for {len(group_names)} groups"
        )
    order = np.argsort(costs)
    grid = np.column_stack([np.asarray(rates, dtype=np.float64), *others.values()])[order]
    names = [*group_names, *others]
    with picture(path, float(np.clip(2.6 + 0.42 * len(names), 5, 14)), 2.4 + 0.26 * min(len(grid), 24)) as figure:
        axes = figure.subplots()
        image = axes.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        shown = range(0, len(grid), -(-len(grid) // 24))
        axes.set_yticks(shown, [percent(costs[order[row]]) for row in shown])
        axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 8 else 30, fontsize=9)
        if len(names) <= 8:
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        if grid.size <= 150:
            for (row, column), rate in np.ndenumerate(grid):
                axes.text(column, row, f"{rate:.2f}", ha="center", va="center", fontsize=8.5,
                          color="black" if rate > 0.55 else "white")  # fmt: skip
        if others:
            axes.axvline(len(group_names) - 0.5, color="white", linewidth=3)
        axes.set(
            xlabel="filter group, and other knobs" if others else "filter group",
            ylabel=f"{cost} of the entry,\nrelative to the full network",
        )
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        figure.colorbar(image, label="share that is not trained" if others else "dropout rate", pad=0.02)
        title = title or ("What each entry of the table leaves out" if others else "Dropout rate of each layer in the table")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")  # above the scale of colours as well
