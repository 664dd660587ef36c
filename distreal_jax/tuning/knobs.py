"""What a method is tuned over: settings of the training, at equal MACs of a round, and choices of the method itself."""

import dataclasses
from collections.abc import Mapping, Sequence

from distreal_jax.errors import InputError, choose_from
from distreal_jax.fleet.training import TrainingSettings
from distreal_jax.methods import BY_PROGRESS, CHOICES, Method

Value = float | int | str | bool
Point = dict[str, Value]  # a value for each knob

TRAINING_KNOBS = ("learning_rate", "batch_size", "server_learning_rate", "momentum", "fedprox_mu", "client_weights")
_LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_SERVER_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_MUS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_BATCHES_BELOW = 3  # rungs of the ladder of batch sizes that a search starts with below the usual one


@dataclasses.dataclass(frozen=True)
class Knob:
    """One setting that a method is tuned over.

    Attributes:
      name: Of a field of `TrainingSettings` or a choice of `Method`.
      start: The values that are tried first; the grid.
      usual: The value of the untuned method.
      ladder: All values in order, of which `start` are some: a grid whose best lies at its edge is extended along it. Empty:
        the values have no order.
    """

    name: str
    start: tuple[Value, ...]
    usual: Value
    ladder: tuple[Value, ...] = ()

    def beside(self, value: Value) -> tuple[Value, ...]:
        """The values next to this one: above it and below it on the ladder; all others where there is no order."""
        if not self.ladder:
            return tuple(other for other in self.start if other != value)
        place = self.ladder.index(value)
        return (*self.ladder[place + 1 : place + 2], *self.ladder[max(place - 1, 0) : place])


def knobs_of(
    method: Method, training: TrainingSettings, *, measured: bool = False, classes: bool = True
) -> tuple[Knob, ...]:
    """What this method is tuned over, the same for all methods but for choices that only some of them have.

    Batch sizes divide the examples of a round, which stay as many: fewer examples in more mini-batches, at equal MACs.

    Args:
      method: The method.
      training: The usual settings.
      measured: Whether its table has the progress of each entry, by which a device may choose.
      classes: Whether the task has classes. Any method may then mask the loss, not only those that were published so.
    """
    sizes = batch_ladder(training)
    usual = sizes.index(training.batch_size)
    below = sizes[max(usual - _BATCHES_BELOW, 0) : usual + 1]
    knobs = [
        _ladder("learning_rate", _LEARNING_RATES, (0.03, 0.1, 0.3, 1.0), training.learning_rate),
        Knob("batch_size", below, training.batch_size, sizes),
        _ladder("server_learning_rate", _SERVER_RATES, (0.5, 1.0, 2.0), training.server_learning_rate),
        Knob("momentum", tuple(dict.fromkeys((training.momentum, 0.0, 0.9))), training.momentum),
        Knob("client_weights", ("examples", "equal"), training.client_weights),
    ]
    if method.proximal:
        knobs.append(_ladder("fedprox_mu", _MUS, (0.01, 0.1, 1.0), training.fedprox_mu))
    choices = {
        "cap": method.decided != "step" and method.limited,
        "pace": method.decided == "step" and method.limited and (method.rates != "full" or method.batch == "cut"),
        "dense": method.rates in ("uniform", "halving"),
        "rescale": method.rates != "full" and method.filters == "random",
        "masked_loss": classes,
        "label_rows": classes and method.average == "covered",
        "by_steps": method.limited and method.average != "normalised",
    }
    for name, has in choices.items():
        if has:
            value = getattr(method, name)
            values = tuple(choice for choice in CHOICES[name] if measured or choice not in BY_PROGRESS)
            knobs.append(Knob(name, values, training.rescale if value is None else value))
    return tuple(knobs)


def usual_point(knobs: Sequence[Knob]) -> Point:
    """The untuned method.

    Args:
      knobs: What it could be tuned over.
    """
    return {knob.name: knob.usual for knob in knobs}


def in_common(knobs: Sequence[Knob], point: Mapping[str, Value]) -> Point:
    """The part of another method's point that these knobs can be set to."""
    return {
        knob.name: point[knob.name]
        for knob in knobs
        if knob.name in point and point[knob.name] in (*knob.start, *knob.ladder)
    }


def batch_ladder(training: TrainingSettings) -> tuple[int, ...]:
    """Batch sizes that divide the examples of a round, each at least one and a half times the one before."""
    examples, ladder = training.steps * training.batch_size, [1]
    for size in range(2, examples + 1):
        if examples % size == 0 and (size == training.batch_size or size >= 1.5 * ladder[-1]):
            if size == training.batch_size and size < 1.5 * ladder[-1] and len(ladder) > 1:
                ladder.pop()
            ladder.append(size)
    return tuple(ladder)


def settings_of(point: Mapping[str, Value], method: Method, training: TrainingSettings) -> tuple[Method, TrainingSettings]:
    """The method and its training at a point. Other settings do not change, nor does the number of examples of a round.

    Args:
      point: Values of knobs, by name.
      method: The method, before tuning.
      training: How devices and server train, before tuning.

    Raises:
      InputError: A name is no knob, a value is no good, or a batch size does not divide the examples of a round.
    """
    unknown = [name for name in point if name not in TRAINING_KNOBS and name not in CHOICES]
    if unknown:
        raise InputError(f"{unknown[0]!r} is nothing to tune; {choose_from(unknown[0], (*TRAINING_KNOBS, *CHOICES))}")
    for name in set(point) & set(TRAINING_KNOBS):
        kind = type(getattr(TrainingSettings(), name))  # not of `training`, where 1 may stand for 1.0
        if isinstance(point[name], bool) or not isinstance(point[name], (int, float) if kind is float else kind):
            expected = {float: "a number", int: "a whole number"}.get(kind, "a text")
            raise InputError(f"{name} is {point[name]!r}; expected {expected}")
    changed = {name: value for name, value in point.items() if name in TRAINING_KNOBS}
    examples = training.steps * training.batch_size
    size = changed.get("batch_size", training.batch_size)
    if not isinstance(size, int) or size < 1 or examples % size:
        raise InputError(f"a batch size of {size} does not divide the {examples} examples of a round; give a divisor")
    choices = {name: value for name, value in point.items() if name not in TRAINING_KNOBS}
    tuned = dataclasses.replace(training, **changed, steps=examples // size)  # type: ignore[arg-type]  # checked above
    return dataclasses.replace(method, **choices), tuned  # type: ignore[arg-type]  # checked on creation


def _ladder(name: str, ladder: Sequence[float], start: Sequence[float], usual: float) -> Knob:
    return Knob(name, tuple(sorted({*start, usual})), usual, tuple(sorted({*ladder, usual})))
