import itertools
import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from distreal_jax.errors import InputError
from distreal_jax.methods import METHODS
from distreal_jax.record import pictures
from distreal_jax.record.pictures import Front
from distreal_jax.record.pictures.look import by_logarithm, label_ends, marks_of_logarithm, style_of, styles_of

TIMES = [0.0, 10.0, 20.0, 30.0]
PICTURES: dict[str, Callable[[Path], None]] = {
    "front": lambda path: pictures.front_picture(
        path,
        searched=Front([0.1, 1.0, 0.5], [0.3, 0.9, 0.7], [0.1, 0.1, 0.1]),
        uniform=Front([0.1, 1], [0.2, 0.9]),
        title="t",
    ),
    "accuracy": lambda path: pictures.accuracy_picture(
        path,
        {method: [(TIMES, [0.1, 0.4, 0.5, 0.6])] * 2 for method in METHODS},
        targets=(0.3, 0.5),
        delivered={"fjord": 0.06},
    ),
    "accuracies that crowd the top": lambda path: pictures.accuracy_picture(
        path,
        {"distreal": [([60.0, 120.0], [0.3, 0.97])], "partial_work": [([60.0, 120.0], [0.99, 1.0])]},
        targets=[0.5, 0.9],
    ),
    "accuracy of one seed": lambda path: pictures.accuracy_picture(path, {"distreal": [([0.0], [0.1])]}),
    "utilisation": lambda path: pictures.utilisation_picture(path, {"distreal": (6, 1, 3), "small_network": (0, 0, 0)}),
    "fairness": lambda path: pictures.fairness_picture(
        path, {"distreal": [0.5, 0.6], "heterofl": [0.5, 0.6]}, ["weak", "strong"], delivered={"heterofl": 0.25}
    ),
    "rates": lambda path: pictures.rates_heatmap(path, [[0.5, 0.9], [0.0, 0.0]], ["conv1", "conv2"], [0.2, 1.0]),
    "rates and other knobs": lambda path: pictures.rates_heatmap(
        path, [[0.5, 0.9], [0.0, 0.0]], ["conv1", "conv2"], [0.0004, 1.0], others={"examples": [0.9, 0.0]}
    ),
    "other knobs alone": lambda path: pictures.rates_heatmap(
        path, [[], []], [], [0.2, 1.0], others={"examples": [0.5, 0.0]}
    ),
    "rates of a deep network": lambda path: pictures.rates_heatmap(
        path,
        np.tile(np.linspace(0, 0.9, 40)[:, None], (1, 20)),
        [f"blocks[{i}].conv" for i in range(20)],
        np.linspace(1, 0, 40),
    ),
    "availability": lambda path: pictures.availability_picture(
        path,
        times=[0.0, 4.0],
        availability=[0.5, 1.0],
        step_starts=[0.0, 5.0],
        step_ends=[5.0, 9.0],
        step_costs=[0.2, 0.9],
        end=10.0,
        deadlines=[10.0],
    ),
    "hypervolume": lambda path: pictures.hypervolume_picture(path, {"search": [0.1, 0.5], "random": [0.1, 0.2]}),
    "map": lambda path: pictures.map_picture(
        path,
        x_values=[0.1, 1.0],
        y_values=[0.3],
        winners=[["distreal", ""]],
        best=[[0.5, 0.0]],
        delivered=[[0.063, 1.0]],
        margins=[[0.07, math.nan]],
    ),
    "seconds": lambda path: pictures.seconds_picture(
        path, [[1.0, 0.5], [1.0]], [[0.05, 0.03], [0.04]], ["compact", "masked"]
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_the_same_png_each_time_and_no_wider_than_a_screen(name: str, tmp_path: Path) -> None:
    look = dict(matplotlib.rcParams)
    for file in ("one.png", "two.png"):
        PICTURES[name](tmp_path / file)
    first = (tmp_path / "one.png").read_bytes()
    assert first == (tmp_path / "two.png").read_bytes()
    assert first.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", first[16:24])
    assert 600 <= width <= 2100 and 200 <= height <= 2000
    assert dict(matplotlib.rcParams) == look, "the caller's settings of matplotlib are left alone"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: pictures.accuracy_picture(path, {}),
        lambda path: pictures.accuracy_picture(path, {"distreal": []}),
        lambda path: pictures.accuracy_picture(path, {"distreal": [([0.0, 1.0], [0.1])]}),
        lambda path: pictures.front_picture(path, searched=Front([], []), uniform=Front([1], [1]), title=""),
        lambda path: pictures.utilisation_picture(path, {}),
        lambda path: pictures.fairness_picture(path, {"distreal": [0.5]}, ["weak", "strong"]),
        lambda path: pictures.rates_heatmap(path, [[0.5]], ["conv1", "conv2"], [1.0]),
        lambda path: pictures.rates_heatmap(path, [], [], []),
        lambda path: pictures.rates_heatmap(path, [[0.5]], ["conv1"], [1.0], others={"examples": []}),
        lambda path: pictures.hypervolume_picture(path, {"search": []}),
        lambda path: pictures.hypervolume_picture(path, {name: [0.1] for name in "abcde"}),
        lambda path: pictures.map_picture(
            path, x_values=[1], y_values=[1], winners=[["a"]], best=[[0.5]], delivered=[[1.0]], margins=[[0.1], [0.2]]
        ),
        lambda path: pictures.seconds_picture(path, [[1.0]], [[0.1]], []),
    ],
)
def test_lists_that_dont_match_are_refused_and_leave_no_picture(draw: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be drawn") as error:
        draw(tmp_path / "picture.png")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cant_be_written_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't write"):
        PICTURES["hypervolume"](tmp_path / "missing" / "picture.png")


def test_every_method_looks_like_no_other_and_the_same_everywhere() -> None:
    looks = {(style.colour, style.marker) for style in map(style_of, METHODS)}
    assert len(looks) == len(METHODS)
    assert len({style_of(method).label for method in METHODS}) == len(METHODS)
    assert style_of("my_method") == style_of("my_method")
    assert style_of("my_method").label == "my method"


def test_methods_without_a_style_of_their_own_do_not_look_alike_in_one_picture() -> None:
    names = [*METHODS, "tilt+0", "inside", "tilt+0.5", "table1"]  # of these two would have the same look by name
    assert style_of("tilt+0").colour == style_of("inside").colour
    styles = styles_of(names)
    assert len({style.colour for style in styles.values()}) == len(names)
    assert styles["tilt+0"] == style_of("tilt+0") and styles["distreal"] == style_of("distreal")
    many = styles_of(f"method{index}" for index in range(25)).values()
    assert len({(style.colour, style.marker) for style in many}) == 25


@pytest.mark.parametrize("ends", [[0.5] * 10, [0.0, 0.0, 1.0, 1.0], [0.3], list(np.linspace(0, 1, 10))])
def test_the_names_at_the_ends_of_lines_do_not_overlap(ends: list[float]) -> None:
    figure = Figure(figsize=(8.4, 4.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(-0.05, 1.05))
    label_ends(axes, [(method, 1.0, 0.5, y, " 0.500") for method, y in zip(METHODS, ends, strict=False)])
    figure.draw_without_rendering()
    texts = sorted(
        (text.get_window_extent() for text in axes.texts if isinstance(text, Annotation)), key=lambda extent: extent.y0
    )
    assert len(texts) == len(ends)
    assert all(above.y0 >= below.y1 for below, above in itertools.pairwise(texts))
    assert all(extent.y0 >= 0 and extent.y1 <= 460 and extent.x1 <= 840 for extent in texts)


@given(low=st.floats(1e-9, 1e9), ratio=st.floats(1.1, 1e12))
def test_a_logarithmic_axis_has_two_to_six_marks(low: float, ratio: float) -> None:
    marks = marks_of_logarithm(low, low * ratio)
    assert 2 <= len(marks) <= 6 and marks == sorted(set(marks))
    assert low <= marks[0] and marks[-1] <= low * ratio


def test_a_logarithmic_axis_of_less_than_a_decade_has_plain_numbers_that_do_not_overlap() -> None:
    figure = Figure(figsize=(3.4, 3), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot([2.6e9, 8.2e9], [0, 1])
    by_logarithm(axes)
    figure.draw_without_rendering()
    shown = axes.get_xticklabels()
    assert [label.get_text() for label in shown] == ["3 G", "5 G", "7 G"]
    assert all(left.get_window_extent().x1 < right.get_window_extent().x0 for left, right in itertools.pairwise(shown))


def test_round_numbers_with_prefixes_that_would_run_into_each_other_are_fewer() -> None:
    axes = Figure().subplots()
    axes.plot([1.4e6, 1.1e8], [0, 1])
    by_logarithm(axes)
    assert axes.get_xticks().tolist() == [2e6, 1e7, 5e7]


@pytest.mark.parametrize(("values", "marked"), [((0.3, 0.03, 0.1), [0.03, 0.1, 0.3]), (range(1, 9), [1, 1.5, 2, 3, 5, 7])])
def test_a_logarithmic_axis_marks_the_values_that_there_are_if_they_are_few(
    values: Sequence[float], marked: list[float]
) -> None:
    axes = Figure().subplots()
    axes.plot(values, values)
    by_logarithm(axes, values)
    assert axes.get_xticks().tolist() == marked


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures of pictures, in the order in which they are drawn."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


def test_a_method_alone_gives_its_picture_its_name_and_is_named_where_its_line_ends(
    drawn: list[Figure], tmp_path: Path
) -> None:
    pictures.accuracy_picture(tmp_path / "one.png", {"partial_work": [([60.0, 120.0], [0.2, 0.8])]})
    (axes,), words = drawn[0].axes, drawn[0].get_supxlabel()
    (name,) = (text for text in axes.texts if isinstance(text, Annotation))
    assert axes.get_title(loc="left") == "partial work" and words == "One seed. Number: mean of 2 evaluations."
    assert "0.500" in name.get_text() and name.xy[1] == pytest.approx(0.8)


def test_methods_are_named_where_their_lines_end_in_the_order_of_their_numbers(drawn: list[Figure], tmp_path: Path) -> None:
    times = [60.0, 120.0, 180.0]
    curves = {"distreal": [0.1, 0.1, 0.9], "heterofl": [0.4, 0.5, 0.6], "partial_work": [0.0, 0.1, 0.2]}
    pictures.accuracy_picture(tmp_path / "one.png", {name: [(times, values)] for name, values in curves.items()})
    names = [text for text in drawn[0].axes[0].texts if isinstance(text, Annotation)]
    found = {text.get_text(): float(text.xy[1]) for text in names}
    assert found == pytest.approx({"DISTREAL 0.367": 0.6, "HeteroFL 0.500": 0.9, "partial work 0.100": 0.2})


def test_names_of_lines_that_end_at_one_place_are_in_the_order_of_their_numbers_too(
    drawn: list[Figure], tmp_path: Path
) -> None:
    times = [60.0, 120.0, 180.0]
    curves = {"distreal": [0.3, 0.5, 0.5], "heterofl": [0.1, 0.1, 0.5], "partial_work": [0.2, 0.2, 0.5]}
    runs = {name: [(times, values)] for name, values in curves.items()}
    pictures.accuracy_picture(tmp_path / "one.png", runs, not_shown=["salf", "fjord"])
    names = [text for text in drawn[0].axes[0].texts if isinstance(text, Annotation)]
    upwards = [text.get_text().split(" 0.")[0] for text in sorted(names, key=lambda text: float(text.xy[1]))]
    assert upwards == ["HeteroFL", "partial work", "DISTREAL"]
    assert "Not shown, as they end lower: salf, fjord." in drawn[0].get_supxlabel()


def test_a_target_below_a_picture_of_errors_is_not_written_under_it(drawn: list[Figure], tmp_path: Path) -> None:
    curves = {"distreal": [([60.0, 120.0], [0.87, 0.97])], "partial_work": [([60.0, 120.0], [0.9, 0.98])]}
    pictures.accuracy_picture(tmp_path / "one.png", curves, targets=[0.5, 0.92])
    drawn[0].draw_without_rendering()
    targets = {text.get_text(): text for text in drawn[0].axes[0].texts if text.get_text() in ("0.5", "0.92")}
    assert {name: text.get_tightbbox().width > 0 for name, text in targets.items()} == {"0.5": False, "0.92": True}


def test_the_headings_of_a_map_of_one_cell_do_not_overlap(drawn: list[Figure], tmp_path: Path) -> None:
    one = dict(x_values=[0.1], y_values=[1], winners=[["salf"]], best=[[0.8]], delivered=[[1.0]], margins=[[-0.01]])
    pictures.map_picture(tmp_path / "map.png", **one, title="distreal[idle=train,pace=best] minus the best of the others")
    drawn[0].draw_without_rendering()
    words = [text for text in drawn[0].findobj(Text) if text.get_text().startswith(("Best method", "distreal["))]
    left, right = sorted(words, key=lambda text: text.get_window_extent().x0)
    assert left.get_window_extent().x1 < right.get_window_extent().x0


def test_generations_of_a_picture_are_counted_as_in_words_from_one(drawn: list[Figure], tmp_path: Path) -> None:
    pictures.hypervolume_picture(tmp_path / "hypervolume.png", {"NSGA-II": [0.1, 0.2, 0.3]})
    assert list(drawn[0].axes[0].lines[0].get_xdata()) == [1, 2, 3]
