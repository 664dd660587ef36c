"""How a dropout table looks: as text when it is printed, and in a notebook with the rates of each layer shaded."""

import html
from typing import TYPE_CHECKING

from distreal_jax.signs import percent

if TYPE_CHECKING:
    from distreal_jax.table.dropout_table import DropoutTable


def as_text(table: "DropoutTable") -> str:
    """A line for each entry: cost, what else it chooses where any does, progress if measured, filters kept of each group."""
    columns = {
        **cost_in_own_unit(table),
        **chosen_beside_filters(table),
        "progress": ["" if entry.progress is None else f"{entry.progress:z.3f}" for entry in table.entries],
    }
    if not any(columns["progress"]):
        del columns["progress"]
    rows = [["entry", "MACs", *columns, *table.group_names]]
    for index, (entry, share) in enumerate(zip(table.entries, table.costs(), strict=True)):
        others = [cells[index] for cells in columns.values()]
        rows.append([str(index), percent(share), *others, *map(str, entry.widths)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    full = ", ".join(f"{name} {filters}" for name, filters in zip(table.group_names, table.group_filters, strict=True))
    return "\n".join([f"Dropout table: filters kept of {full}; MACs of training as a share of {table.full_macs:,}.", *lines])


def cost_in_own_unit(table: "DropoutTable") -> dict[str, list[str]]:
    """The unit of a table that is not ordered by MACs, with the cost of each entry in it."""
    return {} if table.unit == "macs" else {table.unit: [percent(cost) for cost in table.costs(table.unit)]}


def chosen_beside_filters(table: "DropoutTable") -> dict[str, list[str]]:
    """What entries choose beside filters, where any does: a column for each knob, [entries]."""
    columns = {
        "examples": [f"{entry.batch_share:.0%}" for entry in table.entries],
        "depth": [str(entry.depth) for entry in table.entries],
        "step": [f"{entry.step_factor:.3g}" for entry in table.entries],
    }
    usual = {"examples": "100%", "depth": "0", "step": "1"}
    return {name: cells for name, cells in columns.items() if any(cell != usual[name] for cell in cells)}


def as_html(table: "DropoutTable") -> str:
    """A row for each entry: its cost, what else it chooses, and for each group the dropout rate, the darker the higher."""
    others = chosen_beside_filters(table)
    names = "".join(f"<th>{html.escape(name)}</th>" for name in ["MACs", *others, *table.group_names])
    rows = []
    for index, (share, rates) in enumerate(zip(table.costs(), table.dropout_rates(), strict=True)):
        plain = "".join(f"<td>{cell}</td>" for cell in [percent(share), *(cells[index] for cells in others.values())])
        shaded = "".join(
            f'<td style="background:rgba(213,94,0,{rate:.2f});color:{"white" if rate > 0.6 else "inherit"}">{rate:.0%}</td>'
            for rate in rates
        )
        rows.append(f"<tr>{plain}{shaded}</tr>")
    caption = f"Dropout rate of each layer, by cost; training the full network takes {table.full_macs:,} MACs for an example"
    return f"<table><caption>{caption}</caption><tr>{names}</tr>{''.join(rows)}</table>"
