"""A network's jaxprs: in training and in evaluation, on a few small examples, and once on examples of full size."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from distreal_jax.errors import InputError, in_one_line
from distreal_jax.tracing.form import form_of
from distreal_jax.tracing.walk import NetworkJaxpr, jaxpr_of, steps_in

_BATCH = 3  # the fewest of which a normalisation keeps more than a sign
# Chosen by us: images are this much smaller, but have this side at least, where the network takes them.
_SHRINK, _SMALLEST_SIDE = 4, 8


class Wholes(NamedTuple):
    """A network's jaxprs, in training (True) and in evaluation."""

    jaxprs: dict[bool, NetworkJaxpr]  # on small examples
    example: Any
    counted: dict[bool, NetworkJaxpr]  # on examples of full size
    counted_for: Any

    def of_full_size(self) -> "Wholes":
        """The same without small examples."""
        return self._replace(jaxprs=self.counted, example=self.counted_for)


def whole_network(graphdef: Any, state: Any, example: Any) -> Wholes:
    """The network's jaxprs on a few small examples, or on larger ones where the network takes no others.

    Args:
      graphdef: The network's static structure.
      state: Its variables.
      example: Shapes of an input, leaves [batch, ...].

    Raises:
      InputError: It does not run, or an output has no batch axis.
    """
    on = functools.partial(_in_both_modes, graphdef, state)
    few = _with_shapes(example, lambda shape: (_BATCH, *shape[1:]))
    try:
        counted = on(few)
    except Exception:  # whatever a network of the user's may raise; it may take this one batch alone
        few = example
        try:
            counted = on(few)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"the network does not run on {in_words(example)} ({in_one_line(error)}); "
                "give an example_input as its __call__ takes it"
            ) from error
    whole = counted[True]
    if not whole.output_shapes or any(shape[:1] != (batch_size(few),) for shape in whole.output_shapes):
        raise InputError(
            f"the network maps {in_words(few)} to {in_words(whole.outputs) or 'nothing'}; "
            "give an example_input with a leading batch axis that every output keeps"
        )
    small = _with_shapes(few, _shrunk)
    if small != few:
        try:
            tried = on(small)
        except Exception:  # it takes images of its own size alone
            pass
        else:
            empty = any(0 in step.shape for traced in tried.values() for step in steps_in(traced.closed.jaxpr))
            alike = all(same_form(counted[train], tried[train]) for train in tried)
            if alike and whole.outputs == tried[True].outputs and not empty:
                return Wholes(tried, small, counted, few)
    return Wholes(counted, few, counted, few)


def same_form(one: NetworkJaxpr, other: NetworkJaxpr) -> bool:
    """Whether a network does the same with images of two sizes: operations, the values that they are of, their axes."""
    return form_of(one.closed, one.variables) == form_of(other.closed, other.variables)


def exact_network(graphdef: Any, state: Any, example: Any) -> Wholes:
    """The network's jaxprs on examples of just these shapes; as for `whole_network`."""
    jaxprs = _in_both_modes(graphdef, state, example)
    return Wholes(jaxprs, example, jaxprs, example)


def _in_both_modes(graphdef: Any, state: Any, example: Any) -> dict[bool, NetworkJaxpr]:
    return {train: jaxpr_of(graphdef, state, example, train=train) for train in (True, False)}


def _with_shapes(example: Any, changed: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(changed(leaf.shape), leaf.dtype), example)


def _shrunk(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with smaller sides of the images, if they are images."""
    if len(shape) < 4:
        return shape
    return (shape[0], *(max(side // _SHRINK, min(side, _SMALLEST_SIDE)) for side in shape[1:-1]), shape[-1])


def batch_size(example: Any) -> int:
    """Examples in a batch."""
    return int(jax.tree.leaves(example)[0].shape[0])


def in_words(tree: Any) -> str:
    """The arrays of a pytree, such as "float32 [1, 8, 8, 1]"."""
    return " and ".join(f"{leaf.dtype} {list(leaf.shape)}" for leaf in jax.tree.leaves(tree))
