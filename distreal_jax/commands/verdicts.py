"""Which rivals the tuned DISTREAL is ahead of, behind, and not told apart from, one row for each finished trial."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from distreal_jax.commands.map_tables import over_cells
from distreal_jax.document import parsed_json
from distreal_jax.experiment.comparison import read_comparison
from distreal_jax.files import parts_around
from distreal_jax.methods import METHODS
from distreal_jax.record.pictures.look import style_of
from distreal_jax.record.report import level, markdown_table, signed
from distreal_jax.record.statistics import Interval, mean_interval, told_apart
from distreal_jax.record.summary import MEASURES, scores, usual_reference

Values = Mapping[str, Sequence[float]]  # of each method, by seed
Row = tuple[str, ...]  # seeds, the judged method's own mean, and the three verdicts, in Markdown

_HEADING = ("setting", "seeds", "DISTREAL", "ahead of", "not told apart from", "behind")
_UNTESTED = "*too few seeds to test:* "
MATRIX = "<!-- verdicts, rivals: begin -->", "<!-- verdicts, rivals: end -->"
"""The lines between which a document has the table of settings by rivals."""
# Rivals with a column of their own: those that train a part first, then those by which a device does less each time.
_RIVALS = ("heterofl", "fjord", "small_network", "partial_work", "adaptive_batch", "salf")


def marks(measure: str) -> tuple[str, str]:
    """The lines between which a document has the table of a measure of `MEASURES`."""
    return f"<!-- verdicts, {measure}: begin -->", f"<!-- verdicts, {measure}: end -->"


def rows(folders: Mapping[str, Path]) -> dict[str, dict[str, Row]]:
    """The row of each finished comparison or map, measure -> name -> row.

    Args:
      folders: Of them, by the name of their config.

    Raises:
      InputError: A folder's results can't be read.
    """
    found: dict[str, dict[str, Row]] = {measure: {} for measure in MEASURES}
    for name, folder in folders.items():
        measured, reference = values_of(folder)
        for measure, values in measured.items():
            own = values[reference]
            found[measure][name] = (str(len(own)), level(mean_interval(own)), *verdict(values, reference))
    return found


def rows_in(document: Path, measure: str) -> dict[str, Row]:
    """The rows that a document has between the marks of a measure, by the name of their config.

    Args:
      document: Has the marks.
      measure: Of `MEASURES`.

    Raises:
      InputError: As `parts_around`.
    """
    _, there, _ = parts_around(document, marks(measure))
    kept = re.findall(r"^\| \[[^|]*\(\S*#(\w+)\)\s*\| (.*) \|$", there, flags=re.MULTILINE)
    return {name: tuple(map(str.strip, cells.split(" | "))) for name, cells in kept}


def put(document: Path, measure: str, settings: Mapping[str, str], rows: Mapping[str, Row], link: str) -> bytes:
    """The document with the table between its marks made anew.

    Args:
      document: Has the marks.
      measure: Of `MEASURES`.
      settings: What each trial was under, by the name of its config, in words.
      rows: By the name of their config; those without a setting are left out.
      link: To the results, from this document.

    Raises:
      InputError: As `parts_around`.
    """
    table = [_HEADING, *((_linked(name, settings, link), *rows[name]) for name in _in_order(rows, settings))]
    return _between(document, marks(measure), table)


def put_matrix(document: Path, settings: Mapping[str, str], rows: Mapping[str, Mapping[str, Row]], link: str) -> bytes:
    """The document with the table of settings by rivals made anew: differences at the end and over time, without intervals.

    Args:
      document: Has the marks.
      settings: As for `put`.
      rows: Measure of `MEASURES` -> rows by the name of their config.
      link: To the results, from this document.

    Raises:
      InputError: As `parts_around`.
    """
    table = [("setting", "seeds", "DISTREAL", *(style_of(rival).label for rival in _RIVALS), "others")]
    for name in _in_order(set.intersection(*(set(rows[measure]) for measure in MEASURES)), settings):
        each = [rows[measure][name] for measure in MEASURES]
        found = [_differences(row) for row in each]
        shown = {rival: " / ".join(of.get(rival, "–") for of in found) for rival in found[0]}
        columns = {base: next((rival for rival in shown if _base(rival) == base), "") for base in _RIVALS}
        rest = [f"{style_of(rival).label} {shown[rival]}" for rival in shown if rival not in columns.values()]
        levels = " / ".join(own.split()[0] for _, own, *_ in each)
        cells = [shown.get(rival, "") for rival in columns.values()]
        table.append((_linked(name, settings, link), each[0][0], levels, *cells, "; ".join(rest)))
    return _between(document, MATRIX, table)


def _differences(row: Row) -> dict[str, str]:
    """Of each rival in a row, without its interval; in bold where it is beyond chance."""
    _, _, ahead, level, behind = row
    found = dict[str, str]()
    for cell, form in ((ahead, "**{}**"), (level, "{}"), (behind, "**{}**")):
        found |= {name: form.format(value) for name, value in re.findall(r"`([^`]+)` ([+-][\d.]+)", cell)}
    return found


def _in_order(names: Iterable[str], settings: Mapping[str, str]) -> list[str]:
    return sorted((name for name in names if name in settings), key=lambda name: settings[name])


def _linked(name: str, settings: Mapping[str, str], link: str) -> str:
    return f"[{settings[name]}]({link}#{name})"


def _between(document: Path, lines: tuple[str, str], table: Sequence[Sequence[str]]) -> bytes:
    before, _, after = parts_around(document, lines)
    return (before + markdown_table(table) + after).encode()


def verdict(values: Values, reference: str) -> tuple[str, str, str]:
    """Rivals that the reference is ahead of, not told apart from and behind, each with the difference, in Markdown.

    Too few seeds for an interval test nothing, which the second of the three then says: a difference may be large there.

    Args:
      values: A measure of each method, by seed.
      reference: The method that is judged; variants of it and upper bounds are no rivals.
    """
    rivals = [name for name in values if _base(name) != _base(reference) and _limited(name)]
    ahead, open_, behind = list[str](), list[str](), list[str]()
    compared = told_apart([(values[reference], values[name]) for name in rivals])
    for name, (difference, beyond) in zip(rivals, compared, strict=True):
        place = open_ if not beyond else ahead if difference.mean > 0 else behind
        alone = sum(_base(other) == _base(name) for other in rivals) == 1
        place.append(f"`{_base(name) if alone else name}` {_signed(difference)}")
    untested = any(difference.half_width is None for difference, _ in compared)
    return ", ".join(ahead) or "–", _UNTESTED * untested + (", ".join(open_) or "–"), ", ".join(behind) or "–"


def values_of(folder: Path) -> tuple[dict[str, Values], str]:
    """Each of `MEASURES` of every method by seed, and the method that is judged; of a map, means over its cells.

    Args:
      folder: Of a finished comparison or map.

    Raises:
      InputError: Its results can't be read.
    """
    if (folder / "map.json").exists():
        cells = parsed_json((folder / "map.json").read_bytes())
        pooled: dict[str, Values] = {measure: over_cells([cell[measure] for cell in cells]) for measure in MEASURES}
        return pooled, next(iter(cells[0]["final"]))
    results, how = read_comparison(folder)
    values: dict[str, Values] = {
        measure: {name: [value for _, value in sorted(of.items())] for name, of in scores(results, measure).items()}
        for measure in MEASURES
    }
    return values, how["reference"] or usual_reference(results)


def _base(name: str) -> str:
    return name.partition("[")[0]


def _limited(name: str) -> bool:
    return _base(name) not in METHODS or METHODS[_base(name)].limited


def _signed(interval: Interval) -> str:
    return signed(interval) if interval.half_width is None else f"{interval.mean:+z.3f} ± {interval.half_width:.3f}"
