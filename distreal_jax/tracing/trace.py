"""`trace_network`: from an unannotated Flax NNX network to its filter groups, sub-networks and cost.

The network is traced once to a jaxpr. Every element along every axis of every parameter gets a label; walking the jaxpr,
each operation ties labels together (`rules`). What is tied to an input feature or to an output can't be dropped. The
remaining classes are the filters, and those that are created together and go the same way are a filter group.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from distreal_jax.errors import InputError
from distreal_jax.tracing.hard_coded import in_one_line, refuse_hard_coded_counts
from distreal_jax.tracing.interception import path_name
from distreal_jax.tracing.labels import PINNED, AxisLabels, pinned
from distreal_jax.tracing.layout import AxisLayout, LengthOfAxis
from distreal_jax.tracing.network import FilterGroup, Path, TracedNetwork, leaf_path
from distreal_jax.tracing.site import Value
from distreal_jax.tracing.walk import MASKABLE, Members, Walk, jaxpr_of, shape_of

_NORMALISATIONS = (nnx.BatchNorm, nnx.InstanceNorm, *MASKABLE)


def trace_network(model: nnx.Module, example_input: Any) -> TracedNetwork:
    """Traces a network once and finds what of it can be dropped.

    Args:
      model: Any Flax NNX network; it is not changed. Arguments of its `__call__` such as `train`, `deterministic` and `rngs`
        are recognised by their names (`call_network`).
      example_input: An input with a leading batch axis, for example [1, 28, 28, 1], or a pytree of such for a network that
        takes several: a tuple is passed as several arguments, a dict by their names. Only shapes and types matter.

    Returns:
      The network's filter groups, sub-networks (`take`, `put`, `mask`) and cost (`macs`).

    Raises:
      InputError: The network does not run on such an input, an operation can't be followed, or a layer hard-codes a number
        of channels; the line names layer, primitive and remedy.
    """
    if not isinstance(model, nnx.Module):
        raise InputError(f"expected a flax.nnx.Module, was given {type(model).__name__}; build the network with Flax NNX")
    inputs = jax.tree.leaves(example_input)
    if not inputs or not all(getattr(leaf, "ndim", 0) and 0 not in leaf.shape for leaf in inputs):
        raise InputError("example_input holds no example; give an array with a leading batch axis, such as [1, 28, 28, 1]")
    if len({leaf.shape[0] for leaf in inputs}) > 1:
        raise InputError(
            f"example_input has leaves of shapes {', '.join(str(leaf.shape) for leaf in inputs)}; give all of them the same "
            "leading batch axis"
        )
    graphdef, state = nnx.split(model)
    modules = {path_name(path): module for path, module in nnx.iter_modules(model)}
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), example_input)
    walk, parameters = _walked(modules, graphdef, state, example)
    groups, members = _filter_groups(walk, parameters, modules)
    layouts = {
        path: tuple(_layout(walk, axis, members, groups, path) for axis in value.labels)
        for path, value in parameters.items()
    }
    network = TracedNetwork(
        graphdef=graphdef,
        filter_groups=groups,
        layouts=layouts,
        consumed=_consumed(walk, parameters),
        products=_products(walk, members, len(groups)),
        normalised_over={
            layer: _layout(walk, labels, members, groups, (layer,))
            for layer, labels in walk.seen.normalised_over.items()
            if walk.ties.droppable(labels)
        },
        batch_size=inputs[0].shape[0],
    )
    refuse_hard_coded_counts(network, state, example, walk, members)
    return network


def _walked(modules: dict[str, nnx.Module], graphdef: Any, state: Any, example: Any) -> tuple[Walk, dict[Path, Value]]:
    """A walk over the whole network, whose inputs and outputs are pinned, and the labels of the network's variables."""
    try:
        closed, output = jaxpr_of(graphdef, state, example)
    except InputError:
        raise
    except Exception as error:  # whatever a network of the user's may raise
        raise InputError(
            f"the network does not run on {_in_words(example)} ({in_one_line(error)}); "
            "give an example_input as its __call__ takes it"
        ) from error
    walk = Walk(modules)
    paths = [leaf_path(key) for key, _ in jax.tree_util.tree_flatten_with_path(state)[0]]
    variables = [walk.new_variable(shape_of(atom)) for atom in closed.jaxpr.invars[: len(paths)]]
    inputs = [Value(tuple(map(pinned, leaf.shape)), weight=False) for leaf in jax.tree.leaves(example)]
    for value in walk.run(closed.jaxpr, [*variables, *inputs], ""):
        for labels in value.labels:
            walk.ties.pin(labels)
    for labels, refusal in walk.seen.refusals:
        if walk.ties.droppable(labels):
            raise refusal
    batch = inputs[0].labels[0].size
    if not jax.tree.leaves(output) or any(leaf.shape[:1] != (batch,) for leaf in jax.tree.leaves(output)):
        raise InputError(
            f"the network maps {_in_words(example)} to {_in_words(output) or 'nothing'}; "
            "give an example_input with a leading batch axis that every output keeps"
        )
    return walk, dict(zip(paths, variables, strict=True))


