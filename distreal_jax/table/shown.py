"""How a dropout table looks: as text when it is printed, and in a notebook with the rates of each layer shaded."""

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distreal_jax.table.dropout_table import DropoutTable


def as_text(table: "DropoutTable") -> str:
    """A line for each entry: cost, progress if it was measured, filters kept of each group."""
    measured = any(entry.progress is not None for entry in table.entries)
    parts = any(entry.batch_share != 1 for entry in table.entries)
    head = ["entry", "MACs", *(["examples"] if parts else []), *(["progress"] if measured else []), *table.group_names]
    rows = [head]
    for index, (entry, share) in enumerate(zip(table.entries, table.costs(), strict=True)):
        progress = "" if entry.progress is None else f"{entry.progress:.3f}"
        examples = [f"{entry.batch_share:.0%}"] if parts else []
        rows.append([str(index), f"{share:.1%}", *examples, *([progress] if measured else []), *map(str, entry.widths)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    full = ", ".join(f"{name} {filters}" for name, filters in zip(table.group_names, table.group_filters, strict=True))
    return "\n".join([f"Dropout table: filters kept of {full}; MACs as a share of {table.full_macs:,}.", *lines])


def as_html(table: "DropoutTable") -> str:
    """A row for each entry, a column for each group: the dropout rate, the darker the higher."""
    names = "".join(f"<th>{html.escape(name)}</th>" for name in table.group_names)
    rows = []
    for share, rates in zip(table.costs(), table.dropout_rates(), strict=True):
        cells = "".join(
            f'<td style="background:rgba(213,94,0,{rate:.2f});color:{"white" if rate > 0.6 else "inherit"}">{rate:.0%}</td>'
            for rate in rates
        )
        rows.append(f"<tr><td>{share:.1%}</td>{cells}</tr>")
    caption = f"Dropout rate of each layer, by cost; the full network has {table.full_macs:,} MACs"
    return f"<table><caption>{caption}</caption><tr><th>MACs</th>{names}</tr>{''.join(rows)}</table>"
