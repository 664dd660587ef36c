"""`trace_network`: from an unannotated Flax NNX network to its filter groups, sub-networks and cost.

The network is traced once to a jaxpr. Every element along every axis of every parameter gets a label; walking the jaxpr,
each operation ties labels together (`rules`). What is tied to an input feature or to an output can't be dropped. The
remaining classes are the filters, and those that are created together and go the same way are a filter group.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx

from distreal_jax.errors import InputError
from distreal_jax.tracing.calling import without_intermediates
from distreal_jax.tracing.hard_coded import in_one_line
from distreal_jax.tracing.interception import path_name
from distreal_jax.tracing.labels import PINNED, AxisLabels, pinned
from distreal_jax.tracing.layout import AxisLayout, LengthOfAxis
from distreal_jax.tracing.network import FilterGroup, Path, TracedNetwork
from distreal_jax.tracing.proof import prove
from distreal_jax.tracing.site import Value
from distreal_jax.tracing.walk import Members, NetworkJaxpr, Trail, Walk, jaxpr_of, shape_of, steps_in

# Layers whose output has a scale of its own; others are known by the statistics that they keep.
_NORMALISATIONS = (nnx.BatchNorm, nnx.InstanceNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm)
_BATCH = 3  # the fewest of which a normalisation keeps more than a sign
# Chosen by us: images are this much smaller, but have this side at least, where the network takes them.
_SHRINK, _SMALLEST_SIDE = 4, 8


class Wholes(NamedTuple):
    """A network's jaxprs."""

    jaxprs: dict[bool, NetworkJaxpr]  # in training (True) and in evaluation, on small examples
    example: Any
    counted: NetworkJaxpr  # in training, on examples of full size
    counted_for: Any


def trace_network(model: nnx.Module, example_input: Any, *, proof: bool = True) -> TracedNetwork:
    """Traces a network once and finds what of it can be dropped.

    Args:
      model: Any Flax NNX network; it is not changed. Arguments of its `__call__` such as `train`, `deterministic` and `rngs`
        are recognised by their names (`call_network`).
      example_input: An input with a leading batch axis, for example [1, 28, 28, 1], or a pytree of such for a network that
        takes several: a tuple is passed as several arguments, a dict by their names. Only shapes and types matter.
      proof: Whether to prove by numbers, on a tiny batch, that networks whose dropped filters are zero compute what the
        smaller networks compute; it takes less than a second for ResNet-20, and once for a network.

    Returns:
      The network's filter groups, sub-networks (`take`, `put`, `mask`) and cost (`macs`).

    Raises:
      InputError: The network does not run on such an input, an operation can't be followed, a layer hard-codes a number of
        channels, or a smaller network computes something else; the line names layer, primitive and remedy.
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
    model = without_intermediates(model)
    graphdef, state = nnx.split(model)
    modules = {path_name(path): module for path, module in nnx.iter_modules(model)}
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), example_input)
    wholes = _whole_network(graphdef, state, example)
    walk, parameters, trails = _walked(modules, wholes)
    statistics = {tuple(map(str, path)) for path, leaf in nnx.to_flat_state(state) if isinstance(leaf, nnx.BatchStat)}
    groups, members = _filter_groups(walk, parameters, modules, statistics)
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
            occasion: _layout(walk, labels, members, groups, (occasion[0],))
            for occasion, labels in walk.seen.normalised_over.items()
            if walk.ties.droppable(labels)
        },
        batch_size=_batch(wholes.counted_for),
    )
    prove(network, state, wholes.example, wholes.jaxprs, trails, walk, members, by_numbers=proof)
    return network


def _whole_network(graphdef: Any, state: Any, example: Any) -> Wholes:
    """The network's jaxprs on a few examples, if it takes as many, which are small if it takes those."""
    few = _with_shapes(example, lambda shape: (_BATCH, *shape[1:]))
    try:
        counted = jaxpr_of(graphdef, state, few, train=True)
    except Exception:  # whatever a network of the user's may raise; it may take this one batch alone
        few = example
        try:
            counted = jaxpr_of(graphdef, state, few, train=True)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"the network does not run on {_in_words(example)} ({in_one_line(error)}); "
                "give an example_input as its __call__ takes it"
            ) from error
    small = _with_shapes(few, _shrunk)
    if small != few:
        try:
            tried = {train: jaxpr_of(graphdef, state, small, train=train) for train in (True, False)}
        except Exception:  # it takes images of its own size alone
            pass
        else:
            steps = [[step.primitive for step in steps_in(traced.closed.jaxpr)] for traced in (counted, tried[True])]
            empty = any(0 in step.shape for traced in tried.values() for step in steps_in(traced.closed.jaxpr))
            if steps[0] == steps[1] and counted.outputs == tried[True].outputs and not empty:
                return Wholes(tried, small, counted, few)
    return Wholes({True: counted, False: jaxpr_of(graphdef, state, few, train=False)}, few, counted, few)


