"""A task: the loss that devices minimise and the score of a model. Classification is one task."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from distreal_jax.errors import InputError, in_one_line
from distreal_jax.step.examples import Batch

Loss = Callable[[Any, Any], jax.Array]  # (outputs, targets), leaves [batch, ...] -> [batch]
Score = Callable[[Any, Any], jax.Array | tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Task:
    """A loss and a score. `classification(num_classes)` is the usual task; other tasks pass functions of their own.

    Attributes:
      loss: (outputs, targets) -> [batch], the loss of each example. Outputs are what the network's `__call__` returns,
        with floats in at least float32.
      score: (outputs, targets) -> score, higher is better, about 1 for a perfect model. Either one array [batch], whose mean
        over examples is the score; or two arrays [batch, ...], points gained and points possible. Both are summed over all
        examples, and the score is their ratio, averaged over any further axes. Examples: correct words out of those that
        count; intersection and union of each class.
      score_name: The name of the score in records and pictures.
      num_classes: The number of classes if targets are classes, int [batch], and outputs are logits, [batch, classes];
        None for all other tasks.
    """

    loss: Loss
    score: Score
    score_name: str = "score"
    num_classes: int | None = None

    def losses(self, outputs: Any, batch: Batch) -> jax.Array:
        """The loss of each example, [batch]; with `batch.classes`, logits of classes that the device lacks are set to zero.

        This is HeteroFL's masked cross-entropy (Diao et al., ICLR 2021, section 3).
        """
        if batch.classes is not None:
            outputs = jnp.where(batch.classes[None, :], outputs, 0.0)
        return self.loss(outputs, batch.targets)

    def points(self, outputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
        """Points gained and points possible, both [batch, ...]."""
        scored = self.score(outputs, targets)
        if isinstance(scored, tuple):
            points, possible = scored
            return points.astype(jnp.float32), possible.astype(jnp.float32)
        points = scored.astype(jnp.float32)
        return points, jnp.ones_like(points)

    def mean_score(self, outputs: Any, targets: Any) -> jax.Array:
        """The score of a model on these examples, []; outputs and targets have leaves [batch, ...]."""
        return score_of(*(leaf.sum(axis=0) for leaf in self.points(outputs, targets)))

    def check(self, outputs: Any, targets: Any) -> None:
        """Checks that loss and score accept a network's outputs.

        Args:
          outputs: The network's output for a mini-batch, as `jax.ShapeDtypeStruct`s.
          targets: The targets of that mini-batch.

        Raises:
          InputError: Loss or score fails, or does not return one number for each example.
        """
        leaves, batch = jax.tree.leaves(outputs), len(jax.tree.leaves(targets)[0])
        if self.num_classes is not None:
            if not hasattr(outputs, "shape"):
                raise InputError(
                    f"the network returns a {type(outputs).__name__}; classification takes one array of logits; return that "
                    "alone, or give the data set a Task whose loss and score take what it returns"
                )
            if outputs.shape != (batch, self.num_classes):
                logits = f"{outputs.shape[1]} logits" if outputs.ndim == 2 else f"an output of shape {outputs.shape}"
                raise InputError(
                    f"the network gives {logits} for a mini-batch of {batch}, the data set has {self.num_classes} classes; "
                    f"expected shape {(batch, self.num_classes)}: one logit for each class, and no further axis"
                )
        if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
            raise InputError(
                f"the network's output is {', '.join(str(leaf.dtype) for leaf in leaves)}; expected floats, which gradients "
                "need (logits, not the class that they point to)"
            )
        for name, function, says in (("loss", self.loss, "[batch]"), ("score", self.points, "[batch] or two such arrays")):
            try:
                given = jax.eval_shape(function, outputs, targets)
                shapes = [leaf.shape for leaf in jax.tree.leaves(given)]
            except Exception as error:  # whatever a user's function may raise
                shapes_of = [str(leaf.shape) for leaf in (*leaves, *jax.tree.leaves(targets))]
                raise InputError(
                    f"the task's {name} does not run on outputs and targets of shapes {', '.join(shapes_of)} "
                    f"({in_one_line(error)}); give one that takes both"
                ) from error
            if any(shape[:1] != (batch,) or (name == "loss" and len(shape) > 1) for shape in shapes):
                raise InputError(
                    f"the task's {name} gives shape {' and '.join(map(str, shapes))} for a mini-batch of {batch}; expected "
                    f"one for each example, {says}: take the mean over all axes but the first"
                )


def score_of(points: Any, possible: Any) -> jax.Array:
    """The mean of points / possible, both [...], over all elements where points were possible; the result is []."""
    counts = possible > 0
    return jnp.where(counts, points / jnp.where(counts, possible, 1.0), 0.0).sum() / counts.sum()


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy of each example, [batch]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the greatest logit is that of the class, bool [batch]."""
    return logits.argmax(axis=-1) == labels


CLASSIFICATION = Task(cross_entropy, correct, "accuracy")  # of any number of classes


def classification(num_classes: int) -> Task:
    """The task of predicting the class of each example: cross-entropy as loss, accuracy as score.

    Raises:
      InputError: `num_classes` is not an integer of at least 1.
    """
    if isinstance(num_classes, bool) or not hasattr(num_classes, "__index__") or int(num_classes) < 1:
        raise InputError(f"{num_classes!r} classes; give a number of at least 1, or a Task for what is no classification")
    return dataclasses.replace(CLASSIFICATION, num_classes=int(num_classes))
