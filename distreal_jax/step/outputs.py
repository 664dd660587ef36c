"""Before anything is trained a network is tried on shapes: whether both modes run and the task takes its outputs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from distreal_jax.errors import InputError
from distreal_jax.step.examples import Batch, Examples
from distreal_jax.step.forward import forward
from distreal_jax.step.task import Task
from distreal_jax.tracing import TracedNetwork


def batch_shapes(examples: Examples, size: int) -> Batch:
    """A mini-batch of so many examples, as `jax.ShapeDtypeStruct`s."""
    batch: Batch = jax.eval_shape(lambda examples: examples.batch(jnp.zeros(size, jnp.int32)), examples)
    return batch


def check_outputs(network: TracedNetwork, params: Any, others: Any, task: Task, batch: Batch) -> None:
    """That a network runs on a mini-batch, in training and in evaluation, and the task takes its outputs.

    Args:
      network: The traced network.
      params: Its parameters.
      others: Its other variables.
      task: What is learnt.
      batch: Shapes of a mini-batch, of another size than the network was traced with.

    Raises:
      InputError: It does not.
    """
    for train in (True, False):
        run = functools.partial(forward, network, train=train, convolution="library")
        try:
            outputs, _ = jax.eval_shape(
                lambda *arguments, run=run: run(*arguments, key=jax.random.key(0)), params, others, batch.inputs
            )
        except InputError:
            raise
        except Exception as error:  # whatever a network of the user's may raise
            mode = "training" if train else "evaluation"
            shapes = ", ".join(f"{leaf.dtype} {list(leaf.shape)}" for leaf in jax.tree.leaves(batch.inputs))
            raise InputError(
                f"the network runs on one example and not on a mini-batch {shapes} in {mode} "
                f"({' '.join(str(error).split())[:200] or type(error).__name__}); take the number of examples from the "
                "array, and see that both modes run"
            ) from error
        task.check(outputs, batch.targets)