def _with_shapes(example: Any, changed: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(changed(leaf.shape), leaf.dtype), example)


def _shrunk(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with smaller sides of the images, if they are images."""
    if len(shape) < 4:
        return shape
    return (shape[0], *(max(side // _SHRINK, min(side, _SMALLEST_SIDE)) for side in shape[1:-1]), shape[-1])


def _batch(example: Any) -> int:
    """Examples in a batch."""
    return int(jax.tree.leaves(example)[0].shape[0])


def _in_words(tree: Any) -> str:
    """The arrays of a pytree, such as "float32 [1, 8, 8, 1]"."""
    return " and ".join(f"{leaf.dtype} {list(leaf.shape)}" for leaf in jax.tree.leaves(tree))


def _walked(modules: dict[str, nnx.Module], wholes: Wholes) -> tuple[Walk, dict[Path, Value], dict[bool, Trail]]:
    """A walk over the network in both modes: the labels of its variables, and of every step.

    Inputs and outputs are pinned, and a variable after the call is dropped with what it was before.
    """
    walk, trails = Walk(modules), {}
    counted, paths = wholes.counted, wholes.counted.variables
    shapes = [shape_of(atom) for atom in counted.closed.jaxpr.invars]
    variables = [walk.new_variable(shape) for shape in shapes[: len(paths)]]
    parameters = dict(zip(paths, variables, strict=True))

    def run(whole: NetworkJaxpr, example: Any) -> Trail:
        already = len(walk.trail)
        inputs = [Value(tuple(map(pinned, leaf.shape)), weight=False) for leaf in jax.tree.leaves(example)]
        results = walk.run(whole.closed.jaxpr, [*variables, *inputs])
        count = len(whole.output_shapes)
        for output in results[:count]:
            for labels in output.labels:
                walk.ties.pin(labels)
        for path, value in zip(whole.changed, results[count:], strict=True):
            if [*map(len, value.labels)] != [*map(len, parameters[path].labels)]:
                raise InputError(f"the network's call changes the shape of its variable {path_name(path)!r}; keep it")
            for before, after in zip(parameters[path].labels, value.labels, strict=True):
                walk.ties.tie_axes([before, after])
        return walk.trail[already:]

    trails[True] = run(counted, wholes.counted_for)
    # A step of training is what is counted, at the size of the images, with branches that run in training alone.
    products = list(walk.seen.products)
    if counted is not wholes.jaxprs[True]:
        trails[True] = run(wholes.jaxprs[True], wholes.example)
    trails[False] = run(wholes.jaxprs[False], wholes.example)
    walk.seen.products = products
    for labels, refusal in walk.seen.refusals:
        if walk.ties.droppable(labels):
            raise refusal
    batch = _batch(wholes.counted_for)
    if not counted.output_shapes or any(shape[:1] != (batch,) for shape in counted.output_shapes):
        raise InputError(
            f"the network maps {_in_words(wholes.counted_for)} to {_in_words(counted.outputs) or 'nothing'}; "
            "give an example_input with a leading batch axis that every output keeps"
        )
    return walk, parameters, trails


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
    walk: Walk, parameters: dict[Path, Value], modules: dict[str, nnx.Module], statistics: set[Path]
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
                    or any(
                        path in statistics or isinstance(modules.get(path_name(path[:-1])), _NORMALISATIONS)
                        for (path, _), _ in place
                    ),
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
