"""Smaller networks of a traced one, run abstractly: whether they run, in which shapes and with which numbers."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from distreal_jax.errors import InputError
from distreal_jax.tracing.counts import Numbers, fit
from distreal_jax.tracing.hard_coded import (
    Chosen,
    Difference,
    HardCodedError,
    Placement,
    UncountedError,
    numbers_that_differ,
    sub_network_jaxpr,
)
from distreal_jax.tracing.layout import LengthOfAxis
from distreal_jax.tracing.network import TracedNetwork
from distreal_jax.tracing.walk import Members, NetworkJaxpr, Trail, Walk


class Probe(NamedTuple):
    """Sub-networks that the trace is tried on."""

    train: bool
    small: NetworkJaxpr
    kept: Chosen


class Subject(NamedTuple):
    """A trace that is to be proved.

    Attributes:
      network: What the trace told.
      state: The network's variables, or their shapes.
      example: The shapes and types of its inputs.
      wholes: The network's jaxpr in training (True) and in evaluation.
      trails: The steps of these, with their labels.
      walk: The walk over both.
      members: For each root label its (group, filter).
    """

    network: TracedNetwork
    state: Any
    example: Any
    wholes: dict[bool, NetworkJaxpr]
    trails: dict[bool, Trail]
    walk: Walk
    members: Members


def fails_at(subject: Subject, groups: Collection[int], refusal: InputError) -> HardCodedError | None:
    """What goes wrong where these groups alone have fewer filters: the network does not run, has other shapes or numbers.

    Args:
      subject: The trace.
      groups: Of filters.
      refusal: What went wrong with fewer filters of all groups.
    """
    train, kept = getattr(refusal, "tried", None) or kept_sets(subject.network.full_widths)[0]
    everything = map(np.arange, subject.network.full_widths)
    alone = [chosen if index in groups else all_ for index, (chosen, all_) in enumerate(zip(kept, everything, strict=True))]
    try:
        _, (differences,) = run_smaller(subject, [(train, alone)])
    except HardCodedError as error:
        return error
    if isinstance(refusal, UncountedError) and refusal.number in [(of.step.place, of.operand) for of in differences]:
        return refusal
    return None


def run_smaller(subject: Subject, sets: Sequence[tuple[bool, Chosen]]) -> tuple[list[Probe], list[list[Difference]]]:
    """The smaller networks, and for each the numbers that are others than in the whole network.

    Raises:
      HardCodedError: One does not run, or a shape is another.
    """
    placement = Placement(subject.walk, subject.members, subject.network.full_widths)
    probes, differences = [], []
    for train, kept in sets:
        widths = [len(chosen) for chosen in kept]
        try:
            small = sub_network_jaxpr(subject.network, widths, subject.state, subject.example, train=train)
            differences.append(numbers_that_differ(small, subject.trails[train], placement, kept))
        except HardCodedError as error:
            error.tried = (train, kept)
            raise
        probes.append(Probe(train, small, kept))
    return probes, differences


def with_counts(subject: Subject) -> TracedNetwork:
    """The network with what masked execution does about numbers of channels.

    Raises:
      UncountedError: A number is no function of a number of channels that is known.
    """
    network, full = subject.network, subject.network.full_widths
    axes = {axis.tobytes(): axis for trail in subject.trails.values() for _, labels in trail for axis in labels}
    along = (
        LengthOfAxis.of_elements(subject.walk.members_along(axis, subject.members), len(full)) for axis in axes.values()
    )
    lengths = [length for length in dict.fromkeys(along) if any(length.per_filter)]
    actions = {train: dict(of_mode) for train, of_mode in network.actions.items()}
    # Networks of many widths in each mode, so that a number fits one function alone.
    probes, differences = run_smaller(subject, [*kept_sets(full, times=2), *_of_other_widths(full, times=3)])
    for train in (True, False):
        chosen = [(probe, of) for probe, of in zip(probes, differences, strict=True) if probe.train == train]
        widths = [[len(filters) for filters in probe.kept] for probe, _ in chosen]
        first = {(of.step.place, of.operand): of for _, differing in chosen for of in differing}
        smaller = [{(of.step.place, of.operand): of.smaller for of in differing} for _, differing in chosen]
        tried = {(of.step.place, of.operand): probe.kept for probe, differing in reversed(chosen) for of in differing}
        for (place, operand), of in first.items():
            numbers = Numbers(place, operand, of.whole, tuple(each.get((place, operand), of.whole) for each in smaller))
            counted = fit(numbers, widths, full, lengths)
            if counted is None:
                raise UncountedError(of, (train, tried[place, operand]))
            actions[train][place] = (*actions[train].get(place, ()), counted)
    return dataclasses.replace(network, actions=actions)


def _of_other_widths(filters: Sequence[int], times: int) -> list[tuple[bool, Chosen]]:
    """The first filters of each group, in training and in evaluation; so many that all widths of a group are different."""
    draw = np.random.default_rng(17)
    orders = [draw.permutation(np.arange(min(2, max(1, count - 1)), max(2, count))) for count in filters]
    return [
        (train, [np.arange(order[(2 * time + train) % len(order)]) for order in orders])
        for time in range(times)
        for train in (True, False)
    ]


def kept_sets(filters: Sequence[int], *, times: int = 1) -> list[tuple[bool, Chosen]]:
    """In training or not, and filters that are kept: few, many others, and in every other group alone.

    The few are of the first half of a group and the many have all of the second, so that a cut in halves, or at any other
    place, shows. Numbers of filters are odd and even, and neighbouring groups of one size keep different numbers.
    Several times: other draws as well, in both modes.
    """
    draw = np.random.default_rng(16)
    sets: list[tuple[bool, Chosen]] = []
    for time in range(times):
        few, many, every_other = [], [], []
        for index, count in enumerate(filters):
            half = -(-count // 2)
            order = np.concatenate([1 + draw.permutation(half - 1), [0], half + draw.permutation(count - half)])
            # A normalisation over a single channel leaves nothing to compare.
            least = min(2, max(1, count - 1))
            width = int(draw.integers(least, max(least, count // 3) + 1))
            few.append(order[:width])
            # What the few are is dropped here, so that each filter is dropped somewhere.
            most = max(1, count - width - (index + count + 1) % 2)
            many.append(order[::-1][: most - 2 * int(draw.integers(0, max(0, most - half) // 2 + 1))])
            nearly = max(1, count - 2 + (count + width) % 2)
            every_other.append(draw.permutation(count)[: nearly if index % 2 else count])
        modes = (True, False, True) if time == 0 else (False, True, False)
        sets += [
            (train, [np.sort(chosen) for chosen in kept])
            for train, kept in zip(modes, (few, many, every_other), strict=True)
            if [*map(len, kept)] != [*filters]
        ]
    return sets
