"""How a traced network looks: a table of its filter groups as text, and in a notebook with the share of each as a bar."""

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distreal_jax.tracing.network import TracedNetwork

_WIDTH = 120  # of the bar of a group that is in all MACs, in pixels


def as_text(network: "TracedNetwork") -> str:
    """A line for each group, the network's MACs, what is not in them, and the layers that are kept whole with the reason."""
    lines = [f"{'group':24} {'filters':>7}  {'kind':5} {'MACs':>6}  normalised"]
    for group, share in zip(network.filter_groups, shares(network), strict=True):
        normalised = "yes" if group.normalised else "no"
        lines.append(f"{group.name:24} {group.filters:7}  {group.kind:5} {share:6.1%}  {normalised}")
    if not network.filter_groups:
        lines = ["nothing of this network can be dropped"]
    return "\n".join([*lines, _total(network), *map(str, network.kept_whole)])


def as_html(network: "TracedNetwork") -> str:
    """The same as a table of HTML, the share of a group as a bar."""
    rows = []
    for group, share in zip(network.filter_groups, shares(network), strict=True):
        bar = f'<div style="width:{share * _WIDTH:.0f}px;height:0.8em;background:#0072B2;display:inline-block"></div>'
        cells = [html.escape(group.name), f"{group.filters:,}", group.kind, f"{bar} {share:.1%}"]
        cells.append("yes" if group.normalised else "no")
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("group", "filters", "kind", "MACs", "normalised"))
    whole = "".join(f"<br>{html.escape(str(layer))}" for layer in network.kept_whole)
    return f"<table><tr>{head}</tr>{''.join(rows)}</table><p>{_total(network)}{whole}</p>"


def shares(network: "TracedNetwork") -> list[float]:
    """For each group, the share of the network's MACs that its filters are in; a MAC may be in two groups."""
    full, found = network.macs(), list[float]()
    for index, group in enumerate(network.filter_groups):
        without = [1 if other == index else width for other, width in enumerate(network.full_widths)]
        found.append((full - network.macs(without)) / max(full, 1) * group.filters / (group.filters - 1))
    return found


def _total(network: "TracedNetwork") -> str:
    total = f"{network.macs():,} MACs for an example; a group's share is of the products that its filters are in"
    return "; not counted: ".join([total, ", ".join(network.uncounted)] if network.uncounted else [total])