def _in_words(tree: Any) -> str:
    """The arrays of a pytree, such as "float32 [1, 8, 8, 1]"."""
    return " and ".join(f"{leaf.dtype} {list(leaf.shape)}" for leaf in jax.tree.leaves(tree))


def _products(walk: Walk, members: Members, groups: int) -> tuple[tuple[int, tuple[LengthOfAxis, ...]], ...]:
    """The network's convolutions and dots as products of the lengths of their axes at any widths."""
    return tuple(
        (
            product.constant,
            tuple(LengthOfAxis.of_elements(walk.members_along(axis, members), groups) for axis in product.axes),
        )
        for product in walk.seen.products
    )


def _filter_groups(
    walk: Walk, parameters: dict[Path, Value], modules: dict[str, nnx.Module]
) -> tuple[tuple[FilterGroup, ...], dict[int, tuple[int, int]]]:
    """Collects classes of labels into groups; returns them and, for each root label, its (group, filter)."""
    places: dict[int, Counter[tuple[Path, int]]] = {}
    for path, value in parameters.items():
        for axis, labels in enumerate(value.labels):
            for root in walk.ties.roots(labels):
                if root > PINNED:
                    places.setdefault(int(root), Counter())[path, axis] += 1
    owners = _owners(parameters)
    normalised = {int(root) for labels in walk.seen.normalised_over.values() for root in walk.ties.roots(labels)}
    groups: list[FilterGroup] = []
    members: dict[int, tuple[int, int]] = {}
    for creation in walk.seen.creations:
        together: dict[frozenset[Any], list[int]] = {}
        for root in dict.fromkeys(int(root) for root in walk.ties.roots(creation.labels)):
            if root > PINNED and root not in members and root in places:
                together.setdefault(frozenset(places[root].items()), []).append(root)
        for place, roots in together.items():
            members.update((root, (len(groups), index)) for index, root in enumerate(roots))
            path, _ = owners.get(int(creation.labels[0]), ((), 0))
            groups.append(
                FilterGroup(
                    name=creation.layer or path_name(path),
                    filters=len(roots),
                    convolutional=creation.convolutional,
                    normalised=not normalised.isdisjoint(roots)
                    or any(isinstance(modules.get(path_name(path[:-1])), _NORMALISATIONS) for (path, _), _ in place),
                )
            )
    return _with_unique_names(groups), members


def _with_unique_names(groups: Sequence[FilterGroup]) -> tuple[FilterGroup, ...]:
    """Numbers the groups that one layer creates, if it creates several."""
    times = Counter(group.name for group in groups)
    numbers: Counter[str] = Counter()
    unique = []
    for group in groups:
        name = group.name if times[group.name] == 1 else f"{group.name}[{numbers[group.name]}]"
        numbers[group.name] += 1
        unique.append(dataclasses.replace(group, name=name))
    return tuple(unique)


def _layout(walk: Walk, labels: AxisLabels, members: Members, groups: Sequence[FilterGroup], path: Path) -> AxisLayout:
    layout = AxisLayout.of_elements(walk.members_along(labels, members), [group.filters for group in groups])
    if layout is None:
        raise InputError(
            f"can't trace {path_name(path)!r}: its filters come in another order than the layer that creates them has; "
            "keep the order of channels (no shuffling or interleaving) between layers"
        )
    return layout


def _owners(parameters: dict[Path, Value]) -> dict[int, tuple[Path, int]]:
    """The (variable, axis) that a first label belongs to."""
    return {
        int(labels[0]): (path, axis)
        for path, value in parameters.items()
        for axis, labels in enumerate(value.labels)
        if len(labels) and labels[0] > PINNED
    }


def _consumed(walk: Walk, parameters: dict[Path, Value]) -> frozenset[tuple[Path, int]]:
    owners = _owners(parameters)
    return frozenset(owners[int(labels[0])] for labels in walk.seen.contracted if int(labels[0]) in owners)
