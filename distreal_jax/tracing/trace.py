"""`trace_network`: from an unannotated Flax NNX network to its filter groups, sub-networks and cost.

The network is traced once to a jaxpr. Every element along every axis of every parameter gets a label; walking the jaxpr,
each operation ties labels together (`rules`). What is tied to an input feature or to an output can't be dropped. The
remaining classes are the filters, and those that are created together and go the same way are a filter group.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.extend import core

from distreal_jax.errors import InputError
from distreal_jax.tracing.interception import Around, Call, intercept_calls, path_name, with_counts_of_sub_network
from distreal_jax.tracing.labels import ANY, PINNED, AxisLabels, Ties, ValueLabels, anything, pinned
from distreal_jax.tracing.layout import AxisLayout, LengthOfAxis
from distreal_jax.tracing.network import FilterGroup, Path, TracedNetwork, leaf_path
from distreal_jax.tracing.rules import Observations, Site, Value, apply_rule

_MASKABLE = (nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm)
_NORMALISATIONS = (nnx.BatchNorm, nnx.InstanceNorm, *_MASKABLE)
# Primitives that run the jaxpr that they hold once, on their own operands.
_CALLS = frozenset("jit pjit closed_call core_call checkpoint remat remat2 custom_jvp_call custom_vjp_call".split())
_LAYER = re.compile(r"layer:([^/()]*)")


def trace_network(model: nnx.Module, example_input: jax.Array | jax.ShapeDtypeStruct) -> TracedNetwork:
    """Traces a network once and finds what of it can be dropped.

    Args:
      model: Any Flax NNX network whose `__call__` takes one array; it is not changed.
      example_input: An input with a leading batch axis, for example [1, 28, 28, 1]; only shape and type matter.

    Returns:
      The network's filter groups, sub-networks (`take`, `put`, `mask`) and cost (`macs`).

    Raises:
      InputError: The network does not run on such an input, an operation can't be followed, or a layer hard-codes a number
        of channels; the line names layer, primitive and remedy.
    """
    if not isinstance(model, nnx.Module):
        raise InputError(f"expected a flax.nnx.Module, was given {type(model).__name__}; build the network with Flax NNX")
    if not getattr(example_input, "ndim", 0) or 0 in example_input.shape:
        raise InputError("example_input holds no example; give an array with a leading batch axis, such as [1, 28, 28, 1]")
    graphdef, state = nnx.split(model)
    paths = [leaf_path(key) for key, _ in jax.tree_util.tree_flatten_with_path(state)[0]]
    modules = {path_name(path): module for path, module in nnx.iter_modules(model)}
    example = jax.ShapeDtypeStruct(example_input.shape, example_input.dtype)

    try:
        closed, output_shape = _traced(graphdef, state, example)
    except InputError:
        raise
    except Exception as error:  # whatever a network of the user's may raise
        raise InputError(
            f"the network does not run on one {example.dtype} array of shape {example.shape} ({_in_one_line(error)}); "
            "give an example_input as its __call__ takes it"
        ) from error
    walk = _Walk(modules)
    variables = [walk.new_variable(_shape(atom)) for atom in closed.jaxpr.invars[: len(paths)]]
    inputs = [Value(tuple(pinned(length) for length in example.shape), weight=False)]
    outputs = walk.run(closed.jaxpr, [*variables, *inputs], "")
    for value in outputs:
        for labels in value.labels:
            walk.ties.pin(labels)
    for labels, refusal in walk.seen.refusals:
        if walk.ties.droppable(labels):
            raise refusal
    if not output_shape or output_shape[0] != example.shape[0]:
        raise InputError(
            f"the network maps an input of shape {example.shape} to an output of shape {output_shape}; "
            "give an example_input with a leading batch axis that the output keeps"
        )

    parameters = dict(zip(paths, variables, strict=True))
    groups, members = _filter_groups(walk, parameters, modules)
    layouts = {
        path: tuple(_layout(walk.ties, axis, members, groups, path) for axis in value.labels)
        for path, value in parameters.items()
    }
    network = TracedNetwork(
        graphdef=graphdef,
        filter_groups=groups,
        layouts=layouts,
        consumed=_consumed(walk, parameters),
        products=tuple(
            (product.constant, tuple(_length(walk.ties, axis, members, len(groups)) for axis in product.axes))
            for product in walk.seen.products
        ),
        normalised_over={
            layer: _layout(walk.ties, labels, members, groups, (layer,))
            for layer, labels in walk.seen.normalised_over.items()
            if walk.ties.droppable(labels)
        },
        batch_size=example.shape[0],
    )
    _check_sub_network(network, state, example, walk, members)
    return network


def _named_layer(path: str, _: nnx.Module, call: Call) -> Call:
    def named(*args: Any, **kwargs: Any) -> Any:
        with jax.named_scope(f"layer:{path}"):
            return call(*args, **kwargs)

    return named


def _traced(
    graphdef: Any, state: Any, example: jax.ShapeDtypeStruct, around: Sequence[Around] = ()
) -> tuple[core.ClosedJaxpr, tuple[int, ...]]:
    def forward(state: Any, inputs: jax.Array) -> Any:
        model = nnx.merge(graphdef, state)
        model.eval()
        return intercept_calls(model, *around, _named_layer)(inputs)

    closed, shape = jax.make_jaxpr(forward, return_shape=True)(state, example)
    if not hasattr(shape, "shape"):
        raise InputError("the network's __call__ has to return one array (the logits), not a tuple or a dict")
    return closed, tuple(shape.shape)


class _Walk:
    """Walks a jaxpr and its inner jaxprs, tying labels and noting the labels of every equation's outputs."""

    def __init__(self, modules: dict[str, nnx.Module]) -> None:
        self.ties = Ties()
        self.seen = Observations()
        self.trail: list[tuple[_Step, ValueLabels]] = []
        self._modules = modules

    def new_variable(self, shape: tuple[int, ...]) -> Value:
        return Value(tuple(self.ties.new(length) for length in shape), weight=True)

    def masks_statistics(self, layer: str) -> bool:
        """Whether the layer can be told which channels count in its statistics."""
        return isinstance(self._modules.get(layer), _MASKABLE)

    def run(self, jaxpr: core.Jaxpr, arguments: Sequence[Value], layer: str) -> list[Value]:
        known: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        for constant in jaxpr.constvars:
            known[constant] = Value(tuple(pinned(length) for length in _shape(constant)), weight=True)

        def value_of(atom: Any) -> Value:
            if isinstance(atom, core.Literal):
                return Value(tuple(anything(length) for length in np.shape(atom.val)), weight=True)
            return known[atom]

        for equation in jaxpr.eqns:
            operands = tuple(value_of(atom) for atom in equation.invars)
            inner = _inner_jaxpr(equation)
            where = _layer_of(equation, layer)
            if inner is not None:
                results = self.run(inner, operands, where)
            else:
                shapes = tuple(_shape(variable) for variable in equation.outvars)
                site = Site(
                    primitive=equation.primitive.name,
                    params=equation.params,
                    operands=operands,
                    out_shapes=shapes,
                    layer=where,
                    masks_statistics=self.masks_statistics(where),
                    ties=self.ties,
                    seen=self.seen,
                )
                weight = all(operand.weight for operand in operands)
                results = [Value(labels, weight) for labels in apply_rule(site)]
                self.trail.extend(zip(_steps_of(equation, where), (result.labels for result in results), strict=True))
            known.update(zip(equation.outvars, results, strict=True))
        return [value_of(atom) for atom in jaxpr.outvars]


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)


