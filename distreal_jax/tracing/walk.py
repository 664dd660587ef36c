"""One walk over a network's jaxpr: every primitive ties labels by its rule, and leaves a trail of what it put out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.extend import core

from distreal_jax.tracing.calling import call_network
from distreal_jax.tracing.interception import Around, Call
from distreal_jax.tracing.labels import AxisLabels, Ties, ValueLabels, anything, pinned
from distreal_jax.tracing.rules import apply_rule
from distreal_jax.tracing.site import Observations, Site, Value

# Layers with statistics over channels that can be told which of these count.
MASKABLE = (nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm)

Members = Mapping[int, tuple[int, int]]  # root label -> (group, filter)

# Primitives that run the jaxpr that they hold once, on their own operands.
_CALLS = frozenset("jit pjit closed_call core_call checkpoint remat remat2 custom_jvp_call custom_vjp_call".split())
_LAYER = re.compile(r"layer:([^/()]*)")


def _named_layer(path: str, _: nnx.Module, call: Call) -> Call:
    def named(*args: Any, **kwargs: Any) -> Any:
        with jax.named_scope(f"layer:{path}"):
            return call(*args, **kwargs)

    return named


def jaxpr_of(graphdef: Any, state: Any, example: Any, around: Sequence[Around] = ()) -> tuple[core.ClosedJaxpr, Any]:
    """The network's forward pass in evaluation, with the names of layers in it, and the shapes of its outputs.

    Args:
      graphdef: The network's static structure.
      state: Its variables, or their shapes.
      example: The shapes and types of its inputs.
      around: What is put around the calls of its modules.
    """

    def forward(state: Any, inputs: Any) -> Any:
        return call_network(nnx.merge(graphdef, state), inputs, *around, _named_layer, train=False)

    closed, outputs = jax.make_jaxpr(forward, return_shape=True)(state, example)
    return closed, outputs


class Walk:
    """Walks a jaxpr and its inner jaxprs, tying labels and noting the labels of every equation's outputs."""

    def __init__(self, modules: dict[str, nnx.Module]) -> None:
        self.ties = Ties()
        self.seen = Observations()
        self.trail: list[tuple[Step, ValueLabels]] = []
        self._modules = modules

    def new_variable(self, shape: tuple[int, ...]) -> Value:
        """A parameter, all of whose elements are labelled anew."""
        return Value(tuple(self.ties.new(length) for length in shape), weight=True)

    def masks_statistics(self, layer: str) -> bool:
        """Whether the layer can be told which channels count in its statistics."""
        return isinstance(self._modules.get(layer), MASKABLE)

    def members_along(self, labels: AxisLabels, members: Members) -> list[tuple[int, int] | None]:
        """For each element of an axis, its (group, filter), or None if it is never dropped."""
        return [members.get(int(root)) for root in self.ties.roots(labels)]

    def run(self, jaxpr: core.Jaxpr, arguments: Sequence[Value], layer: str) -> list[Value]:
        """Walks over a jaxpr that the layer calls with these arguments, and returns its results."""
        known: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        for constant in jaxpr.constvars:
            known[constant] = Value(tuple(pinned(length) for length in shape_of(constant)), weight=True)

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
                shapes = tuple(shape_of(variable) for variable in equation.outvars)
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


def shape_of(atom: Any) -> tuple[int, ...]:
    """The shape of a variable of a jaxpr."""
    return tuple(atom.aval.shape)


def _inner_jaxpr(equation: core.JaxprEqn) -> core.Jaxpr | None:
    if equation.primitive.name not in _CALLS:
        return None
    inner: core.Jaxpr | core.ClosedJaxpr = equation.params["jaxpr" if "jaxpr" in equation.params else "call_jaxpr"]
    return inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner


def _layer_of(equation: core.JaxprEqn, outer: str) -> str:
    found = _LAYER.findall(str(equation.source_info.name_stack))
    return found[-1] if found else outer


class Step(NamedTuple):
    """One output of an equation."""

    layer: str
    primitive: str
    shape: tuple[int, ...]
    numbers: tuple[str, ...]  # that the equation computes with

    @property
    def where(self) -> str:
        """The layer, for a message."""
        return f"layer {self.layer!r}" if self.layer else "the network's own __call__"


def _steps_of(equation: core.JaxprEqn, layer: str) -> Iterator[Step]:
    numbers = tuple(str(atom.val) for atom in equation.invars if isinstance(atom, core.Literal))
    for variable in equation.outvars:
        yield Step(layer, equation.primitive.name, shape_of(variable), numbers)


def steps_in(jaxpr: core.Jaxpr, layer: str) -> Iterator[Step]:
    """All steps in the order in which `Walk` notes them."""
    for equation in jaxpr.eqns:
        inner, where = _inner_jaxpr(equation), _layer_of(equation, layer)
        yield from _steps_of(equation, where) if inner is None else steps_in(inner, where)
