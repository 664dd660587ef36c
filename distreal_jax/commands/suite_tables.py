"""The tables of docs/benchmarks.md, from the results of the benchmark's suite."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from distreal_jax.commands.account import AROUND, COPIES, DIRECTIONS, ELEMENTWISE, SUMS
from distreal_jax.record.rank_correlation import interval_over_things

Piece = Mapping[str, Any]
Pieces = Mapping[str, Piece]  # by name, such as widths-resnet20

_FILTERS = {"1.0": "all", "0.5": "half", "0.25": "a quarter"}
_OVER_PYTORCH = {"resnet20": (1.1, 2.5, 5), "densenet40": (1.0, 2.2, 4), "A": (1.4, 3.3, 8), "B": (1.1, 2.5, 6)}
_AT_WIDTH, _PLAN, _FIRST, _FROM_DISK = 1.1, 1.7, 30, 3
"""What was aimed at: over PyTorch's full network and at the same width, a plan over our full network, seconds."""


def median(values: npt.ArrayLike) -> tuple[float, str]:
    """The median over turns, and in words with the interval of 95 % of a bootstrap over turns (from three on).

    Args:
      values: Of any unit, [turns].
    """
    found = interval_over_things(lambda turns: np.median(turns, axis=-1), values)
    if found.low is None or found.high is None:
        middle = float(np.median(np.asarray(values)))
        return middle, f"{middle:.3g}"
    return found.mean, f"{found.mean:.3g} [{found.low:.3g}, {found.high:.3g}]"


def ratio(piece: Piece, one: str, other: str) -> tuple[float, str]:
    """How many times as fast one is as another, of times in the same turn.

    Args:
      piece: Has seconds, [turns], by name.
      one: Name of the one.
      other: Name of the other.

    Returns:
      As `median`.
    """
    seconds = piece["seconds"]
    return median(np.array(seconds[other]) / np.array(seconds[one]))


def allowed(macs: float) -> float:
    """The share of time that a share of the MACs may take.

    Args:
      macs: As a fraction of the full network's.
    """
    return 1.15 * macs + 0.03


def tables(pieces: Pieces) -> str:
    """All tables, in Markdown; of pieces that are not there no row.

    Args:
      pieces: By name, such as widths-resnet20.
    """
    parts = (_where, _widths, _plans, _forms, _compilations, _accounts, _targets)
    return "\n".join(line for part in parts for line in part(pieces))


def _of(pieces: Pieces, kind: str) -> dict[str, Piece]:
    """By workload."""
    return {name.removeprefix(f"{kind}-"): piece for name, piece in pieces.items() if name.startswith(f"{kind}-")}


def _where(pieces: Pieces) -> Iterator[str]:
    """Machines, dates and versions."""
    sources = {name: piece["provenance"] for name, piece in pieces.items()}
    places = sorted({_place(source) for source in sources.values()})
    dates = sorted(source["date"][:10] for source in sources.values())
    versions = sorted({f"jax {source['versions']['jax']}" for source in sources.values()})
    versions += sorted({f"PyTorch {piece['torch']}" for piece in pieces.values() if "torch" in piece})
    turns = sorted({piece["turns"] for piece in pieces.values()})
    if not places:
        return
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    yield f"{'; '.join(places)}; {', '.join(versions)}; {when}. Medians over {' or '.join(map(str, turns))} turns, with the"
    yield "interval of 95 % of a bootstrap over turns. Ratios are of times in the same turn."
    yield ""


def _place(source: Mapping[str, Any]) -> str:
    """Where a piece ran: its accelerators, or its CPUs."""
    accelerators = source.get("accelerators") or []
    named = [f"{accelerators.count(name)} {name}" for name in sorted(set(accelerators))]
    return ", ".join([*named, f"{source['cpu_count']} CPUs of {source['cpu']}"])


