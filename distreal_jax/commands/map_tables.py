"""What a map shows: the cells, the picture, and the tables of its report."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from statistics import fmean

from distreal_jax.record import MethodResult, RunFolder, Section, map_picture
from distreal_jax.record.report import delivered, markdown_table, quantity, signed
from distreal_jax.record.statistics import Interval, told_apart
from distreal_jax.record.summary import MEASURES, measure_in_words, scores, summarise


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the methods did at one load."""

    mean: float
    rate: float
    results: tuple[MethodResult, ...]

    @functools.cached_property
    def methods(self) -> tuple[str, ...]:
        """Names, in the order in which they were given."""
        return tuple(dict.fromkeys(result.method for result in self.results))

    @property
    def score_name(self) -> str:
        """What the task calls its score."""
        return self.results[0].score_name

    @functools.cached_property
    def _scores(self) -> dict[str, dict[str, dict[int, float]]]:
        return {measure: scores(self.results, measure) for measure in MEASURES}

    def values(self, method: str, measure: str = "final") -> list[float]:
        """A measure of a method, by seed, [seeds]."""
        return [value for _, value in sorted(self._scores[measure][method].items())]

    def mean_final(self, method: str) -> float:
        """Its final accuracy, mean over seeds."""
        return fmean(self.values(method))

    def delivered(self, method: str) -> float:
        """MACs of the model that the method delivers, as a share of the full network's; mean over seeds."""
        return fmean(result.delivered for result in self.results if result.method == method)

    def to_json(self) -> dict[str, object]:
        """For map.json."""
        values = {measure: {method: self.values(method, measure) for method in self.methods} for measure in MEASURES}
        shares = {method: self.delivered(method) for method in self.methods}
        return {"mean": self.mean, "rate": self.rate, **values, "delivered": shares}

    def winner(self) -> str:
        """The method of the best mean final accuracy."""
        return max(self.methods, key=self.mean_final)


def map_section(folder: RunFolder, cells: Sequence[Cell], means: Sequence[float], rates: Sequence[float]) -> Section:
    """Writes map.json and map.png; returns the section of the report.

    Args:
      folder: Of the map.
      cells: Row by row, [rates * means].
      means: Mean availability, [columns].
      rates: Changes of availability a round, [rows].
    """
    names = cells[0].methods
    first, *others = names
    rows = [["mean availability", "changes a round", *names, "delivered"]]
    for cell in cells:
        finals = [f"{cell.mean_final(name):.3f}" for name in names]
        smaller = [f"{name}: {delivered(cell.delivered(name))}" for name in names if cell.delivered(name) < 1]
        models = ", ".join(smaller) + "; others: full network" * (0 < len(smaller) < len(names)) or delivered(1)
        rows.append([f"{cell.mean:g}", f"{cell.rate:g}", *finals, models])
    folder.write_json("map.json", [cell.to_json() for cell in cells])
    grid = [cells[row * len(means) : (row + 1) * len(means)] for row in range(len(rates))]
    map_picture(
        folder.path / "map.png",
        x_values=means,
        y_values=rates,
        winners=[[cell.winner() for cell in row] for row in grid],
        best=[[cell.mean_final(cell.winner()) for cell in row] for row in grid],
        delivered=[[cell.delivered(cell.winner()) for cell in row] for row in grid],
        margins=[[cell.mean_final(first) - max(map(cell.mean_final, others)) for cell in row] for row in grid],
        title=f"{first} minus {others[0] if len(others) == 1 else 'the best of the others'}",
        margin_label=f"points of {cells[0].score_name}",
    )
    texts = [
        f"Final {cells[0].score_name}:\n\n{markdown_table(rows)}",
        *(difference_table(cells, measure) for measure in MEASURES),
        f"Costs, means over the cells; of memory the largest:\n\n{cost_table(cells)}",
        "Differences are paired by seed, with intervals of 95 %. * marks p < 0.05 after Holm's correction for all "
        f"{len(others) * len(cells)} comparisons of a table"
        f"{f'; in its last row, means over all cells, for {len(others)}' * (len(cells) > 1)}.",
    ]
    return Section("Which method at which load", "\n".join(texts), {"map.png": "Best method and margin in each cell"})


def difference_table(cells: Sequence[Cell], measure: str) -> str:
    """The first method minus each of the others in each cell and on average, and in how many it is behind or ahead of all.

    The average over cells is one value for each seed, as a seed's split and weights are the same in all cells. It is
    corrected apart from the cells, for as many comparisons as there are other methods.

    Args:
      cells: All of a map.
      measure: Of `MEASURES`.
    """
    first, *others = cells[0].methods
    found = told_apart([(cell.values(first, measure), cell.values(other, measure)) for cell in cells for other in others])
    rows = [["mean availability", "changes a round", *(f"minus {other}" for other in others)]]
    behind = ahead = 0
    for index, cell in enumerate(cells):
        of_cell = found[index * len(others) : (index + 1) * len(others)]
        behind += any(interval.mean < 0 and mark for interval, mark in of_cell)
        ahead += all(interval.mean > 0 and mark for interval, mark in of_cell)
        rows.append([f"{cell.mean:g}", f"{cell.rate:g}", *_shown(of_cell)])
    if len(cells) > 1:
        pooled = over_cells([{name: cell.values(name, measure) for name in cell.methods} for cell in cells])
        rows.append(["all", "all", *_shown(told_apart([(pooled[first], pooled[other]) for other in others]))])
    said = measure_in_words(measure, cells[0].score_name)
    return (
        f"{first} minus the others, {said}:\n\n{markdown_table(rows)}\n"
        f"Behind one of them (*) in {behind} of {len(cells)} cells, ahead of all of them (*) in {ahead}.\n"
    )


def cost_table(cells: Sequence[Cell]) -> str:
    """What each method costs: bytes, peak memory of a device, energy by the usual model, and shares of the MACs on offer."""
    rows = [["method", "delivered", "up", "down", "peak memory", "energy", "spent", "wasted", "idle"]]
    every = [{summary.method: summary for summary in summarise(cell.results)} for cell in cells]
    for name in cells[0].methods:
        of = [summaries[name] for summaries in every]
        shares = [f"{fmean(getattr(each, share) for each in of):.0%}" for share in ("spent", "wasted", "idle")]
        costs = [f"{quantity(fmean(getattr(each, cost) for each in of))}B" for cost in ("bytes_up", "bytes_down")]
        memory = f"{quantity(max(each.memory_bytes for each in of))}B"
        energy = f"{quantity(fmean(each.joules for each in of))}J"
        rows.append([f"`{name}`", delivered(fmean(each.delivered for each in of)), *costs, memory, energy, *shares])
    return markdown_table(rows)


def over_cells(cells: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """The mean over cells of a measure of each method, one value for each seed.

    Args:
      cells: The measure in each cell, method -> [seeds].
    """
    return {name: list(map(fmean, zip(*(cell[name] for cell in cells), strict=True))) for name in cells[0]}


def _shown(found: Sequence[tuple[Interval, bool]]) -> list[str]:
    return [signed(interval) + "*" * mark for interval, mark in found]
