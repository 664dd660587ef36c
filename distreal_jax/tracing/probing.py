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


def fails_at(subject: Subject, groups: Collection[int]) -> HardCodedError | None:
    """What goes wrong where these groups alone have fewer filters: the network does not run, or has other shapes."""
    draw = np.random.default_rng(16)
    full = subject.network.full_widths
    widths = [max(1, count // 2) if index in groups else count for index, count in enumerate(full)]
    kept = [np.sort(draw.permutation(count)[:width]) for count, width in zip(full, widths, strict=True)]
    try:
        run_smaller(subject, [(True, kept)])
    except HardCodedError as error:
        return error
    return None


def run_smaller(subject: Subject, sets: Sequence[tuple[bool, Chosen]]) -> tuple[list[Probe], list[list[Difference]]]:
    """The smaller networks, and for each the numbers that are others than in the whole network."""
    placement = Placement(subject.walk, subject.members, subject.network.full_widths)
    probes, differences = [], []
    for train, kept in sets:
        widths = [len(chosen) for chosen in kept]
        small = sub_network_jaxpr(subject.network, widths, subject.state, subject.example, train=train)
        differences.append(numbers_that_differ(small, subject.trails[train], placement, kept))
        probes.append(Probe(train, small, kept))
    return probes, differences


def with_counts(subject: Subject) -> TracedNetwork:
    """The network with what masked execution does about numbers of channels.

    Raises:
      InputError: A number is no function of a number of channels that is known.
    """
    network, full = subject.network, subject.network.full_widths
    axes = {axis.tobytes(): axis for trail in subject.trails.values() for _, labels in trail for axis in labels}
    along = (
        LengthOfAxis.of_elements(subject.walk.members_along(axis, subject.members), len(full)) for axis in axes.values()
    )
    lengths = [length for length in dict.fromkeys(along) if any(length.per_filter)]
    actions = {train: dict(of_mode) for train, of_mode in network.actions.items()}
    # Networks of four widths or more in each mode, so that a number fits one function alone.
    probes, differences = run_smaller(subject, kept_sets(full, times=2))
    for train in (True, False):
        chosen = [(probe, of) for probe, of in zip(probes, differences, strict=True) if probe.train == train]
        widths = [[len(filters) for filters in probe.kept] for probe, _ in chosen]
        first = {(of.step.place, of.operand): of for _, differing in chosen for of in differing}
        smaller = [{(of.step.place, of.operand): of.smaller for of in differing} for _, differing in chosen]
        for (place, operand), of in first.items():
            numbers = Numbers(place, operand, of.whole, tuple(each.get((place, operand), of.whole) for each in smaller))
            counted = fit(numbers, widths, full, lengths)
            if counted is None:
                raise InputError(
                    f"{of.step.where} computes with the number of channels: {of.whole} in {of.step.operation} becomes "
                    f"{of.smaller} in a smaller network; compute it once, when the network is built, so that all "
                    "sub-networks share it"
                )
            actions[train][place] = (*actions[train].get(place, ()), counted)
    return dataclasses.replace(network, actions=actions)


def kept_sets(filters: Sequence[int], *, times: int = 1) -> list[tuple[bool, Chosen]]:
    """In training or not, and filters that are kept: few, many others, and in every other group alone.

    Several times: other draws as well, in both modes.
    """
    draw = np.random.default_rng(16)
    sets: list[tuple[bool, Chosen]] = []
    for time in range(times):
        orders = [draw.permutation(count) for count in filters]
        # A normalisation over a single channel leaves nothing to compare.
        least = [min(2, max(1, count - 1)) for count in filters]
        few = [int(draw.integers(low, max(low, count // 3) + 1)) for low, count in zip(least, filters, strict=True)]
        # What the few are is dropped here, so that each filter is dropped somewhere.
        most = [max(1, count - width) for count, width in zip(filters, few, strict=True)]
        many = [
            int(draw.integers(min(-(-count // 2), width), width + 1)) for count, width in zip(filters, most, strict=True)
        ]
        nearly = [max(1, count - 1 - index % max(1, count - 2)) for index, count in enumerate(filters)]
        pairs = enumerate(zip(nearly, filters, strict=True))
        every_other = [width if index % 2 else count for index, (width, count) in pairs]
        modes = (True, False, True) if time == 0 else (False, True, False)
        sets += [
            (train, [np.sort(order[::step][:width]) for order, width in zip(orders, widths, strict=True)])
            for train, step, widths in zip(modes, (1, -1, -1), (few, many, every_other), strict=True)
            if tuple(widths) != tuple(filters)
        ]
    return sets
