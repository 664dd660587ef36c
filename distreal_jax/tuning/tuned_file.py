"""The file of tuned settings that a comparison takes: for each method what was found, and where it comes from."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distreal_jax.document import Fields, plain_json, read_document, write_document
from distreal_jax.errors import InputError
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.methods import Method
from distreal_jax.tuning.knobs import Point, settings_of

_KIND = "distreal_jax tuned settings"
_SCHEMA = 1
_REMEDY = "tune again with `distreal tune`"


@dataclasses.dataclass(frozen=True)
class TunedMethod:
    """What tuning found for one method.

    Attributes:
      name: Of the method, as on the command line.
      point: A value for each knob.
      score: On the validation split, mean over the seeds of the tuning.
      untuned: The same of the usual settings.
      trials: How many points were tried.
      at_edge: Knobs whose best value lies at the edge of what was tried all the same, with that value.
    """

    name: str
    point: Point
    score: float
    untuned: float
    trials: int
    at_edge: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TunedSettings:
    """Tuned settings of several methods.

    Attributes:
      methods: Each with its settings.
      world: Data, network and load that they were tuned in, as JSON.
      training: The settings that they were changed from, as JSON.
      provenance: Command, commit, versions, machine and date.
    """

    methods: Sequence[TunedMethod]
    world: Mapping[str, Any]
    training: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Writes the document; raises `InputError` if it can't be written."""
        content = plain_json(dataclasses.asdict(self), "tuned settings")
        write_document(path, _KIND, _SCHEMA, content)

    @classmethod
    def load(cls, path: Path) -> "TunedSettings":
        """Reads a document and checks all of it.

        Raises:
          InputError: No such file, or it is damaged, of a newer schema, or says something that can't be.
        """
        fields = read_document(path, _KIND, _SCHEMA, _REMEDY)
        rows = fields.rows("methods")
        methods = tuple(_method(row) for row in rows)
        settings = cls(methods, fields.mapping("world"), fields.mapping("training"), fields.mapping("provenance"))
        fields.finish()
        names = [method.name for method in methods]
        if len(set(names)) < len(names):
            raise InputError(f"{path} names a method twice; {_REMEDY}")
        return settings

    def of(self, method: Method, training: TrainingSettings) -> tuple[Method, TrainingSettings]:
        """The tuned method and its training; its name stays.

        Raises:
          InputError: There are no settings of this method, or they do not fit this training.
        """
        found = {tuned.name: tuned for tuned in self.methods}
        if method.name not in found:
            raise InputError(
                f"the tuned settings have none of {method.name!r} (they have: {', '.join(found) or 'none'}); tune it too, "
                "or leave it out: a tuned method against one that is not says nothing"
            )
        return settings_of(found[method.name].point, method, training)

    def differences(self, world: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
        """In what a comparison is not what was tuned for, such as `model small_cnn, tuned with leaf_cnn`."""
        pairs = [(self.world, world), (self.training, training)]
        return [
            f"{name} {now.get(name)}, tuned with {before[name]}"
            for before, now in pairs
            for name in before
            if name not in ("data_dir", "validation") and now.get(name) != before[name]
        ]


def _method(row: Fields) -> TunedMethod:
    point: Point = dict(row.mapping("point"))
    tuned = TunedMethod(
        name=row.text("name"),
        point=point,
        score=row.number("score") or 0.0,
        untuned=row.number("untuned") or 0.0,
        trials=row.whole("trials", least=1),
        at_edge=row.mapping("at_edge"),
    )
    row.finish()
    return tuned
