"""How much memory a device needs to train a configuration."""

import dataclasses
import functools
from typing import Any

from distreal_jax.step import Examples, LocalStep
from distreal_jax.step.memory import training_bytes
from distreal_jax.step.outputs import batch_shapes
from distreal_jax.table import Configuration, DropoutTable


@dataclasses.dataclass(frozen=True)
class DeviceMemory:
    """Peak bytes of a training step, by configuration; each is counted once.

    Attributes:
      step: Network, optimiser and task.
      params: The global parameters.
      train: The training examples.
      batch_size: Examples of a whole mini-batch.
    """

    step: LocalStep
    params: Any
    train: Examples
    batch_size: int

    def __call__(self, configuration: Configuration) -> int:
        """Bytes; see `training_bytes`."""
        return self._counted(configuration.at_usual_step)

    def added_to(self, table: DropoutTable) -> DropoutTable:
        """The table with the memory of each entry."""
        entries = [dataclasses.replace(entry, memory=float(self(entry.configuration))) for entry in table.entries]
        return dataclasses.replace(table, entries=tuple(entries))

    @functools.cached_property
    def _counted(self) -> Any:
        @functools.cache
        def counted(configuration: Configuration) -> int:
            batch = batch_shapes(self.train, configuration.examples(self.batch_size))
            return training_bytes(self.step, self.params, configuration.widths, batch, depth=configuration.depth)

        return counted
