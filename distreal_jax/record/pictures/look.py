"""How every picture looks: its fonts, the style of each method, names at the ends of lines, and PNG files.

A method has the same colour, marker and line in every picture. Colours are told apart by the colour-blind (Okabe and Ito,
2008, with Tol's muted set beyond its eight), and marker or label says the same again.
"""

import contextlib
import dataclasses
import io
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from distreal_jax.errors import InputError
from distreal_jax.files import write_atomically
from distreal_jax.record.report import quantity

_DOTS_PER_INCH = 150
_MOST_LETTERS = 16  # of all round numbers along such an axis, chosen by us: beyond, they run into each other in a panel
_MOST_MARKS = 6  # of a logarithmic axis, chosen by us: so many numbers stand apart in a panel
_LEAST_ERROR = 0.003  # added to an error before its logarithm, so that none has none; chosen by us
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
GREY = "#666666"


@dataclasses.dataclass(frozen=True)
class Style:
    """How a method looks in every picture.

    Attributes:
      label: What it is called.
      colour: Of its line and marker, as `#rrggbb`.
      marker: Of its points; "": none.
      line: Matplotlib's line style.
    """

    label: str
    colour: str
    marker: str
    line: str = "-"


_STYLES = {
    "distreal": Style("DISTREAL", "#D55E00", "o"),
    "distreal_uniform": Style("DISTREAL, uniform rates", "#E69F00", "s"),
    "federated_dropout": Style("Federated Dropout", "#CC79A7", "v"),
    "heterofl": Style("HeteroFL", "#0072B2", "^"),
    "fjord": Style("FjORD", "#56B4E9", "D"),
    "fedrolex": Style("FedRolex", "#332288", "P"),
    "small_network": Style("small network", "#999933", "X"),
    "small_ensemble": Style("ensemble of small networks", "#DDAA33", "d"),
    "drop_stragglers": Style("stragglers dropped", "#882255", "<"),
    "partial_work": Style("partial work", "#009E73", ">"),
    "adaptive_batch": Style("adaptive batch", "#B2182B", "*"),
    "fedprox": Style("FedProx", "#44AA99", "p"),
    "fednova": Style("FedNova", "#117733", "h"),
    "cocofl": Style("CoCoFL", "#E7298A", "s"),
    "timelyfl": Style("TimelyFL", "#7570B3", "^"),
    "salf": Style("SALF", "#8C510A", "v"),
    "slt": Style("SLT", "#A6761D", "o"),
    "filter_norms": Style("filters by norm", "#E41A1C", "D"),
    "fluid": Style("FLuID", "#F781BF", "h"),
    "shuffled_partition": Style("shuffled partition", "#377EB8", "P"),
    "fedgmr": Style("FedGMR", "#984EA3", "X"),
    "full_resources": Style("full resources", "#000000", "", "--"),
}
_OTHER_COLOURS = ("#117733", "#AA4499", "#661100", "#44AA99", "#6699CC", "#888888")
_OTHER_MARKERS = ("p", "h", "*", "d", "8")


def style_of(method: str) -> Style:
    """A method's style; where it has none of its own, one made from its name, so that it too is the same everywhere."""
    return styles_of([method])[method]


def styles_of(methods: Iterable[str]) -> dict[str, Style]:
    """Styles of methods in one picture; those made from names are changed where two would look alike."""
    styles: dict[str, Style] = {}
    for method in methods:
        looks = {(style.colour, style.marker) for style in styles.values()}
        colours, made = {colour for colour, _ in looks}, _made(method)
        alike = [(style.colour in colours) + ((style.colour, style.marker) in looks) for style in made]
        styles[method] = _STYLES.get(method) or made[alike.index(min(alike))]
    return styles


def _made(method: str) -> list[Style]:
    """All styles for a method without one of its own; which is the first is in its name."""
    first, label = zlib.crc32(method.encode()), method.replace("_", " ")
    numbers = range(first, first + len(_OTHER_COLOURS) * len(_OTHER_MARKERS))
    return [
        Style(label, _OTHER_COLOURS[number % len(_OTHER_COLOURS)], _OTHER_MARKERS[number % len(_OTHER_MARKERS)], "-.")
        for number in numbers
    ]


def smaller_model(share: float) -> str:
    """What stands beside an accuracy that is not the full network's: MACs of the model, as a share of that network's."""
    return "" if share == 1 else f"{share:.1%} of all MACs"


