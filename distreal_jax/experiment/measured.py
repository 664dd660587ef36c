"""Worlds that count in the measured seconds of this machine, for all methods of a command."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from distreal_jax.errors import InputError
from distreal_jax.fleet.method_table import Measured
from distreal_jax.fleet.step_seconds import StepSeconds
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World, WorldSettings
from distreal_jax.record.provenance import provenance
from distreal_jax.signs import say
from distreal_jax.table import DropoutTable
from distreal_jax.table.order import MACS, device_of

GivenSeconds = Annotated[
    Path | None,
    tyro.conf.arg(
        help="With --cost seconds:NAME, a file of the seconds of training steps. What it lacks is measured on this machine "
        "and added; let the machine do nothing else meanwhile. By default seconds are those of the table."
    ),
]
"""Names a file of measured seconds."""


@dataclasses.dataclass(frozen=True)
class CountedIn:
    """What a command counts work in.

    Attributes:
      settings: The world's settings, with the seconds that a round offers.
      measured: Adds seconds to tables; None: they have them, or MACs count.
      notes: For a dry run.
    """

    settings: WorldSettings
    measured: Measured | None = None
    notes: tuple[str, ...] = ()

    def of(self, world: World) -> World:
        """A world that was made before its settings were known."""
        return dataclasses.replace(world, cost=self.settings.cost, seconds_offered=self.settings.seconds_offered)

    def say_how_sure(self, table: DropoutTable | None) -> None:
        """Says of a table by whose own seconds devices choose that they were too noisy for that, if it says so."""
        cost = self.settings.cost
        known = {} if table is None or cost == MACS or self.measured is not None else table.provenance.get(cost, {})
        if isinstance(known, dict) and known.keys() >= {"noisy", "entries", "uncertainty"} and known["noisy"]:
            say(
                f"the table's seconds of {device_of(cost)} are too noisy to choose by: the costs of {known['noisy']} of "
                f"{known['entries']} entries are uncertain, by up to {known['uncertainty']:.0%}; "
                "measure again with `distreal profile`"
            )


def counted_in(
    settings: WorldSettings,
    training: TrainingSettings,
    file: Path | None,
    world: World,
    *,
    planned: bool = False,
    shared: bool = False,
) -> CountedIn:
    """Measures what a round offers in seconds: what `training.steps` mini-batches of the full network take.

    Args:
      settings: Of the world, with its unit of cost.
      training: The usual settings, before tuning.
      file: Of the seconds; None: nothing is measured.
      world: A world of these settings.
      planned: In a dry run nothing is measured either; MACs stand in for seconds.
      shared: Other processes run beside this one.

    Raises:
      InputError: A file is given and MACs count, or as `StepSeconds`.
    """
    if file is None:
        return CountedIn(settings)
    if settings.cost == MACS:
        raise InputError(f"--seconds {file} is given and work is counted in MACs; give --cost seconds:NAME too")
    device = device_of(settings.cost)
    if planned:
        offered = "; a round offers those of its mini-batches of the full network" if settings.seconds_offered else ""
        note = f"Nothing is measured in a dry run: MACs stand in for seconds on {device}{offered}."
        return CountedIn(dataclasses.replace(settings, cost=MACS, seconds_offered=0.0), notes=(note,))
    seconds = StepSeconds(device, file, provenance(), shared=shared)
    if not settings.seconds_offered:
        settings = dataclasses.replace(settings, seconds_offered=seconds.of_round(world, training))
    return CountedIn(settings, seconds.measured)
