"""Seconds of training steps on this machine, of any table and size of mini-batches, each measured once and kept in a file.

    seconds = StepSeconds("core", Path("runs/seconds.json"))
    table = table_for(method, world, None, training, seconds.measured)

With them every method can be counted in seconds: those that make a table of their own, and those with smaller mini-batches,
whose step takes more than their share of a larger one's time. What a step costs is measured beside the full network's step
at the first training settings that the file met, by turns; costs are kept relative to that.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distreal_jax import processes
from distreal_jax.document import Fields, read_document, write_document
from distreal_jax.errors import InputError
from distreal_jax.files import made_folder
from distreal_jax.fleet.federation import Federation
from distreal_jax.fleet.timed_step import RelativeSeconds, StepKind
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.fleet.world import World
from distreal_jax.methods import METHODS
from distreal_jax.signs import say
from distreal_jax.table import Configuration, DropoutTable

_KIND, _SCHEMA = "seconds of training steps", 1
_REMEDY = "remove it, and it is measured again"


_Step = tuple[StepKind, tuple[int, ...], int, int]  # and widths, depth and examples


@dataclasses.dataclass
class _OfNetwork:
    """What is known of one network: its full step at the reference settings, and costs of steps relative to that."""

    reference: StepKind
    seconds: float
    costs: dict[_Step, float]


class StepSeconds:
    """Measures what is not known yet, and remembers it.

    Attributes:
      device: Name of the machine's device, as in `--cost seconds:NAME`.
    """

    def __init__(
        self, device: str, file: Path, provenance: Mapping[str, Any] | None = None, *, shared: bool = False
    ) -> None:
        """Reads what the file knows, if it is there.

        Args:
          device: Its name.
          file: The file.
          provenance: JSON values that say who measures, for the file.
          shared: Other processes run beside this one, so nothing can be measured.

        Raises:
          InputError: The file is damaged, or holds the seconds of another device.
        """
        self.device, self._file, self._provenance, self._shared = device, file, provenance or {}, shared
        self._known = self._read() if file.exists() else dict[str, _OfNetwork]()
        self._measuring = dict[str, RelativeSeconds]()

    def measured(self, table: DropoutTable, world: World, training: TrainingSettings) -> DropoutTable:
        """The table with the seconds of its entries, and of the full network, at a size of mini-batches.

        Args:
          table: Any table of the world's network.
          world: Has network and data.
          training: Has the size of a mini-batch, and the optimiser.

        Raises:
          InputError: Something has to be measured and there are other processes, or the file can't be written.
        """
        every = [entry.configuration for entry in table.entries]
        *seconds, full = self._seconds([*every, Configuration(world.network.full_widths)], world, training)
        return table.with_seconds(self.device, seconds, full)

    def of_round(self, world: World, training: TrainingSettings) -> float:
        """Seconds of a round's mini-batches of the full network; arguments and errors as for `measured`."""
        (full,) = self._seconds([Configuration(world.network.full_widths)], world, training)
        return training.steps * full

    def _seconds(self, configurations: Sequence[Configuration], world: World, training: TrainingSettings) -> list[float]:
        kind, size = StepKind.of(training), training.batch_size
        steps: list[_Step] = [(kind, each.widths, each.depth, each.examples(size)) for each in configurations]
        known = self._known.setdefault(world.network.signature(), _OfNetwork(kind, 0.0, {}))
        missing = {step: each for step, each in zip(steps, configurations, strict=True) if step not in known.costs}
        if missing:
            if self._shared or processes.count() > 1:
                raise InputError(
                    f"the seconds of {len(missing)} training steps are not in {self._file}, and processes beside each other "
                    "would disturb the measurement; start one process first, without --share"
                )
            relative = self._relative(world, training, known.reference)
            say(f"measuring the seconds of {len(missing)} training steps with mini-batches of {size}")
            known.costs |= zip(missing, relative.of(list(missing.values()), training).tolist(), strict=True)
            known.seconds = known.seconds or relative.full_seconds
            self._save()
        return [known.seconds * known.costs[step] for step in steps]

    def _relative(self, world: World, training: TrainingSettings, reference: StepKind) -> RelativeSeconds:
        signature = world.network.signature()
        if signature not in self._measuring:
            settings = dataclasses.replace(
                training,
                batch_size=reference.batch_size,
                momentum=0.9 if reference.momentum else 0.0,
                weight_decay=1e-4 if reference.weight_decay else 0.0,
                clip_norm=1.0 if reference.clipping else 0.0,
            )
            federation = Federation(world, METHODS["distreal"], DropoutTable.full(world.network), settings)
            self._measuring[signature] = RelativeSeconds(federation, self.device)
        return self._measuring[signature]

    def _save(self) -> None:
        networks = [
            {
                "network": signature,
                **known.reference._asdict(),
                "seconds": known.seconds,
                "steps": [
                    {**kind._asdict(), "widths": list(widths), "depth": depth, "examples": examples, "cost": cost}
                    for (kind, widths, depth, examples), cost in known.costs.items()
                ],
            }
            for signature, known in self._known.items()
        ]
        made_folder(self._file.parent)
        write_document(
            self._file, _KIND, _SCHEMA, {"device": self.device, "networks": networks, "provenance": self._provenance}
        )

    def _read(self) -> dict[str, _OfNetwork]:
        fields = read_document(self._file, _KIND, _SCHEMA, _REMEDY)
        device, known = fields.text("device"), {}
        for row in fields.rows("networks"):
            signature, reference, seconds = row.text("network"), _kind(row), row.positive("seconds", 1e9)
            costs: dict[_Step, float] = {}
            for step in row.rows("steps"):
                kind, widths = _kind(step), step.wholes("widths", 1)
                key = kind, widths, step.whole("depth", 0), step.whole("examples", 1)
                costs[key] = step.positive("cost", 1e9)
                step.finish()
            row.finish()
            known[signature] = _OfNetwork(reference, seconds, costs)
        fields.mapping("provenance")
        fields.finish()
        if device != self.device:
            raise InputError(f"{self._file} has the seconds of {device!r}, not of {self.device!r}; give each device a file")
        return known


def _kind(row: Fields) -> StepKind:
    return StepKind(row.whole("batch_size", 1), row.flag("momentum"), row.flag("weight_decay"), row.flag("clipping"))
