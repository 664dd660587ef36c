"""Which rivals the tuned DISTREAL is ahead of, behind, and not told apart from, one row for each finished trial."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from distreal_jax.commands.map_tables import over_cells
from distreal_jax.document import parsed_json
from distreal_jax.experiment.comparison import read_comparison
from distreal_jax.files import parts_around
from distreal_jax.methods import METHODS
from distreal_jax.record.report import level, markdown_table
from distreal_jax.record.statistics import Interval, mean_interval, told_apart
from distreal_jax.record.summary import MEASURES, scores, usual_reference

Values = Mapping[str, Sequence[float]]  # of each method, by seed
Row = tuple[str, ...]  # seeds, the judged method's own mean, and the three verdicts, in Markdown

_HEADING = ("setting", "seeds", "DISTREAL", "ahead of", "not told apart from", "behind")
_UNTESTED = "*too few seeds to test:* "


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


def put(document: Path, measure: str, settings: Mapping[str, str], made: Mapping[str, Row], link: str) -> bytes:
    """The document with the table between its marks made anew; rows of trials that are finished elsewhere stay.

    Args:
      document: Has the marks.
      measure: Of `MEASURES`.
      settings: What each trial was under, by the name of its config, in words.
      made: Rows by the name of their config.
      link: To the results, from this document.

    Raises:
      InputError: As `parts_around`.
    """
    before, there, after = parts_around(document, marks(measure))
    kept = re.findall(r"^\| \[[^|]*\(\S*#(\w+)\)\s*\| (.*) \|$", there, flags=re.MULTILINE)
    known = {name: tuple(map(str.strip, cells.split(" | "))) for name, cells in kept if name in settings} | dict(made)
    in_order = sorted(known, key=lambda name: settings[name])
    table = markdown_table([_HEADING, *((f"[{settings[name]}]({link}#{name})", *known[name]) for name in in_order)])
    return (before + table + after).encode()


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
    return f"{interval.mean:+z.3f}" + ("" if interval.half_width is None else f" ± {interval.half_width:.3f}")
