"""How the plan of a round looks: a line for each device when it is printed, and in a notebook the first ones' rides."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from distreal_jax.plan import RoundPlan

_SHOWN = 6  # devices whose rides are drawn, chosen by us
_WIDTH, _HEIGHT = 560, 44  # of a ride, in pixels


def as_text(plan: "RoundPlan") -> str:
    """What each client does; work is counted in mini-batches of the full network."""
    rows = [["device", "mini-batches", "uploads", "cut", "spent", "wasted", "idle"]]
    for index, client in enumerate(plan.clients):
        yes = ["yes" if value else "no" for value in (plan.uploads[index], plan.deadline_hits[index])]
        work = [f"{part[index]:.2f}" for part in (plan.work_spent, plan.work_wasted, plan.work_idle)]
        rows.append([str(client), str(plan.steps_done[index]), *yes, *work])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    head = "Plan of a round; spent, wasted and idle in mini-batches of the full network, cut: the deadline came first."
    return "\n".join([head, *lines])


def as_html(plan: "RoundPlan") -> str:
    """The first devices' rides over the round: a bar for each mini-batch that is done, as high as its cost."""
    rides = []
    for index, client in enumerate(plan.clients[:_SHOWN]):
        ends = np.where(np.isfinite(plan.finish_times[index]), plan.finish_times[index], np.nan)
        bars, begin = [], 0.0
        for end, cost in zip(ends, plan.work[index], strict=True):
            if np.isfinite(end):
                height = _HEIGHT * min(float(cost), 1.0)
                x, y, width = begin * _WIDTH, _HEIGHT - height, max((end - begin) * _WIDTH - 1, 1)
                shape = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
                bars.append(f'<rect {shape} fill="#D55E00"/>')
                begin = float(end)
        frame = f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#888"/>'
        picture = f'<svg width="{_WIDTH}" height="{_HEIGHT}">{"".join(bars)}{frame}</svg>'
        rides.append(f"<tr><td>device {client}</td><td>{picture}</td></tr>")
    caption = "Mini-batches over the round, as high as their cost relative to the full network"
    return f"<table><caption>{caption}</caption>{''.join(rides)}</table>"