def _on_cpu(pieces: Pieces) -> dict[str, Piece]:
    """Those that ran on CPUs alone, which the targets are of."""
    return {name: piece for name, piece in pieces.items() if not piece["provenance"].get("accelerators")}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield from (f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
        yield ""


def _widths(pieces: Pieces) -> Iterator[str]:
    head = ["workload", "filters", "share of MACs", "client-steps/s", "over PyTorch, all filters", "over PyTorch, as wide"]
    head += ["share of our full time", "aimed at"]
    rows = []
    for workload, piece in _of(pieces, "widths").items():
        for keep, macs in piece["macs"].items():
            speed = median(1 / np.array(piece["seconds"][f"ours_{keep}"]))[1]
            over = [ratio(piece, f"ours_{keep}", f"pytorch_{width}")[1] for width in ("1.0", keep)]
            share = ratio(piece, "ours_1.0", f"ours_{keep}")[1]
            aim = "1" if keep == "1.0" else f"{allowed(macs):.2f}"
            rows.append([workload, _FILTERS[keep], f"{macs:.3f}", speed, *over, share if keep != "1.0" else "1", aim])
    yield from _table(head, rows)


def _plans(pieces: Pieces) -> Iterator[str]:
    rows = []
    for workload, piece in _of(pieces, "plan").items():
        macs = piece["macs"]["plan"]
        speed, over = median(1 / np.array(piece["seconds"]["plan"]))[1], ratio(piece, "plan", "full")[1]
        masked = ratio(piece, "plan", "masked")[1] if "masked" in piece["seconds"] else "–"
        rows.append([workload, f"{macs:.3f}", speed, over, masked, ratio(piece, "full", "plan")[1], f"{allowed(macs):.2f}"])
    head = [
        "a plan of 12 entries",
        "share of MACs",
        "client-steps/s",
        "over our full network",
        "over the plan masked",
        "share of the full network's time",
        "aimed at",
    ]
    yield from _table(head, rows)


def _forms(pieces: Pieces) -> Iterator[str]:
    rows = []
    for workload, piece in _of(pieces, "forms").items():
        for name, seconds in piece["seconds"].items():
            form, at_once, keep = name.split("_")
            rows.append([workload, form, at_once, _FILTERS[keep], median(1 / np.array(seconds))[1]])
    yield from _table(["workload", "convolutions", "clients at once", "filters", "client-steps/s"], rows)


def _compilations(pieces: Pieces) -> Iterator[str]:
    rows = [
        [workload, str(piece["programs"]), f"{piece['first']:.0f}", f"{piece['from_disk']:.0f}"]
        for workload, piece in _of(pieces, "compile").items()
    ]
    yield from _table(["a plan of 12 entries", "programs", "first round, s", "with all on the disk, s"], rows)


def _accounts(pieces: Pieces) -> Iterator[str]:
    for workload, piece in _of(pieces, "account").items():
        widths = piece["widths"]
        names = sorted({name for account in widths.values() for name in account["parts_ms"]}, key=_order)

        def milliseconds(name: str, widths: Mapping[str, Any] = widths) -> list[str]:
            return [f"{account['parts_ms'].get(name, 0):.1f}" for account in widths.values()]

        rows = [[name, *milliseconds(name)] for name in names if set(milliseconds(name)) != {"0.0"}]
        rest = [max(0.0, account["step_ms"] - account["profiled_ms"]) for account in widths.values()]
        rows.append(["between operations", *(f"{value:.1f}" for value in rest)])
        rows.append(["all", *(f"{account['step_ms']:.1f}" for account in widths.values())])
        yield from _table([f"ms of a step of {workload}, one thread", *(_FILTERS[keep] for keep in widths)], rows)


def _order(name: str) -> tuple[int, str, int]:
    if name in (others := (SUMS, ELEMENTWISE, AROUND, COPIES)):
        return 1 + others.index(name), "", 0
    layer, direction = name.rsplit(", ", 1)
    return 0, layer, DIRECTIONS.index(direction)


def _targets(pieces: Pieces) -> Iterator[str]:
    rows: list[list[str]] = []

    def row(what: str, least: Sequence[float], measured: Sequence[float], *, most: bool = False) -> None:
        reached = [value <= aim if most else value >= aim for value, aim in zip(measured, least, strict=True)]
        said = "reached" if all(reached) else "missed" if not any(reached) else f"{sum(reached)} of {len(reached)} reached"
        rows.append([what, " / ".join(map(str, least)), " / ".join(f"{value:.3g}" for value in measured), said])

    pieces = _on_cpu(pieces)
    for workload, piece in _of(pieces, "widths").items():
        over = [ratio(piece, f"ours_{keep}", "pytorch_1.0")[0] for keep in piece["macs"]]
        row(f"{workload}: all / half / a quarter of the filters over PyTorch's full network", _OVER_PYTORCH[workload], over)
        over = [ratio(piece, f"ours_{keep}", f"pytorch_{keep}")[0] for keep in piece["macs"]]
        row(f"{workload}: the same over PyTorch's network of that width", [_AT_WIDTH] * len(over), over)
    for workload, piece in _of(pieces, "plan").items():
        row(f"{workload}: a plan over our full network", [_PLAN], [ratio(piece, "plan", "full")[0]])
    for workload, piece in _of(pieces, "compile").items():
        seconds = [piece["first"], piece["from_disk"]]
        row(f"{workload}: first round / from the disk, s (at most)", [_FIRST, _FROM_DISK], seconds, most=True)
    yield from _table(["target", "aimed at", "measured", ""], rows)
