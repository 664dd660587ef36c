"""Before anything is trained a network is tried on shapes: whether both modes run and the task takes its outputs."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core

from distreal_jax.errors import InputError, in_one_line
from distreal_jax.step.examples import Batch, Examples
from distreal_jax.step.forward import forward
from distreal_jax.step.task import Task
from distreal_jax.tracing import TracedNetwork
from distreal_jax.tracing.interception import Call


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
                f"({in_one_line(error)}); take the number of examples from the "
                "array, and see that both modes run"
            ) from error
        task.check(outputs, batch.targets)


def check_tokens(network: TracedNetwork, params: Any, others: Any, splits: Sequence[Examples]) -> None:
    """That every token of the examples has an embedding: JAX would give NaN, or another one's, without a word.

    The examples with the smallest and the largest integer of each input are looked up, in the layers that are `nnx.Embed`
    and in tables that the network indexes itself.

    Args:
      network: The traced network.
      params: Its parameters.
      others: Its other variables.
      splits: Training and test examples.

    Raises:
      InputError: One has not.
    """
    model = nnx.merge(network.graphdef, params, others)
    if not network.lookups and not any(isinstance(module, nnx.Embed) for _, module in nnx.iter_modules(model)):
        return
    asked: list[tuple[str, int, int, int]] = []

    def looking_up(layer: str, equation: core.JaxprEqn, operands: list[Any]) -> list[Any]:
        table, indices = operands
        for column, axis in enumerate(equation.params["dimension_numbers"].start_index_map):
            places = table.shape[axis] - equation.params["slice_sizes"][axis] + 1

            def note(least: Any, most: Any, places: int = places) -> None:
                asked.append((layer, places, int(least), int(most)))

            jax.debug.callback(note, indices[..., column].min(), indices[..., column].max())
        return [equation.primitive.bind(*operands, **equation.params)]

    def noting(path: str, module: nnx.Module, call: Call) -> Call:
        if not isinstance(module, nnx.Embed):
            return call

        def noted(tokens: jax.Array, *args: Any, **kwargs: Any) -> Any:
            def note(least: Any, most: Any) -> None:
                asked.append((path, module.num_embeddings, int(least), int(most)))

            jax.debug.callback(note, tokens.min(), tokens.max())
            return call(tokens, *args, **kwargs)

        return noted

    @jax.jit
    def look_up(params: Any, others: Any, inputs: Any) -> None:
        lookups = {place: functools.partial(looking_up, place.layer) for place in network.lookups}
        run = functools.partial(forward, network, train=False, convolution="library", around=noting)
        run(params, others, inputs, others_exchanged=lookups)

    for examples in splits:
        whole = [leaf for leaf in jax.tree.leaves(examples.inputs) if jnp.issubdtype(leaf.dtype, jnp.integer)]
        per_example = [leaf.reshape(len(leaf), -1) for leaf in whole]
        ends = [end for leaf in per_example for end in (leaf.min(axis=1).argmin(), leaf.max(axis=1).argmax())]
        if ends:
            look_up(params, others, examples.batch(jnp.stack(ends)).inputs)
    jax.effects_barrier()
    for path, embeddings, least, most in asked:
        if not 0 <= least <= most < embeddings:
            where = f"layer {path!r}" if path else "a table of the network"
            raise InputError(
                f"tokens {least} to {most} are looked up in {where}, which has embeddings 0 to {embeddings - 1}; "
                "give it as many as there are tokens, or number the tokens so"
            )
