"""Score of the global model (accuracy, for a classification), whole, as its first-k sub-model, or as an ensemble of these.

Training uses the statistics of the mini-batch and devices send parameters alone, so running statistics are estimated here,
in the same way for every method: for the network that is evaluated, on a fixed draw of training examples.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import nnx

from distreal_jax import processes
from distreal_jax.fleet.lanes import Lanes
from distreal_jax.fleet.running_statistics import keeps_statistics_of_its_own, of_this_batch_alone, statistics_of
from distreal_jax.step import ConvolutionForm, Examples, Task, forward
from distreal_jax.step.task import score_of
from distreal_jax.tracing import TracedNetwork, member_filters

STATISTICS_EXAMPLES = 1000  # chosen by us: a larger draw changes no digit that we print
# Test examples in a batch, chosen by us. On a CPU their patches are to fit into a cache: in batches of 200 they took 1.5
# times as long as in batches of 50 (small_cnn, 10,000 test images).
_AT_ONCE_ON_CPU, _AT_ONCE = 50, 1000
_BATCHES = 4  # in a call, chosen by us: short enough that all lanes end at about the same time

Counts = tuple[jax.Array, jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well a model does on a test set.

    Attributes:
      score: The task's; of a classification the share of examples that it gets right.
      loss: Mean loss.
      per_class: [classes] accuracy of each class, nan for one without examples; empty where the task has no classes.
    """

    score: float
    loss: float
    per_class: npt.NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """The score, by the name that it has in a classification."""
        return self.score


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Evaluates parameters of one network on one test set.

    Attributes:
      network: The traced network.
      others: Its other variables, such as running statistics, which are estimated anew.
      test: The test set.
      train: The training set, for statistics.
      statistics: int [examples], training examples to estimate statistics on.
      task: What is learnt.
    """

    network: TracedNetwork
    others: Any
    test: Examples
    train: Examples
    statistics: npt.NDArray[np.int64]
    task: Task

    def __call__(self, params: Any, widths: Sequence[int] | None = None, members: int = 1) -> Scores:
        """Score of the full model, or of the sub-model of the first `widths` filters; compiled once for each.

        Args:
          params: The global parameters.
          widths: [groups]; None: all filters.
          members: Of an ensemble of sub-models side by side (`member_filters`), whose probabilities are averaged.
        """
        kept = self.network.checked_widths(widths)
        count, at_once = self.test.num_examples, _AT_ONCE_ON_CPU if jax.default_backend() == "cpu" else _AT_ONCE
        calls = -(-count // (at_once * _BATCHES))
        order = np.arange(calls * _BATCHES * at_once).reshape(calls, _BATCHES, at_once)
        home = self._lanes.places[0]
        others, _, for_statistics = self._data[home]
        leaves, tree = jax.tree.flatten(self._models(kept, members, jax.device_put(params, home), others, for_statistics))
        models, counts = self._lanes.placed(leaves), dict[int, tuple[npt.NDArray[Any], ...]]()

        def count_examples(call: int, place: jax.Device) -> None:
            _, test, _ = self._data[place]
            index, valid = order[call] % count, order[call] < count
            batches = np.int32(valid.any(axis=1).sum())
            counts[call] = jax.device_get(self._counts(tree, models[place], test, index, valid, batches))

        of_process = processes.shares([1.0] * calls, processes.lanes())
        self._lanes.run(count_examples, of_process[processes.index()])
        every = processes.pieces(counts)
        # In the order of batches, whoever has counted which.
        each = (
            np.concatenate(part).astype(np.float64) for part in zip(*(every[call] for call in range(calls)), strict=True)
        )
        points, possible, loss = (part.sum(axis=0) for part in each)
        if self.task.num_classes is None:
            return Scores(float(score_of(points, possible)), float(loss / count), np.zeros(0))
        with np.errstate(invalid="ignore"):
            return Scores(float(points.sum() / count), float(loss / count), points / possible)

    @functools.cached_property
    def _lanes(self) -> Lanes:
        return Lanes.of_this_process()

    @functools.cached_property
    def _data(self) -> dict[jax.Device, tuple[Any, Examples, Any]]:
        """Other variables, test set and the inputs for statistics, put where they are used once and for all."""
        return self._lanes.placed((self.others, self.test, self.train.batch(jnp.asarray(self.statistics)).inputs))

    def _averaged(self, outputs: Sequence[Any]) -> Any:
        """Of an ensemble: logits whose probabilities are the mean of its members'; of other tasks the mean outputs."""
        if self.task.num_classes is None:
            return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *outputs)
        return jax.nn.logsumexp(jax.nn.log_softmax(jnp.stack(outputs)), axis=0) - jnp.log(len(outputs))

    @functools.cached_property
    def _models(self) -> Any:
        return jax.jit(self._models_of, static_argnums=(0, 1))

    @functools.cached_property
    def _counts(self) -> Any:
        return jax.jit(self._counts_of, static_argnums=0)

    @functools.cached_property
    def _run(self) -> Any:
        # One model, forwards alone: an accelerator's own convolutions are faster than patches.
        form: ConvolutionForm = "platform" if jax.default_backend() == "cpu" else "library"
        return functools.partial(forward, self.network, convolution=form)

    def _models_of(self, widths: tuple[int, ...], members: int, params: Any, others: Any, for_statistics: Any) -> Any:
        """Parameters and other variables of each model, with the statistics that it has on `for_statistics`."""

        def model(member: int) -> tuple[Any, Any]:
            kept = member_filters(member, widths)
            small, rest = self.network.take(params, kept), self.network.take(others, kept)
            if jax.tree.leaves(nnx.filter_state(rest, nnx.BatchStat)):

                def update(rest: Any) -> Any:
                    return self._run(small, rest, for_statistics, train=True, around=of_this_batch_alone)[1]

                own = keeps_statistics_of_its_own(self.network, small, rest)
                rest = statistics_of(update, rest) if own else update(rest)
            return small, rest

        return [model(member) for member in range(members)]

    def _counts_of(
        self, tree: Any, models: Any, test: Examples, index: jax.Array, is_example: jax.Array, batches: jax.Array
    ) -> Counts:
        """Points, the most that there were to gain, and losses, summed over each batch; of a classification by class."""
        models = jax.tree.unflatten(tree, models)
        shapes = jax.eval_shape(self._counts_of_batch, models, test, index[0], is_example[0])
        nothing: Counts = jax.tree.map(lambda leaf: jnp.zeros((len(index), *leaf.shape), leaf.dtype), shapes)

        def count(number: jax.Array, counts: Counts) -> Counts:
            of_batch = self._counts_of_batch(models, test, index[number], is_example[number])
            added: Counts = jax.tree.map(lambda all_, one: all_.at[number].set(one), counts, of_batch)
            return added

        counts: Counts = jax.lax.fori_loop(0, batches, count, nothing)
        return counts

    def _counts_of_batch(self, models: Any, test: Examples, index: jax.Array, is_example: jax.Array) -> Counts:
        mini_batch = test.batch(index)
        each = [self._run(params, others, mini_batch.inputs, train=False)[0] for params, others in models]
        outputs = each[0] if len(each) == 1 else self._averaged(each)
        loss = jnp.where(is_example, self.task.losses(outputs, mini_batch), 0.0).sum()
        points, possible = self.task.points(outputs, mini_batch.targets)
        if self.task.num_classes is not None:
            classes = jax.nn.one_hot(mini_batch.targets, self.task.num_classes)
            points, possible = classes * points[:, None], classes * possible[:, None]
        valid = is_example.reshape((-1,) + (1,) * (points.ndim - 1))
        return jnp.where(valid, points, 0.0).sum(axis=0), jnp.where(valid, possible, 0.0).sum(axis=0), loss
