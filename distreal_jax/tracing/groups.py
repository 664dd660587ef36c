"""From labels to what a trace tells: filter groups, where they lie along the axes of the variables, what is kept whole."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flax import nnx

from distreal_jax.tracing.filter_group import FilterGroup, KeptWhole
from distreal_jax.tracing.inner import Place
from distreal_jax.tracing.interception import path_name
from distreal_jax.tracing.labels import PINNED, AxisLabels
from distreal_jax.tracing.layout import AxisLayout, LengthOfAxis, MisorderedError
from distreal_jax.tracing.masking import Action, Axes, Excluded, Scaled
from distreal_jax.tracing.site import Creation, Value
from distreal_jax.tracing.sub_networks import Path
from distreal_jax.tracing.walk import Members, Trail, Walk

# Layers whose output has a scale of its own; others are known by the statistics that they keep.
_NORMALISATIONS = (nnx.BatchNorm, nnx.InstanceNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm)
OUTPUT = "the network's output"  # why labels are pinned that come out of it


def products_of(walk: Walk, members: Members, groups: int) -> tuple[tuple[int, tuple[LengthOfAxis, ...]], ...]:
    """The network's convolutions and dots as products of the lengths of their axes at any widths.

    Args:
      walk: That labelled the network's variables.
      members: For each label the group and the filter that it belongs to.
      groups: How many there are.

    Returns:
      For each product its constant factor and the lengths of its axes.
    """
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
    normalised = {int(root) for labels in walk.seen.normalised for root in walk.ties.roots(labels)}
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


def layout_of(walk: Walk, labels: AxisLabels, members: Members, groups: Sequence[FilterGroup]) -> AxisLayout:
    """Where the groups lie along an axis.

    Args:
      walk: That labelled the network's variables.
      labels: Of the elements of the axis, [length].
      members: For each label the group and the filter that it belongs to.
      groups: The filter groups.

    Raises:
      MisorderedError: The filters of a group don't all lie there in their order.
    """
    return AxisLayout.of_elements(walk.members_along(labels, members), [group.filters for group in groups])


def layouts_of(
    walk: Walk, axes: Sequence[AxisLabels], members: Members, groups: Sequence[FilterGroup]
) -> tuple[tuple[int, AxisLayout], ...]:
    """The axes along which groups lie, and where.

    Args:
      walk: That labelled the network's variables.
      axes: Labels of each axis.
      members: For each label the group and the filter that it belongs to.
      groups: The filter groups.

    Raises:
      MisorderedError: As `layout_of`.
    """
    layouts = enumerate(layout_of(walk, labels, members, groups) for labels in axes)
    return tuple((axis, layout) for axis, layout in layouts if layout.droppable)


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


def takes_in_of(walk: Walk, members: Members, groups: Sequence[FilterGroup]) -> dict[Place, Scaled]:
    """Kernels that take in channels of filter groups in training, and where along these.

    Args:
      walk: Over the network.
      members: For each root label its (group, filter).
      groups: The filter groups.
    """
    found = {
        place: Scaled(kernel, layouts_of(walk, axes, members, groups), place not in walk.seen.out_of_reach)
        for place, (kernel, axes) in walk.seen.takes_in.items()
    }
    return {place: scaled for place, scaled in found.items() if scaled.axes}


def layers_kept_whole(walk: Walk, parameters: Mapping[Path, Value], members: Members) -> tuple[KeptWhole, ...]:
    """Layers none of whose filters can be dropped, and why. Layers that produce the network's outputs are left out.

    Args:
      walk: That labelled the network's variables.
      parameters: Labels of the variables, by path.
      members: For each label the group and the filter that it belongs to.
    """
    found: dict[str, KeptWhole | None] = {}
    owners = _owners(parameters)
    for creation in walk.seen.creations:
        name = creation.layer or path_name(owners.get(int(creation.labels[0]), ((), 0))[0])
        along, reason = walk.members_along(creation.labels, members), _why_whole(walk, creation)
        if any(along):
            found[name] = None  # such as a layer whose heads can be dropped, and not the channels of each
        elif len(along) > 1 and reason and reason != OUTPUT:
            found.setdefault(name, KeptWhole(name, len(along), reason))
    return tuple(whole for name, whole in found.items() if name and whole)


def _why_whole(walk: Walk, creation: Creation) -> str:
    pinned = [int(label) for label in creation.labels if walk.ties.root(int(label)) == PINNED]
    if not pinned:
        return f"all {len(creation.labels)} can only be dropped together"
    return walk.ties.why_pinned(pinned[0])


def actions_of(
    walk: Walk, members: Members, groups: Sequence[FilterGroup], *, guarded: bool
) -> dict[bool, dict[Place, tuple[Action, ...]]]:
    """What masked execution does beside setting filters to zero, in training and in evaluation.

    Where channels are looked at together, what comes of dropped ones may be no number: the exponential of zero less a
    maximum far below.

    Args:
      walk: Over the network.
      members: For each root label its (group, filter).
      groups: The filter groups.
      guarded: Whether functions are kept from what dropped channels hold although no channels are looked at together.
    """
    actions: dict[bool, dict[Place, tuple[Action, ...]]] = {True: {}, False: {}}
    for (train, place), axes in walk.seen.excluding.items():
        if along := layouts_of(walk, axes, members, groups):
            actions[train][place] = (Excluded(0, along),)
    for (train, place), operands in walk.seen.risky.items():
        if guarded or actions[train]:
            found = [(operand, layouts_of(walk, axes, members, groups)) for operand, axes in operands.items()]
            if guards := tuple(Excluded(operand, along) for operand, along in found if along):
                actions[train][place] = guards
    return actions


def draws_of(walk: Walk, members: Members, groups: Sequence[FilterGroup]) -> dict[bool, dict[Place, Axes]]:
    """Random numbers that filters meet, in training (True) and in evaluation.

    Args:
      walk: That labelled the network's variables.
      members: For each label the group and the filter that it belongs to.
      groups: The filter groups.
    """
    draws: dict[bool, dict[Place, Axes]] = {True: {}, False: {}}
    for (train, place), axes in walk.seen.draws.items():
        if along := layouts_of(walk, axes, members, groups):
            draws[train][place] = along
    return draws


def misordered_groups(
    walk: Walk, parameters: Mapping[Path, Value], members: Members, groups: Sequence[FilterGroup]
) -> set[int]:
    """Numbers of the groups whose filters don't lie in their order along an axis of a variable.

    Args:
      walk: That labelled the network's variables.
      parameters: Labels of the variables, by path.
      members: For each label the group and the filter that it belongs to.
      groups: The filter groups.
    """
    found = set()
    for value in parameters.values():
        for labels in value.labels:
            try:
                layout_of(walk, labels, members, groups)
            except MisorderedError as error:
                found.add(error.group)
    return found


def why_misordered(
    walk: Walk,
    trails: Iterable[Trail],
    members: Members,
    groups: Sequence[FilterGroup],
    group: int,
    creation: Creation,
) -> str:
    """The operation after which a group's filters don't lie in their order, in words for a message.

    Args:
      walk: That labelled the network's variables.
      trails: All steps of the walk.
      members: For each label the group and the filter that it belongs to.
      groups: The filter groups.
      group: Number of the group.
      creation: Where the channels of the group come from.
    """
    among = [int(label) for label in creation.labels if walk.ties.root(int(label)) == PINNED]
    if among and (why := walk.ties.why_pinned(among[0])) not in ("", OUTPUT):
        return why  # a channel among them alone is kept
    for step, axes in itertools.chain(*trails):
        for labels in axes:
            try:
                layout_of(walk, labels, members, groups)
            except MisorderedError as error:
                if error.group != group:
                    continue
                there = {member for member in walk.members_along(labels, members) if member and member[0] == group}
                some = len(there) < groups[group].filters
                return f"{step}, after which channels {'go different ways' if some else 'come in another order'}"
    return "a variable in which they come in another order"
