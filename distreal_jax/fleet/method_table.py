"""The table that a method's devices choose from: the searched one, or one that the method makes."""

import dataclasses
from collections.abc import Callable

import numpy as np

from distreal_jax.availability.history import expected_of_fleet
from distreal_jax.errors import InputError
from distreal_jax.fleet.stages import stages_table
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World
from distreal_jax.methods import Method
from distreal_jax.table import DropoutTable
from distreal_jax.table.order import MACS, device_of

HALVING_RATES = (0.0, 1 / 2, 3 / 4, 7 / 8, 15 / 16)  # HeteroFL's levels {1, 1/2, 1/4, 1/8, 1/16}
UNIFORM_RATES = tuple(1 - level / 12 for level in range(1, 13))  # chosen by us: as many entries as a searched table has

Measured = Callable[[DropoutTable, World, TrainingSettings], DropoutTable]
"""Adds measured seconds of the entries, and of the full network, to a table."""


def table_for(
    method: Method,
    world: World,
    searched: DropoutTable | None,
    training: TrainingSettings,
    measured: Measured | None = None,
) -> DropoutTable:
    """The table that a method's devices choose from: what is worth choosing at its cost in the world's unit.

    Args:
      method: The method.
      world: Its network, its load, and the unit of cost.
      searched: The searched table, for methods that need one.
      training: Has the size of a whole mini-batch.
      measured: Adds the seconds of a world that counts in seconds to any table, in place of those that the table has; see
        `StepSeconds`.

    Raises:
      InputError: The method needs a searched table and none is given, or it was made for another network; or cost is counted
        in seconds that were not measured; or it drops filters and of this network none can be dropped.
    """
    network, unmeasured = world.network, world.cost != MACS and measured is None
    if method.rates not in ("table", "full", "depths") or (not network.filter_groups and method.rates == "table"):
        network.refuse_if_nothing_is_dropped(method.name, dense=method.dense)
    if method.rates == "table":
        if searched is None:
            raise InputError(f"{method.name} needs a dropout table; search one with `distreal search` and give --table")
        table = searched.checked_for(network)
    elif method.rates == "full" and method.unfinished != "layers":
        table = DropoutTable.full(network)
    elif method.rates == "stages":
        if world.cost != MACS:
            raise InputError(f"{method.name} makes stages that fit a budget of MACs; leave --cost out")
        return stages_table(network, _affordable(method, world), dense=method.dense)
    elif unmeasured:
        raise InputError(
            f"{method.name} makes a table of its own ({method.rates}), of which no seconds were measured; give --seconds a "
            "file for them, or leave --cost out"
        )
    elif method.rates in ("full", "depths"):
        table = DropoutTable.frozen(network)
    else:
        rates = HALVING_RATES if method.rates == "halving" else UNIFORM_RATES
        table = DropoutTable.uniform(network, rates, dense=method.dense)
    if method.batch == "cut":
        if unmeasured:
            raise InputError(
                f"{method.name} cuts mini-batches, of which no seconds were measured; give --seconds a file for them, or "
                "leave --cost out"
            )
        table = table.with_cut_batches(training.batch_size)
    table = table.for_batches(training.batch_size)
    if world.cost != MACS and measured is not None:
        table = measured(table, world, training)
    if method.by_progress and any(entry.progress is None for entry in table.entries):
        raise InputError(
            f"{method.name} chooses by measured progress, which the table has not; search one, or give pace=present"
        )
    table = table.undominated(world.cost)
    if method.decided != "never":
        return table
    affordable = _affordable(method, world) / full_cost(table, world, training)
    return dataclasses.replace(table, entries=(table.select_share(affordable, world.cost),))


def full_cost(table: DropoutTable, world: World, training: TrainingSettings) -> float:
    """What a mini-batch of the full network costs, as a fraction of what a round offers for each of its `steps`.

    1, unless the world says how many seconds a round offers: small mini-batches may cost more than their share then.

    Args:
      table: Has the seconds of the full network.
      world: Has the unit of cost, and what a round offers.
      training: How many mini-batches a round has.

    Raises:
      InputError: The seconds of the full network were not measured.
    """
    if world.cost == MACS or not world.seconds_offered:
        return 1.0
    device = device_of(world.cost)
    if device not in table.full_seconds:
        raise InputError(f"a round offers seconds, and those of the full network on {device!r} were not measured")
    return table.full_seconds[device] * training.steps / world.seconds_offered


def _affordable(method: Method, world: World) -> float:
    """What a device can afford for ever, as a share of what a round offers."""
    return expected_of_fleet(method.cap, world.availability, np.arange(world.devices)) if method.limited else 1.0
