"""From labels to what a trace tells: filter groups, where they lie along the axes of the variables, what is kept whole."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx

from distreal_jax.errors import InputError
from distreal_jax.tracing.interception import path_name
from distreal_jax.tracing.labels import PINNED, AxisLabels
from distreal_jax.tracing.layout import AxisLayout, LengthOfAxis
from distreal_jax.tracing.network import FilterGroup, KeptWhole, Path
from distreal_jax.tracing.site import Creation, Value
from distreal_jax.tracing.walk import Members, Walk

# Layers whose output has a scale of its own; others are known by the statistics that they keep.
_NORMALISATIONS = (nnx.BatchNorm, nnx.InstanceNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm)
OUTPUT = "the network's output"  # why labels are pinned that come out of it


def products_of(walk: Walk, members: Members, groups: int) -> tuple[tuple[int, tuple[LengthOfAxis, ...]], ...]:
    """The network's convolutions and dots as products of the lengths of their axes at any widths."""
    return tuple(
        (
            product.constant,
            tuple(LengthOfAxis.of_elements(walk.members_along(axis, members), groups) for axis in product.axes),
        )
        for product in walk.seen.products
    )


def find_groups(
    walk: Walk, parameters: Mapping[Path, Value], modules: Mapping[str, nnx.Module], statistics: set[Path]
) -> tuple[tuple[FilterGroup, ...], dict[int, tuple[int, int]], tuple[int, ...]]:
    """Collects classes of labels into groups.

    A class that goes its way alone is no group: there is nothing to choose from.

    Args:
      walk: Over the network.
      parameters: The labels of its variables.
      modules: By their paths.
      statistics: Variables that are running statistics.

    Returns:
      The groups; for each root label, its (group, filter); and for each group which creation of channels made it.
    """
    places: dict[int, Counter[tuple[Path, int]]] = {}
    for path, value in parameters.items():
        for axis, labels in enumerate(value.labels):
            for root in walk.ties.roots(labels):
                if root > PINNED:
                    places.setdefault(int(root), Counter())[path, axis] += 1
    owners = _owners(parameters)
    normalised = {int(root) for labels in walk.seen.normalised_over.values() for root in walk.ties.roots(labels)}
    heads = {int(root) for labels in walk.seen.heads for root in walk.ties.roots(labels)}
    groups: list[FilterGroup] = []
    members: dict[int, tuple[int, int]] = {}
    origins: list[int] = []
    for index, creation in enumerate(walk.seen.creations):
        together: dict[frozenset[Any], list[int]] = {}
        for root in dict.fromkeys(int(root) for root in walk.ties.roots(creation.labels)):
            if root > PINNED and root not in members and root in places:
                together.setdefault(frozenset(places[root].items()), []).append(root)
        for places_of, roots in together.items():
            if len(roots) == 1:
                continue
            origins.append(index)
            members.update((root, (len(groups), place)) for place, root in enumerate(roots))
            path, _ = owners.get(int(creation.labels[0]), ((), 0))
            groups.append(
                FilterGroup(
                    name=creation.layer or path_name(path),
                    filters=len(roots),
                    kind="head" if not heads.isdisjoint(roots) else creation.kind,
                    normalised=not normalised.isdisjoint(roots)
                    or any(
                        path in statistics or isinstance(modules.get(path_name(path[:-1])), _NORMALISATIONS)
                        for (path, _), _ in places_of
                    ),
                )
            )
    return _with_unique_names(groups), members, tuple(origins)


def _with_unique_names(groups: Sequence[FilterGroup]) -> tuple[FilterGroup, ...]:
    """Numbers the groups that one layer creates, if it creates several."""
    times = Counter(group.name for group in groups)
    numbers: Counter[str] = Counter()
    unique = []
    for group in groups:
        name = group.name if times[group.name] == 1 else f"{group.name}[{numbers[group.name]}]"
        numbers[group.name] += 1
        unique.append(dataclasses.replace(group, name=name))
    return tuple(unique)


def layout_of(walk: Walk, labels: AxisLabels, members: Members, groups: Sequence[FilterGroup], path: Path) -> AxisLayout:
    """Where the groups lie along an axis; raises `InputError` if their filters come in another order there."""
    layout = AxisLayout.of_elements(walk.members_along(labels, members), [group.filters for group in groups])
    if layout is None:
        raise InputError(
            f"can't trace {path_name(path)!r}: its filters come in another order than the layer that creates them has; "
            "keep the order of channels between layers, or keep the layers before it whole (keep_whole, see "
            "docs/extending.md)"
        )
    return layout


def _owners(parameters: Mapping[Path, Value]) -> dict[int, tuple[Path, int]]:
    """The (variable, axis) that a first label belongs to."""
    return {
        int(labels[0]): (path, axis)
        for path, value in parameters.items()
        for axis, labels in enumerate(value.labels)
        if len(labels) and labels[0] > PINNED
    }


def consumed_axes(walk: Walk, parameters: Mapping[Path, Value]) -> frozenset[tuple[Path, int]]:
    """(variable, axis) along which kernels take in channels."""
    owners = _owners(parameters)
    return frozenset(owners[int(labels[0])] for labels in walk.seen.contracted if int(labels[0]) in owners)


def layers_kept_whole(walk: Walk, members: Members) -> tuple[KeptWhole, ...]:
    """Layers none of whose filters can be dropped, and why; those that put out the network's outputs are not told."""
    found: dict[str, KeptWhole] = {}
    for creation in walk.seen.creations:
        along = walk.members_along(creation.labels, members)
        reason = _why_whole(walk, creation)
        if len(along) > 1 and not any(along) and reason and reason != OUTPUT:
            found.setdefault(creation.layer, KeptWhole(creation.layer, len(along), reason))
    return tuple(found.values())


def _why_whole(walk: Walk, creation: Creation) -> str:
    pinned = [int(label) for label in creation.labels if walk.ties.root(int(label)) == PINNED]
    if not pinned:
        return f"all {len(creation.labels)} can only be dropped together"
    return walk.ties.why_pinned(pinned[0])