def _inner_jaxpr(equation: core.JaxprEqn) -> core.Jaxpr | None:
    if equation.primitive.name not in _CALLS:
        return None
    inner: core.Jaxpr | core.ClosedJaxpr = equation.params["jaxpr" if "jaxpr" in equation.params else "call_jaxpr"]
    return inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner


def _layer_of(equation: core.JaxprEqn, outer: str) -> str:
    found = _LAYER.findall(str(equation.source_info.name_stack))
    return found[-1] if found else outer


class _Step(NamedTuple):
    """One output of an equation."""

    layer: str
    primitive: str
    shape: tuple[int, ...]
    numbers: tuple[str, ...]  # that the equation computes with

    @property
    def where(self) -> str:
        return f"layer {self.layer!r}" if self.layer else "the network's own __call__"


def _steps_of(equation: core.JaxprEqn, layer: str) -> Iterator[_Step]:
    numbers = tuple(str(atom.val) for atom in equation.invars if isinstance(atom, core.Literal))
    for variable in equation.outvars:
        yield _Step(layer, equation.primitive.name, _shape(variable), numbers)


def _steps_in(jaxpr: core.Jaxpr, layer: str) -> Iterator[_Step]:
    """All steps in the order in which `_Walk` notes them."""
    for equation in jaxpr.eqns:
        inner, where = _inner_jaxpr(equation), _layer_of(equation, layer)
        yield from _steps_of(equation, where) if inner is None else _steps_in(inner, where)


