"""One walk over a network's jaxpr: every primitive ties labels by its rule, and leaves a trail of what it put out."""

import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.extend import core

from distreal_jax.tracing.calling import run_network
from distreal_jax.tracing.inner import inner_jaxpr, line_of
from distreal_jax.tracing.interception import Around, Call, Occasion, takes_mask, with_statistics_masks
from distreal_jax.tracing.labels import AxisLabels, Ties, ValueLabels, anything, pinned
from distreal_jax.tracing.loops import walk_cond, walk_scan
from distreal_jax.tracing.network import Path, leaf_path
from distreal_jax.tracing.rules import apply_rule
from distreal_jax.tracing.site import Observations, Product, Site, Value

Members = Mapping[int, tuple[int, int]]  # root label -> (group, filter)

_CALL = re.compile(r"layer:([^/()]*)@(\d+)")


def _with_names() -> Around:
    """Names each operation after the layer that it is of, and which of the layer's calls."""
    calls: Counter[str] = Counter()

    def around(path: str, _: nnx.Module, call: Call) -> Call:
        def named(*args: Any, **kwargs: Any) -> Any:
            number = calls[path]
            calls[path] += 1
            with jax.named_scope(f"layer:{path}@{number}"):
                return call(*args, **kwargs)

        return named

    return around


class NetworkJaxpr(NamedTuple):
    """One call of a network, traced."""

    closed: core.ClosedJaxpr  # of variables, inputs and masks to the outputs and the variables that are no parameters
    variables: tuple[Path, ...]  # all, in the order of the inputs
    changed: tuple[Path, ...]  # those that are no parameters, in the order of the outputs
    outputs: Any  # their shapes and types

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """Of the network's outputs, in order."""
        return [tuple(leaf.shape) for leaf in jax.tree.leaves(self.outputs)]


def jaxpr_of(
    graphdef: Any,
    state: Any,
    example: Any,
    *,
    train: bool,
    arounds: Sequence[Around] = (),
    masks: Mapping[Occasion, jax.ShapeDtypeStruct] | None = None,
) -> NetworkJaxpr:
    """The network's forward pass with the names of layers in it.

    Args:
      graphdef: The network's static structure.
      state: Its variables, or their shapes.
      example: The shapes and types of its inputs.
      train: In training, or in evaluation.
      arounds: What is put around the calls of its modules.
      masks: Of layers with statistics over channels, in the order in which they are inputs.
    """

    def forward(state: Any, inputs: Any, values: Sequence[jax.Array]) -> Any:
        masking = with_statistics_masks(dict(zip(masks or (), values, strict=True)))
        return run_network(graphdef, (state,), inputs, *arounds, masking, _with_names(), train=train)

    # Shapes and types alone: a constant that a parameter began as would leave other steps than a sub-network's array.
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    closed, (outputs, others) = jax.make_jaxpr(forward, return_shape=True)(state, example, [*(masks or {}).values()])
    return NetworkJaxpr(closed, _paths_in(state), _paths_in(others), outputs)


def _paths_in(state: Any) -> tuple[Path, ...]:
    return tuple(leaf_path(key) for key, _ in jax.tree_util.tree_flatten_with_path(state)[0])