@contextlib.contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure, which is written as PNG when the `with` block ends.

    Args:
      path: The file.
      width: In inches.
      height: In inches.
    """
    with matplotlib.rc_context(_LOOK):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=_DOTS_PER_INCH)
    write_atomically(Path(path), png.getvalue())


def in_percent(axes: Axes, axis: str) -> None:
    """Marks the fractions along an axis, `x` or `y`, in percent."""
    getattr(axes, f"{axis}axis").set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def by_error(axes: Axes) -> None:
    """Draws fractions near 1 by the logarithm of what is missing to 1, so that 0.97 and 0.99 are apart."""

    def forward(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return -np.log10(np.maximum(1 + _LEAST_ERROR - values, 1e-9))

    axes.set_yscale("function", functions=(forward, lambda scaled: 1 + _LEAST_ERROR - 10.0**-scaled))
    low, high = max(axes.get_ylim()[0], 0.0), 1 - 0.7 * (1 - axes.dataLim.y1)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(
        FixedLocator([tick for tick in (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1) if low <= tick <= high])
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def by_logarithm(axes: Axes, values: Collection[float] = ()) -> None:
    """Draws x by its logarithm, marked in plain numbers that stand apart; called when all is drawn.

    Args:
      axes: What is drawn into.
      values: Those that there are, which are marked if they are few; otherwise round numbers.
    """
    axes.set_xscale("log")

    def shown(value: float, _: int = 0) -> str:
        return quantity(value).strip()

    if 0 < len(values) <= _MOST_MARKS:
        marks = sorted(values)
    else:
        marks = marks_of_logarithm(*axes.get_xlim())
        if sum(len(shown(mark)) for mark in marks) > _MOST_LETTERS:  # such as 5 M, 10 M, 20 M, 50 M, 100 M
            marks = marks[::2]
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_major_formatter(FuncFormatter(shown))
    axes.xaxis.set_minor_locator(NullLocator())


def marks_of_logarithm(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, both above 0, evenly spread over the logarithm: at least 2, at most 6."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        marks = [mark for power in powers for step in steps if low <= (mark := float(f"{step}e{power}")) <= high]
        if len(marks) <= _MOST_MARKS:
            break
    if len(marks) < 2:  # less than an octave
        return [float(mark) for mark in MaxNLocator(3).tick_values(low, high) if low <= mark <= high]
    return marks[:: -(-len(marks) // _MOST_MARKS)]


def label_ends(
    axes: Axes, ends: Sequence[tuple[str, float, float, float, str]], styles: Mapping[str, Style] | None = None
) -> None:
    """Names lines to the right, moved apart where names would overlap.

    Args:
      axes: Where the lines are.
      ends: Of each line: method, x and y of its end, the y at which its name belongs, and words after the name. Of names
        that belong at one y, the later stands higher.
      styles: Of the methods; None: `styles_of` them, in this order.
    """
    styles = styles or styles_of(method for method, *_ in ends)
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    left, right = axes.get_xlim()
    limits, scale = axes.get_ylim(), axes.yaxis.get_transform()
    bottom, top = scale.transform(np.array(limits))
    points = axes.get_window_extent().height * 72 / axes.figure.dpi
    spacing = 13.5 / points * (top - bottom)  # a line of 9.5 points and its leading
    order = sorted(range(len(ends)), key=lambda index: ends[index][3])
    places = scale.transform(np.array([ends[index][3] for index in order]))
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
    for index, place in zip(order, scale.inverted().transform(places), strict=True):
        method, x, y, _, words = ends[index]
        style = styles[method]
        mark_x = right + 0.05 * (right - left)
        # faint, for it is no part of the curve
        axes.plot([x, mark_x], [y, place], color=style.colour, linewidth=0.7, alpha=0.4, clip_on=False)
        axes.plot([mark_x], [place], color=style.colour, marker=style.marker or "_", clip_on=False)
        axes.annotate(
            f"{style.label}{words}", (mark_x, place), (8, 0), textcoords="offset points", color=style.colour,
            fontsize=9.5, va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set(xlim=(left, right), ylim=limits)


def check_room(what: str, names: Sequence[str], room: int) -> None:
    """Refuses more things than a picture has styles for.

    Args:
      what: What they are, for errors.
      names: All of them.
      room: How many a picture can show.

    Raises:
      InputError: There are more.
    """
    if len(names) > room:
        raise InputError(f"the {what} can't be drawn: there are {len(names)} of them, a picture has room for {room}")


def check_lengths(what: str, *lists: Sequence[object]) -> None:
    """Refuses lists that can't be drawn together.

    Raises:
      InputError: They are empty, or of different lengths.
    """
    lengths = {len(items) for items in lists}
    if len(lengths) > 1 or 0 in lengths:
        raise InputError(
            f"the {what} can't be drawn: its lists have lengths {[len(items) for items in lists]}, not one above 0"
        )
