"""What one method did with one seed, as it is kept in `result.json` and compared with others."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, NoReturn, Self

from distreal_jax.document import Fields
from distreal_jax.errors import InputError
from distreal_jax.record.json_values import json_value
from distreal_jax.record.statistics import final_accuracy
from distreal_jax.signs import scored_on


@dataclasses.dataclass(frozen=True)
class MethodResult:
    """What one method did with one seed. Methods with the same seed saw the same world.

    Attributes:
      method: Its name, as on the command line.
      seed: Of data split, clients, initial weights and load.
      times: Simulated seconds at the evaluations, [evaluations], not decreasing.
      accuracies: Test accuracy of the model that the method delivers, at those times, [evaluations], 0 to 1; or what another
        task is scored by.
      full_accuracies: That of the full network, [evaluations].
      delivered: MACs of the delivered model at the end, as a share of the full network's.
      rounds: Rounds done at those times, [evaluations].
      macs: Multiply-accumulates computed by all devices up to those times, useful or not, [evaluations].
      macs_spent: In mini-batches that are done and uploaded, all devices and rounds; so are the next two.
      macs_wasted: In mini-batches that the deadline cut, or in work that was not uploaded.
      macs_idle: What the devices could have computed in their rounds and did not.
      client_rounds: Rounds times the clients of each: how often a device was asked to train.
      deadline_hits: How many of these were cut short by the deadline.
      clients_left_out: How many uploads the server refused (no data, or not finite).
      bytes_up: From devices to the server up to those times, [evaluations].
      bytes_down: From the server to devices up to those times, [evaluations].
      round_computing: When the last client of a round was done computing, in parts of the round, [rounds].
      round_bytes: The most bytes that one client received and sent, [rounds].
      memory_bytes: Peak memory of a device in the training step that took the most.
      accuracy_per_tier: Name of the device tier, weakest first -> accuracy on the data of its devices; NaN for a tier that
        holds only classes without test examples.
      accuracy_per_class: Accuracy of each class, [classes]; NaN for one without test examples.
      divergence: What showed that the run had diverged; None: nothing did. One that was stopped for it has fewer rounds.
      accuracy_on: Name of another test set -> accuracy of the delivered model on it at the end.
      score_name: What the task calls its score.
    """

    method: str
    seed: int
    times: tuple[float, ...]
    accuracies: tuple[float, ...]
    full_accuracies: tuple[float, ...]
    delivered: float
    rounds: tuple[float, ...]
    macs: tuple[float, ...]
    macs_spent: float
    macs_wasted: float
    macs_idle: float
    client_rounds: int
    deadline_hits: int
    clients_left_out: int
    bytes_up: tuple[float, ...]
    bytes_down: tuple[float, ...]
    round_computing: tuple[float, ...]
    round_bytes: tuple[float, ...]
    memory_bytes: float
    accuracy_per_tier: Mapping[str, float] = dataclasses.field(default_factory=dict)
    accuracy_per_class: tuple[float, ...] = ()
    accuracy_on: Mapping[str, float] = dataclasses.field(default_factory=dict)
    score_name: str = "accuracy"
    divergence: str | None = None

    def __post_init__(self) -> None:
        curves = ("times", "accuracies", "full_accuracies", "rounds", "macs", "bytes_up", "bytes_down")
        lengths = {len(getattr(self, name)) for name in curves}
        if len(lengths) > 1 or not self.times:
            raise InputError(
                f"the result of {self.method} with seed {self.seed} needs {', '.join(curves)} of each"
                f" evaluation, at least one; got lists of {sorted(lengths)}"
            )
        for name in ("times", "rounds", "macs", "bytes_up", "bytes_down"):
            values = getattr(self, name)
            if not values[0] >= 0 or any(not before <= after for before, after in itertools.pairwise(values)):
                self._refuse(name, "numbers of at least 0 that don't decrease")
        shares = [*self.accuracy_per_tier.values(), *self.accuracy_per_class, *self.accuracy_on.values()]
        scores = [*self.accuracies, *self.full_accuracies, *(share for share in shares if not math.isnan(share))]
        if self.score_name == "accuracy" and not all(0 <= score <= 1 for score in scores):
            self._refuse("accuracies", "shares from 0 to 1")
        if not all(map(math.isfinite, scores)):
            self._refuse("accuracies", "finite numbers")
        if not len(self.round_computing) == len(self.round_bytes) == self.rounds[-1]:
            self._refuse("round_computing", "one number for each round")
        counts = ("macs_spent", "macs_wasted", "macs_idle", "client_rounds", "deadline_hits", "clients_left_out")
        for name in (*counts, "memory_bytes", "delivered"):
            if not 0 <= getattr(self, name) < math.inf:
                self._refuse(name, "a number of at least 0")

    def _refuse(self, name: str, expected: str) -> NoReturn:
        raise InputError(
            f"the result of {self.method} with seed {self.seed}: {name} has other values than {expected}; run it again"
        )

    @property
    def scored_by(self) -> str:
        """Its score in words: `test accuracy`, or of a world with a validation split `validation accuracy`."""
        return f"{scored_on(self.accuracy_on)} {self.score_name}"

    @property
    def final(self) -> float:
        """Mean accuracy of the last three evaluations, or of all if there are fewer."""
        return final_accuracy(self.accuracies)

    @property
    def full(self) -> float:
        """Mean accuracy of the full network in the last three evaluations."""
        return final_accuracy(self.full_accuracies)

    def to_json(self) -> dict[str, Any]:
        """A mapping that JSON can hold and `from_json` reads back; it has None for NaN."""
        mapping: dict[str, Any] = json_value(self)
        return mapping

    @classmethod
    def from_json(cls, content: Any, source: str = "results") -> Self:
        """The result that `to_json` wrote.

        Args:
          content: As read from JSON.
          source: What an error calls it, such as the file's name.

        Raises:
          InputError: A field is missing, unknown or not what it has to be; it is named.
        """
        fields = Fields(source, _with_nan(content), "run the comparison again")
        result = cls(
            method=fields.text("method"),
            seed=fields.whole("seed", least=0),
            times=fields.numbers("times"),
            accuracies=fields.numbers("accuracies"),
            full_accuracies=fields.numbers("full_accuracies"),
            delivered=_required(fields, "delivered", source),
            rounds=fields.numbers("rounds"),
            macs=fields.numbers("macs"),
            macs_spent=_required(fields, "macs_spent", source),
            macs_wasted=_required(fields, "macs_wasted", source),
            macs_idle=_required(fields, "macs_idle", source),
            client_rounds=fields.whole("client_rounds", least=0),
            deadline_hits=fields.whole("deadline_hits", least=0),
            clients_left_out=fields.whole("clients_left_out", least=0),
            bytes_up=fields.numbers("bytes_up"),
            bytes_down=fields.numbers("bytes_down"),
            round_computing=fields.numbers("round_computing"),
            round_bytes=fields.numbers("round_bytes"),
            memory_bytes=_required(fields, "memory_bytes", source),
            accuracy_per_tier=fields.named_numbers("accuracy_per_tier"),
            accuracy_per_class=fields.numbers("accuracy_per_class"),
            accuracy_on=fields.named_numbers("accuracy_on"),
            score_name=fields.text("score_name"),
            divergence=fields.text_or_none("divergence"),
        )
        fields.finish()
        return result


def _with_nan(content: Any) -> Any:
    """JSON has no NaN: the null of a class or a tier without accuracy becomes it again."""
    if not isinstance(content, Mapping):
        return content
    per_class, per_tier = content.get("accuracy_per_class"), content.get("accuracy_per_tier")
    restored: dict[str, Any] = {}
    if isinstance(per_class, list):
        restored["accuracy_per_class"] = [_nan_for_none(accuracy) for accuracy in per_class]
    if isinstance(per_tier, Mapping):
        restored["accuracy_per_tier"] = {tier: _nan_for_none(accuracy) for tier, accuracy in per_tier.items()}
    return {"score_name": "accuracy", **content, **restored}  # written before there were other tasks


def _nan_for_none(value: Any) -> Any:
    return math.nan if value is None else value


def _required(fields: Fields, name: str, source: str) -> float:
    value = fields.number(name)
    if value is None:
        raise InputError(f"{source}: {name} is null, expected a number; run the comparison again")
    return value
