"""The checkpoint of a search: written after every generation, from which a killed search goes on to the bitwise same result.

It holds the population's rates and every measured progress, no random state: each generation draws from a generator named by
the seed and its own index. The checkpoint before it is kept, for a machine that dies while writing.
"""

import dataclasses
import math
import os
import reprlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from distreal_jax.document import DamagedDocumentError, Fields, plain_json, read_document, write_document
from distreal_jax.errors import InputError
from distreal_jax.table import Configuration
from distreal_jax.table.configuration import LONGEST_STEP

KIND = "distreal_jax search checkpoint"
SCHEMA = 3  # 1 knew filters alone; 2 no seconds
_REMEDY = "delete it to start the search anew"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state of a search after a generation.

    Attributes:
      population: [population, genes], in the order of selection.
      measured: Progress at each repeat, by the configuration, in the order of evaluation.
      counts: [generations so far], vectors evaluated by the end of each.
      seconds: Costs that were measured, as fractions of the full network's seconds.
      full_seconds: Of the full network; 0 if nothing was measured.
    """

    population: tuple[tuple[float, ...], ...]
    measured: Mapping[Configuration, tuple[float, ...]]
    counts: tuple[int, ...]
    seconds: Mapping[Configuration, float] = dataclasses.field(default_factory=dict)
    full_seconds: float = 0.0


def save_checkpoint(path: Path, identity: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Writes a checkpoint and keeps the one before it as `<path>.previous`.

    Args:
      path: The file; its folder exists.
      identity: JSON values that say which search this is; another search refuses the checkpoint.
      checkpoint: The state.

    Raises:
      InputError: It can't be written.
    """
    content = {
        "identity": plain_json(dict(identity), "what identifies the search"),
        "counts": checkpoint.counts,
        "population": [{"rates": rates} for rates in checkpoint.population],
        "evaluated": [
            {**dataclasses.asdict(vector), "progress": progress} for vector, progress in checkpoint.measured.items()
        ],
        "timed": [{**dataclasses.asdict(vector), "share": share} for vector, share in checkpoint.seconds.items()],
        "full_seconds": checkpoint.full_seconds,
    }
    write_document(path, KIND, SCHEMA, content, previous=_previous(path))


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """Reads the checkpoint at `path`, or the one before it if that is damaged, which stderr says. None: there is none yet.

    Raises:
      InputError: It is of another search, or of a newer version, or all there is of it is damaged; no file is changed.
    """
    expected = plain_json(dict(identity), "what identifies the search")
    try:
        checkpoint = _read(path, expected) if path.exists() else None
        damage = None
    except DamagedDocumentError as error:
        checkpoint, damage = None, error
    if checkpoint is not None:
        return checkpoint
    if not _previous(path).exists():
        if damage is not None:
            raise damage
        return None
    checkpoint = _read(_previous(path), expected)
    if damage is not None:
        tqdm.write(f"{damage}; going on from the checkpoint before it", file=sys.stderr)  # above a bar that is on the screen
    # the damaged file must not become the one that the next checkpoint keeps
    os.replace(_previous(path), path)
    return checkpoint


def _read(path: Path, expected: Mapping[str, Any]) -> Checkpoint:
    fields = read_document(path, KIND, SCHEMA, _REMEDY)
    if fields.schema < SCHEMA:
        fields.older(timed=[], full_seconds=0.0)
    identity = fields.mapping("identity")
    rates, evaluated, timed = fields.rows("population"), fields.rows("evaluated"), fields.rows("timed")
    if fields.schema == 1:
        for row in evaluated:
            row.older(batch_share=1.0, depth=0, step_factor=1.0)
    checkpoint = Checkpoint(
        tuple(row.numbers("rates") for row in rates),
        {_configuration(row): row.numbers("progress") for row in evaluated},
        fields.wholes("counts", least=1),
        {_configuration(row): row.positive("share", most=math.inf) for row in timed},
        fields.number("full_seconds") or 0.0,
    )
    for row in [*rates, *evaluated, *timed]:
        row.finish()
    fields.finish()
    for name in sorted({*identity, *expected}):
        _check_same(path, name, identity.get(name), expected.get(name))
    return checkpoint


def _configuration(row: Fields) -> Configuration:
    return Configuration(
        row.wholes("widths", least=1),
        row.positive("batch_share", most=1),
        row.whole("depth", least=0),
        row.positive("step_factor", most=LONGEST_STEP),
    )


def _check_same(path: Path, name: str, found: Any, expected: Any) -> None:
    if isinstance(found, dict) and isinstance(expected, dict):
        for inner in sorted({*found, *expected}):
            _check_same(path, inner, found.get(inner), expected.get(inner))
    elif found != expected:
        raise InputError(
            f"{path} is the checkpoint of another search: its {name} is {reprlib.repr(found)}, this one's is "
            f"{reprlib.repr(expected)}; give another folder, or delete it"
        )


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")
