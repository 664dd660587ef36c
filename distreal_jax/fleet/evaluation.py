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
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from distreal_jax.fleet.running_statistics import keeps_statistics_of_its_own, of_this_batch_alone, statistics_of
from distreal_jax.step import Examples, Task, forward
from distreal_jax.step.task import score_of
from distreal_jax.tracing import TracedNetwork, member_filters

STATISTICS_EXAMPLES = 1000  # chosen by us: a larger draw changes no digit that we print
_EXAMPLES = "examples"  # the axis of the mesh: test examples are shared out over devices
# Test examples in a batch, chosen by us. On a CPU their patches are to fit into a cache: in batches of 200 they took 1.5
# times as long as in batches of 50 (small_cnn, 10,000 test images).
_AT_ONCE_ON_CPU, _AT_ONCE = 50, 1000


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
        batches = -(-count // (at_once * self._mesh.size)) * self._mesh.size
        order = np.arange(batches * at_once).reshape(batches, at_once)
        replicated = self._on_every_device(params)
        data = (replicated, *self._data)
        points, possible, loss = jax.device_get(self._compiled(kept, members, *data, order % count, order < count))
        if self.task.num_classes is None:
            return Scores(float(score_of(points, possible)), float(loss / count), np.zeros(0))
        with np.errstate(invalid="ignore"):
            return Scores(float(points.sum() / count), float(loss / count), points / possible)

    @functools.cached_property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(jax.devices()), (_EXAMPLES,))

    def _on_every_device(self, tree: Any) -> Any:
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    @functools.cached_property
    def _data(self) -> tuple[Any, Examples, Any]:
        """Other variables, test set and the inputs for statistics, put where they are used once and for all."""
        data: tuple[Any, Examples, Any] = self._on_every_device(
            (self.others, self.test, self.train.batch(jnp.asarray(self.statistics)).inputs)
        )
        return data

    def _averaged(self, outputs: Sequence[Any]) -> Any:
        """Of an ensemble: logits whose probabilities are the mean of its members'; of other tasks the mean outputs."""
        if self.task.num_classes is None:
            return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *outputs)
        return jax.nn.logsumexp(jax.nn.log_softmax(jnp.stack(outputs)), axis=0) - jnp.log(len(outputs))

    @functools.cached_property
    def _compiled(self) -> Any:
        return jax.jit(self._counts, static_argnums=(0, 1))

    def _counts(
        self,
        widths: tuple[int, ...],
        members: int,
        params: Any,
        others: Any,
        test: Examples,
        for_statistics: Any,
        order: jax.Array,
        valid: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Points, the most that there were to gain, and losses, summed over examples; of a classification for each class."""
        # One model, forwards alone: XLA's own convolutions are two to four times as fast as patches on a CPU.
        run = functools.partial(forward, self.network, convolution="library")

        def model(member: int) -> tuple[Any, Any]:
            kept = member_filters(member, widths)
            small, rest = self.network.take(params, kept), self.network.take(others, kept)
            if jax.tree.leaves(nnx.filter_state(rest, nnx.BatchStat)):

                def update(rest: Any) -> Any:
                    return run(small, rest, for_statistics, train=True, around=of_this_batch_alone)[1]

                own = keeps_statistics_of_its_own(self.network, small, rest)
                rest = statistics_of(update, rest) if own else update(rest)
            return small, rest

        models = [model(member) for member in range(members)]

        def share(models: Any, test: Examples, order: jax.Array, valid: jax.Array) -> Any:
            def count(batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
                index, is_example = batch
                mini_batch = test.batch(index)
                each = [run(params, others, mini_batch.inputs, train=False)[0] for params, others in models]
                outputs = each[0] if members == 1 else self._averaged(each)
                loss = jnp.where(is_example, self.task.losses(outputs, mini_batch), 0.0).sum()
                points, possible = self.task.points(outputs, mini_batch.targets)
                if self.task.num_classes is not None:
                    classes = jax.nn.one_hot(mini_batch.targets, self.task.num_classes)
                    points, possible = classes * points[:, None], classes * possible[:, None]
                valid = is_example.reshape((-1,) + (1,) * (points.ndim - 1))
                return jnp.where(valid, points, 0.0).sum(axis=0), jnp.where(valid, possible, 0.0).sum(axis=0), loss

            counts = jax.tree.map(lambda leaf: leaf.sum(axis=0), jax.lax.map(count, (order, valid)))
            return jax.lax.psum(counts, _EXAMPLES)

        everywhere, shared_out = PartitionSpec(), PartitionSpec(_EXAMPLES)
        counts: tuple[jax.Array, jax.Array, jax.Array] = jax.shard_map(
            share,
            mesh=self._mesh,
            in_specs=(everywhere, everywhere, shared_out, shared_out),
            out_specs=everywhere,
            check_vma=False,
        )(models, test, order, valid)
        return counts
