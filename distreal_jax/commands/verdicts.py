"""Which rivals the tuned DISTREAL is ahead of, level with and behind, one row for each finished trial."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from distreal_jax.document import parsed_json
from distreal_jax.files import parts_around
from distreal_jax.methods import METHODS
from distreal_jax.record import MethodResult, paired_difference
from distreal_jax.record.report import level, markdown_table
from distreal_jax.record.run_folder import RESULTS_KIND, read_part
from distreal_jax.record.statistics import Interval, holm, mean_interval, paired_p_value
from distreal_jax.record.summary import scores, usual_reference

BEYOND_CHANCE = 0.05  # p after Holm's correction over the rivals of a row
Values = Mapping[str, Sequence[float]]  # of each method, by seed

_HEADING = ("setting", "seeds", "DISTREAL", "ahead of", "level with", "behind")


def marks(measure: str) -> tuple[str, str]:
    """The lines between which a document has the table of a measure of `MEASURES`."""
    return f"<!-- verdicts, {measure}: begin -->", f"<!-- verdicts, {measure}: end -->"


def put(document: Path, measure: str, settings: Mapping[str, str], folders: Mapping[str, Path], link: str) -> bytes:
    """The document with the table between its marks made anew; rows of trials that are finished elsewhere stay.

    Args:
      document: Has the marks.
      measure: Of `MEASURES`.
      settings: What each trial was under, by the name of its config, in words.
      folders: Of the finished ones, by the name of their config.
      link: To the results, from this document.

    Raises:
      InputError: As `parts_around`, or a folder's results can't be read.
    """
    before, after = parts_around(document, marks(measure))
    text = document.read_text(encoding="utf-8")
    there = text[len(before) : len(text) - len(after)]
    rows = dict(re.findall(r"^(\| \[[^|]*\(\S*#(\w+)\).*\n)", there, flags=re.MULTILINE))
    known = {name: _cells(line) for line, name in rows.items() if name in settings}
    known |= {name: _row(f"[{settings[name]}]({link}#{name})", measure, folder) for name, folder in folders.items()}
    in_order = sorted(known, key=lambda name: settings[name])
    return (before + markdown_table([_HEADING, *(known[name] for name in in_order)]) + after).encode()


def verdict(values: Values, reference: str) -> tuple[str, str, str]:
    """Rivals that the reference is ahead of, level with and behind, each with the difference, in Markdown.

    Args:
      values: A measure of each method, by seed.
      reference: The method that is judged; variants of it and upper bounds are no rivals.
    """
    rivals = [name for name in values if _base(name) != _base(reference) and _limited(name)]
    p_values = holm([paired_p_value(values[reference], values[name]) for name in rivals])
    found: tuple[list[str], list[str], list[str]] = ([], [], [])
    for name, p in zip(rivals, p_values, strict=True):
        difference = paired_difference(values[reference], values[name])
        beyond = p is not None and p < BEYOND_CHANCE
        found[(0 if difference.mean > 0 else 2) if beyond else 1].append(f"`{_base(name)}` {_signed(difference)}")
    ahead, same, behind = (", ".join(names) or "–" for names in found)
    return ahead, same, behind


def values_of(folder: Path, measure: str) -> tuple[Values, str]:
    """A measure of every method by seed, and the method that is judged; of a map, means over its cells.

    Args:
      folder: Of a finished comparison or map.
      measure: Of `MEASURES`.
    """
    if (folder / "map.json").exists():
        cells = parsed_json((folder / "map.json").read_bytes())
        methods = list(cells[0][measure])
        pooled = {name: list(map(fmean, zip(*(cell[measure][name] for cell in cells), strict=True))) for name in methods}
        return pooled, methods[0]
    _, content = read_part(folder / "results.json", RESULTS_KIND)
    results = [MethodResult.from_json(run) for run in content["runs"]]
    by_seed = scores(results, measure)
    values = {name: [value for _, value in sorted(of.items())] for name, of in by_seed.items()}
    return values, content.get("reference") or usual_reference(results)


def _row(setting: str, measure: str, folder: Path) -> tuple[str, ...]:
    values, reference = values_of(folder, measure)
    own = values[reference]
    return setting, str(len(own)), level(mean_interval(own)), *verdict(values, reference)


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().strip("|").split(" | "))


def _base(name: str) -> str:
    return name.partition("[")[0]


def _limited(name: str) -> bool:
    return _base(name) not in METHODS or METHODS[_base(name)].limited


def _signed(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mean:+z.3f}"
    return f"{interval.mean:+z.3f} ± {(interval.high - interval.low) / 2:.3f}"