def _filter_groups(
    walk: _Walk, parameters: dict[Path, Value], modules: dict[str, nnx.Module]
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


def _element_members(ties: Ties, labels: AxisLabels, members: dict[int, tuple[int, int]]) -> list[tuple[int, int] | None]:
    return [members.get(int(root)) for root in ties.roots(labels)]


def _layout(
    ties: Ties, labels: AxisLabels, members: dict[int, tuple[int, int]], groups: Sequence[FilterGroup], path: Path
) -> AxisLayout:
    layout = AxisLayout.of_elements(_element_members(ties, labels, members), [group.filters for group in groups])
    if layout is None:
        raise InputError(
            f"can't trace {path_name(path)!r}: its filters come in another order than the layer that creates them has; "
            "keep the order of channels (no shuffling or interleaving) between layers"
        )
    return layout


def _length(ties: Ties, labels: AxisLabels, members: dict[int, tuple[int, int]], groups: int) -> LengthOfAxis:
    return LengthOfAxis.of_elements(_element_members(ties, labels, members), groups)


def _owners(parameters: dict[Path, Value]) -> dict[int, tuple[Path, int]]:
    """The (variable, axis) that a first label belongs to."""
    return {
        int(labels[0]): (path, axis)
        for path, value in parameters.items()
        for axis, labels in enumerate(value.labels)
        if len(labels) and labels[0] > PINNED
    }


def _consumed(walk: _Walk, parameters: dict[Path, Value]) -> frozenset[tuple[Path, int]]:
    owners = _owners(parameters)
    return frozenset(owners[int(labels[0])] for labels in walk.seen.contracted if int(labels[0]) in owners)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check_sub_network(
    network: TracedNetwork,
    state: Any,
    example: jax.ShapeDtypeStruct,
    walk: _Walk,
    members: dict[int, tuple[int, int]],
) -> None:
    """Runs smaller networks abstractly and compares every shape and number with what the labels say.

    Neighbouring groups keep different numbers of filters, so that a count that a layer has written down, a split at a fixed
    channel or in halves, or a reshape to a fixed size shows as a wrong shape.
    """
    counts = network.full_widths
    every = [max(1, count - 1 - index % max(1, count - 2)) for index, count in enumerate(counts)]
    every_other = [width if index % 2 else count for index, (width, count) in enumerate(zip(every, counts, strict=True))]
    for widths in (every, every_other):
        if tuple(widths) != counts:
            _check_widths(network, widths, state, example, walk, members)


def _check_widths(
    network: TracedNetwork,
    widths: Sequence[int],
    state: Any,
    example: jax.ShapeDtypeStruct,
    walk: _Walk,
    members: dict[int, tuple[int, int]],
) -> None:
    failed: list[str] = []

    def noting_failures(path: str, _: nnx.Module, call: Call) -> Call:
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except Exception:
                failed.append(path)
                raise

        return called

    remedy = "take the count from the array's shape (x.shape[-1], reshape(x.shape[0], -1)) instead of writing it down"
    try:
        closed, _ = _traced(
            network.graphdef, network.shapes(state, widths), example, (with_counts_of_sub_network, noting_failures)
        )
    except Exception as error:  # whatever a network of the user's may raise
        where = next((f"layer {path!r}" for path in failed if path), "the network's own __call__")
        raise InputError(f"{where} hard-codes a number of channels ({_in_one_line(error)}); {remedy}") from error
    for (step, labels), actual in zip(walk.trail, _steps_in(closed.jaxpr, ""), strict=False):
        expected = tuple(
            # The length of a broadcast is whatever the layer asked for; where it meets filters, that is checked.
            length
            if np.any(axis == ANY)
            else sum(
                member is None or member[1] < widths[member[0]] for member in _element_members(walk.ties, axis, members)
            )
            for axis, length in zip(labels, actual.shape, strict=False)
        )
        if step.primitive != actual.primitive or len(actual.shape) != len(labels) or actual.shape != expected:
            raise InputError(
                f"{step.where} hard-codes a number of channels: in a smaller network its primitive {step.primitive!r} "
                f"gives shape {actual.shape} where {expected} was expected; {remedy}"
            )
        if step.numbers != actual.numbers and not walk.masks_statistics(step.layer):
            raise InputError(
                f"{step.where} computes with the number of channels: {', '.join(step.numbers)} in primitive "
                f"{step.primitive!r} becomes {', '.join(actual.numbers)} in a smaller network; "
                "compute it once, when the network is built, so that all sub-networks share it"
            )
