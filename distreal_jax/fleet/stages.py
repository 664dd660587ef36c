"""The stages of successive layer training: which part of a network is trained after which.

A stage freezes the first layers, which were trained before and are whole, and trains the next one whole, with the layers
behind it at as many filters as the device can afford. (Pfeiffer et al., NeurIPS 2023; k1l1/SLT, whose stages follow memory:
here it is the cost of a mini-batch.)
"""

import dataclasses

import numpy as np

from distreal_jax.table import Configuration, DropoutTable, kept_filters
from distreal_jax.tracing import TracedNetwork
from distreal_jax.tracing.filter_group import dropped_groups

_SHARES = np.arange(1, 101) / 100  # of the filters behind the layer that is trained, chosen by us


def stages_table(network: TracedNetwork, budget: float, *, dense: bool) -> DropoutTable:
    """A table with an entry for each stage up to the first that a device can't afford, which all later ones freeze.

    If it can't afford the first one, that one alone, at its narrowest.

    Args:
      network: The traced network.
      budget: What a mini-batch may cost, as a fraction of the full network's.
      dense: Hidden dense units are dropped too.
    """
    by_cost: dict[int, Configuration] = {}
    for depth in range(len(network.order.layers)):
        shares = (_stage(network, depth, share, dense=dense) for share in _SHARES)
        # Entries of a table differ in cost: of two stages that don't, the later one is a little narrower.
        affordable = {
            macs: stage
            for stage in shares
            if (macs := stage.macs(network)) <= budget * network.training_macs() and macs not in by_cost
        }
        if not affordable:
            break
        by_cost[max(affordable)] = affordable[max(affordable)]
    stages = list(by_cost.values()) or [_stage(network, 0, _SHARES[0], dense=dense)]
    return DropoutTable.from_configurations(network, stages, provenance={"made_by": "stages of layers"})


def _stage(network: TracedNetwork, depth: int, share: float, *, dense: bool) -> Configuration:
    layers, groups = network.order.layers, network.filter_groups
    place = {name: index for index, name in enumerate(layers)}
    behind = np.array([place.get(group.name.split("[")[0], len(layers)) > depth for group in groups], dtype=bool)
    rates = (1 - share) * (behind & dropped_groups(groups, dense=dense))
    return Configuration(tuple(kept_filters(network.full_widths, rates).tolist()), depth=depth)


@dataclasses.dataclass(frozen=True)
class Stages:
    """When a table's entries are trained, which are stages.

    Attributes:
      order: Entries in the order of their stages.
      ends: Share of the training by whose end each stage is over, the same order.
    """

    order: tuple[int, ...]
    ends: tuple[float, ...]

    @classmethod
    def of(cls, network: TracedNetwork, table: DropoutTable) -> "Stages":
        """A stage lasts in proportion to the parameters that it trains, as in k1l1/SLT."""
        order = sorted(range(len(table.entries)), key=lambda index: table.entries[index].depth)
        stages = [table.entries[index] for index in order]
        sizes = np.array([network.trained_variables(stage.widths, stage.depth) for stage in stages])
        return cls(tuple(order), tuple((np.cumsum(sizes) / sizes.sum()).tolist()))

    def stage(self, passed: float) -> int:
        """The stage when so much of the training has passed, in [0, 1)."""
        return min(int(np.searchsorted(self.ends, passed, side="right")), len(self.order) - 1)
