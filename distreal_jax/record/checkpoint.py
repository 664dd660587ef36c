"""Checkpoints of a run (Orbax): the server's state beside what was counted so far, committed together or not at all."""

import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from distreal_jax.errors import InputError

_KEPT = 2  # the last one, and the one before in case the disk damages it


class Checkpoints:
    """The checkpoints of one run folder. A context manager."""

    def __init__(self, folder: Path) -> None:
        """Opens, or makes, `folder/checkpoints`."""
        self._folder = (Path(folder) / "checkpoints").absolute()
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, enable_async_checkpointing=False)
        return ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, round_index: int, state: Any, counted: dict[str, Any]) -> None:
        """Commits the state before `round_index`.

        Args:
          round_index: Rounds done.
          state: A pytree of arrays.
          counted: JSON values.

        Raises:
          InputError: The disk is full or can't be written; earlier checkpoints are intact.
        """
        leaves = {str(index): leaf for index, leaf in enumerate(jax.tree.leaves(state))}
        try:
            self._manager.save(
                round_index, args=ocp.args.Composite(state=ocp.args.StandardSave(leaves), counted=ocp.args.JsonSave(counted))
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"the checkpoint of round {round_index} can't be written to {self._folder} ({_line(error)}); free some "
                "space and start the same command again: it goes on from the checkpoint before"
            ) from error

    def latest(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """The newest checkpoint that reads well, as (rounds done, state, counted); None where there is none.

        A damaged one is said on stderr and removed.

        Args:
          like: A state of the same structure and shapes.
        """
        leaves, structure = jax.tree.flatten(like)
        wanted = {str(index): ocp.utils.to_shape_dtype_struct(leaf) for index, leaf in enumerate(leaves)}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._manager.restore(
                    step, args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted), counted=ocp.args.JsonRestore())
                )
                state = [restored.state[str(index)] for index in range(len(leaves))]
                if [leaf.shape for leaf in state] != [leaf.shape for leaf in leaves]:
                    raise ValueError("shapes of another network")
                return step, jax.tree.unflatten(structure, state), dict(restored.counted)
            except Exception as error:  # Orbax and its storage raise whatever a damaged file makes them raise
                sys.stderr.write(f"checkpoint of round {step} is damaged ({_line(error)}); using the one before\n")
                self._manager.close()
                shutil.rmtree(self._folder / str(step), ignore_errors=True)
                self._manager = self._open()
        return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
