"""What lets a reader check a finished config, and use what it found, without running it: scores and settings."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from distreal_jax.experiment.comparison import read_comparison
from distreal_jax.experiment.tuning_report import TUNED_FILE
from distreal_jax.files import made_folder, write_atomically
from distreal_jax.record.summary import MEASURES, scores

SCORES_FILE = "scores.csv"
_OF_A_RUN = ("delivered", "macs_spent", "macs_wasted", "macs_idle", "client_rounds", "deadline_hits", "memory_bytes")
_AT_THE_END = ("bytes_up", "bytes_down")
COLUMNS = ("cell", "method", "seed", *MEASURES, "full", *_OF_A_RUN, *_AT_THE_END)
"""Of scores.csv: the cell of a map, empty for a comparison; final accuracy and its mean over time; the others as in
`MethodResult`, at the end of the run."""


def put(folder: Path, place: Path) -> list[Path]:
    """Copies the scores and the settings of a run.

    Args:
      folder: Of the run, which is finished: a comparison, a tuning, or a map, which has a folder for each cell.
      place: Folder that gets them; it is made if there is something to put there.

    Returns:
      The files: `scores.csv`, and `tuned.json` or, of a map, `CELL/tuned.json`. None for another experiment's run.

    Raises:
      InputError: Results can't be read, or `place` can't be written.
    """
    is_map, compared = (folder / "map.json").exists(), (folder / "accuracy.png").exists()
    cells = {path.name: path for path in sorted(folder.iterdir()) if is_map and (path / "results.json").exists()}
    tunings = {name: path / "tuning" for name, path in cells.items()} or {"": folder}
    files = {Path(name, TUNED_FILE): path / TUNED_FILE for name, path in tunings.items()}
    contents = {name: file.read_bytes() for name, file in files.items() if file.exists()}
    if rows := list(_rows(cells or ({"": folder} if compared else {}))):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((COLUMNS, *rows))
        contents = {Path(SCORES_FILE): text.getvalue().encode(), **contents}
    for name, content in contents.items():
        made_folder((place / name).parent)
        write_atomically(place / name, content)
    return [place / name for name in contents]


def _rows(cells: Mapping[str, Path]) -> Iterator[tuple[str | int | float, ...]]:
    for cell, folder in cells.items():
        results, _ = read_comparison(folder)
        of = {measure: scores(results, measure) for measure in MEASURES}
        for run in results:
            judged = [round(of[measure][run.method][run.seed], 6) for measure in MEASURES]
            more = [getattr(run, name) for name in _OF_A_RUN] + [getattr(run, name)[-1] for name in _AT_THE_END]
            yield cell, run.method, run.seed, *judged, round(run.full, 6), *more