class Walk:
    """Walks a jaxpr and its inner jaxprs, tying labels and noting the labels of every equation's outputs."""

    def __init__(self, modules: dict[str, nnx.Module]) -> None:
        self.ties = Ties()
        self.seen = Observations()
        self.trail: list[tuple[Step, ValueLabels]] = []  # of all runs so far
        self._modules = modules

    def new_variable(self, shape: tuple[int, ...]) -> Value:
        """A parameter, all of whose elements are labelled anew; whether these are filters is seen where it is used."""
        return Value(tuple(self.ties.new(length, tentative=True) for length in shape), weight=True)

    def masks_statistics(self, layer: str) -> bool:
        """Whether the layer can be told which channels count in its statistics."""
        return takes_mask(self._modules.get(layer))

    def members_along(self, labels: AxisLabels, members: Members) -> list[tuple[int, int] | None]:
        """For each element of an axis, its (group, filter), or None if it is never dropped."""
        return [members.get(int(root)) for root in self.ties.roots(labels)]

    def run(self, jaxpr: core.Jaxpr, arguments: Sequence[Value], outer: Occasion = ("", 0)) -> list[Value]:
        """Walks over a jaxpr that the layer's call holds, with these arguments, and returns its results."""
        known: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        for constant in jaxpr.constvars:
            known[constant] = Value(tuple(pinned(length) for length in shape_of(constant)), weight=True)

        def value_of(atom: Any) -> Value:
            if isinstance(atom, core.Literal):
                return Value(tuple(anything(length) for length in np.shape(atom.val)), weight=True)
            return known[atom]

        for equation in jaxpr.eqns:
            operands = tuple(value_of(atom) for atom in equation.invars)
            inner = inner_jaxpr(equation)
            where = _occasion_of(equation, outer)
            if inner is not None:
                results = self.run(inner.jaxpr, operands, where)
            else:
                results = self._results(equation, operands, where)
                self.trail.extend(zip(_steps_of(equation, where[0]), (result.labels for result in results), strict=True))
            known.update(zip(equation.outvars, results, strict=True))
        return [value_of(atom) for atom in jaxpr.outvars]

    def _results(self, equation: core.JaxprEqn, operands: Sequence[Value], where: Occasion) -> list[Value]:
        """What one equation puts out."""
        name, params = equation.primitive.name, equation.params
        self.ties.because = next(_steps_of(equation, where[0]))
        if name in _BODIES:
            return _BODIES[name](params, operands, functools.partial(self._run_body, params, where), self.ties)
        site = Site(
            primitive=name,
            params=params,
            operands=tuple(operands),
            out_shapes=tuple(shape_of(variable) for variable in equation.outvars),
            occasion=where,
            masks_statistics=self.masks_statistics(where[0]),
            ties=self.ties,
            seen=self.seen,
            source=equation.source_info,
        )
        weight = all(operand.weight for operand in operands)
        return [Value(labels, weight) for labels in apply_rule(site)]

    def _run_body(
        self, params: Mapping[str, Any], where: Occasion, body: core.Jaxpr, arguments: Sequence[Value]
    ) -> list[Value]:
        """Walks over the body of a loop, whose steps are no steps of the network's own and count as often as it runs."""
        trail, self.trail = self.trail, []
        products = len(self.seen.products)
        results = self.run(body, arguments, where)
        self.trail = trail
        for index in range(products, len(self.seen.products)):
            product = self.seen.products[index]
            self.seen.products[index] = Product(product.constant * params.get("length", 1), product.axes)
        return results


_BODIES = {"scan": walk_scan, "cond": walk_cond}


def shape_of(atom: Any) -> tuple[int, ...]:
    """The shape of a variable of a jaxpr."""
    return tuple(atom.aval.shape)


def _occasion_of(equation: core.JaxprEqn, outer: Occasion) -> Occasion:
    found = _CALL.findall(str(equation.source_info.name_stack))
    return (found[-1][0], int(found[-1][1])) if found else outer


class Step(NamedTuple):
    """One output of an equation."""

    layer: str
    primitive: str
    shape: tuple[int, ...]
    numbers: tuple[str, ...]  # that the equation computes with
    source: Any

    def __str__(self) -> str:
        """Layer and operation."""
        return f"{self.where} ({self.operation})"

    @property
    def operation(self) -> str:
        """The primitive and the user's line, for a message."""
        return f"primitive {self.primitive!r}{line_of(self.source)}"

    @property
    def where(self) -> str:
        """The layer, for a message."""
        return f"layer {self.layer!r}" if self.layer else "the network's own __call__"


def _steps_of(equation: core.JaxprEqn, layer: str) -> Iterator[Step]:
    numbers = tuple(str(atom.val) for atom in equation.invars if isinstance(atom, core.Literal))
    for variable in equation.outvars:
        yield Step(layer, equation.primitive.name, shape_of(variable), numbers, equation.source_info)


def steps_in(jaxpr: core.Jaxpr, outer: Occasion = ("", 0)) -> Iterator[Step]:
    """All steps in the order in which `Walk` notes them."""
    for equation in jaxpr.eqns:
        inner, where = inner_jaxpr(equation), _occasion_of(equation, outer)
        yield from _steps_of(equation, where[0]) if inner is None else steps_in(inner.jaxpr, where)


Trail = Sequence[tuple[Step, ValueLabels]]  # every step of a network with the labels of its output
