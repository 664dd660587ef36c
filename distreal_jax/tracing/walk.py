"""One walk over a network's jaxpr: every primitive ties labels by its rule, and leaves a trail of what it put out."""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.extend import core

from distreal_jax.tracing.backward import has_gradient, reached, reached_inside
from distreal_jax.tracing.calling import run_network
from distreal_jax.tracing.degrees import degree_of
from distreal_jax.tracing.derivatives import Derivative, derivative_of, has_cotangent, variables_of
from distreal_jax.tracing.inner import (
    NO_LITERALS,
    Occasion,
    Place,
    Places,
    bodies,
    inner_jaxpr,
    line_of,
    literals_inside,
    literals_of,
    occasion_of,
)
from distreal_jax.tracing.interception import Around, normalises_channels, with_counts_of_sub_network, with_names
from distreal_jax.tracing.labels import AxisLabels, Ties, ValueLabels, anything, pinned
from distreal_jax.tracing.loops import tie_values, walk_cond, walk_scan, walk_while
from distreal_jax.tracing.rules import apply_rule
from distreal_jax.tracing.site import Meeting, Observations, Site, Value, through_all
from distreal_jax.tracing.sub_networks import Path, leaf_path

Members = Mapping[int, tuple[int, int]]  # root label -> (group, filter)


class NetworkJaxpr(NamedTuple):
    """One call of a network, traced."""

    closed: core.ClosedJaxpr  # of variables and inputs to the outputs and the variables that are no parameters
    variables: tuple[Path, ...]  # all, in the order of the inputs
    changed: tuple[Path, ...]  # those that are no parameters, in the order of the outputs
    outputs: Any  # their shapes and types

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """Of the network's outputs, in order."""
        return [tuple(leaf.shape) for leaf in jax.tree.leaves(self.outputs)]


def jaxpr_of(graphdef: Any, state: Any, example: Any, *arounds: Around, train: bool) -> NetworkJaxpr:
    """The network's forward pass with the names of layers in it.

    Args:
      graphdef: The network's static structure.
      state: Its variables, or their shapes.
      example: The shapes and types of its inputs.
      arounds: What else is put around the calls of its modules.
      train: In training, or in evaluation.
    """

    def forward(state: Any, inputs: Any) -> Any:
        return run_network(graphdef, (state,), inputs, with_counts_of_sub_network, *arounds, with_names(), train=train)

    # Shapes and types alone: a constant that a parameter began as would leave other steps than a sub-network's array.
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    closed, (outputs, others) = jax.make_jaxpr(forward, return_shape=True)(state, example)
    return NetworkJaxpr(closed, _paths_in(state), _paths_in(others), outputs)


def _paths_in(state: Any) -> tuple[Path, ...]:
    return tuple(leaf_path(key) for key, _ in jax.tree_util.tree_flatten_with_path(state)[0])


class Step(NamedTuple):
    """One output of an equation."""

    place: Place
    shape: tuple[int, ...]
    numbers: tuple[Any, ...]  # that the equation computes with: its literals, None for other operands
    sources: tuple[Any, ...]
    aside: bool = False  # in a loop, or in a derivative of the network's own
    form: Any = None  # of a product: which axes are multiplied

    @property
    def layer(self) -> str:
        """Path of the layer, "" outside all."""
        return self.place.layer

    @property
    def primitive(self) -> str:
        """Name of the primitive."""
        return self.place.primitive

    def __str__(self) -> str:
        """Layer and operation."""
        return f"{self.where} ({self.operation})"

    @property
    def operation(self) -> str:
        """The primitive and the user's line, for a message."""
        return f"primitive {self.primitive!r}{line_of(self.sources)}"

    @property
    def where(self) -> str:
        """The layer, for a message."""
        return f"layer {self.layer!r}" if self.layer else "the network's own __call__"


Trail = Sequence[tuple[Step, ValueLabels]]  # every step of a network with the labels of its output


class Walk:
    """Walks a jaxpr and its inner jaxprs, tying labels and noting the labels of every equation's outputs."""

    def __init__(self, modules: dict[str, nnx.Module], batch: int, following: Collection[bytes] = ()) -> None:
        self.ties = Ties()
        self._batch = batch
        self.seen = Observations(following)
        self._trail: list[tuple[Step, ValueLabels]] = []
        self._modules = modules
        self._train, self._places = True, Places()
        self._variables, self._met = 0, 0
        self._calls: tuple[Any, ...] = ()

    def new_variable(self, shape: tuple[int, ...]) -> Value:
        """A parameter, all of whose elements are labelled anew; whether these are filters is seen where it is used."""
        bit, self._variables = 1 << self._variables, self._variables + 1
        return Value(tuple(self.ties.new(length, tentative=True) for length in shape), weight=True, trained_by=bit)

    def members_along(self, labels: AxisLabels, members: Members) -> list[tuple[int, int] | None]:
        """For each element of an axis, its (group, filter), or None if it is never dropped."""
        return [members.get(int(root)) for root in self.ties.roots(labels)]

    def network(self, whole: NetworkJaxpr, arguments: Sequence[Value], *, train: bool) -> tuple[list[Value], Trail]:
        """Walks over the jaxpr of a network.

        Args:
          whole: A call of the network.
          arguments: Labels of its variables and inputs.
          train: Whether the call is of training or of evaluation.

        Returns:
          Labels of the results, and the trail of all steps.
        """
        self._train, self._places, self._trail = train, Places(), []
        # A loss is of the outputs, and what is done to running statistics has no gradient.
        outputs = [True] * len(whole.output_shapes) + [False] * len(whole.changed)
        return self._run(whole.closed.jaxpr, arguments, ("", 0), outputs), self._trail

    def _run(
        self,
        jaxpr: core.Jaxpr,
        arguments: Sequence[Value],
        outer: Occasion,
        outputs: Sequence[bool],
        literals: Mapping[Any, Any] = NO_LITERALS,
        part: str = "",
    ) -> list[Value]:
        """Labels of the results; `outputs` says to which of them a gradient comes."""
        reached_here = reached(jaxpr, outputs)
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
            where = occasion_of(equation, outer)
            through = [variable in reached_here for variable in equation.outvars]
            if inner is not None:
                self._calls = (*self._calls, equation.source_info)
                before = set(self.seen.takes_in)
                inside = literals_inside(equation, inner, literals)
                results = self._run(inner.jaxpr, operands, where, through, inside, part)
                if equation.primitive.name.startswith("custom_"):
                    self.seen.out_of_reach |= self.seen.takes_in.keys() - before
                if not part and (derivative := derivative_of(equation)) is not None:
                    self._run_derivative(derivative, equation, operands, results, where)
                self._calls = self._calls[:-1]
            else:
                place = self._places.next(where, equation.primitive.name, part)
                results = self._results(equation, operands, place, through, literals)
            known.update(zip(equation.outvars, results, strict=True))
        return [value_of(atom) for atom in jaxpr.outvars]

    def _results(
        self,
        equation: core.JaxprEqn,
        operands: Sequence[Value],
        place: Place,
        outputs: Sequence[bool],
        literals: Mapping[Any, Any],
    ) -> list[Value]:
        """What one equation puts out; `outputs` says to which of it a gradient comes."""
        name, params = equation.primitive.name, equation.params
        steps = list(_steps_of(equation, place, literals, self._calls))
        self.ties.because = steps[0] if steps else ""
        if name in _BODIES:
            inside = iter(reached_inside(equation, outputs))
            run = functools.partial(self._run_body, params.get("length", 1), place, inside)
            results = _BODIES[name](params, operands, run, self.ties)
        else:
            site = Site(
                primitive=name,
                params=params,
                operands=tuple(operands),
                out_shapes=tuple(shape_of(variable) for variable in equation.outvars),
                place=place,
                train=self._train,
                normalises=normalises_channels(self._modules.get(place.layer)),
                ties=self.ties,
                seen=self.seen,
                sources=(*self._calls, equation.source_info),
            )
            self._note_meeting(site)
            weight, trained_by = all(operand.weight for operand in operands), through_all(operands)
            repeated = weight and (any(operand.repeated for operand in operands) or self._repeats(equation))
            products = len(self.seen.products)
            grown = [None if operand.weight else operand.degree for operand in operands]
            degree = degree_of(name, grown, _exponent(equation))
            results = [
                Value(labels, weight, trained_by if has_gradient(equation, variable) else 0, repeated, degree)
                for labels, variable in zip(apply_rule(site), equation.outvars, strict=True)
            ]
            if not any(outputs):
                self.seen.products[products:] = [
                    dataclasses.replace(product, operands=(0, 0)) for product in self.seen.products[products:]
                ]
        self._trail.extend(zip(steps, (result.labels for result in results), strict=True))
        return results

    def _run_body(
        self, times: int, place: Place, outputs: Iterator[list[bool]], body: core.Jaxpr, arguments: Sequence[Value]
    ) -> list[Value]:
        """Walks over the next body of a loop, whose products count as often as it runs."""
        products, steps = len(self.seen.products), len(self._trail)
        results = self._run(body, arguments, (place.layer, place.call), next(outputs), part=place.part)
        self._set_aside(steps)
        for index in range(products, len(self.seen.products)):
            product = self.seen.products[index]
            self.seen.products[index] = dataclasses.replace(product, constant=product.constant * times)
        return results

    def _run_derivative(
        self,
        derivative: Derivative,
        equation: core.JaxprEqn,
        operands: Sequence[Value],
        results: Sequence[Value],
        where: Occasion,
    ) -> None:
        """Walks over a derivative: of what is seen there, only what masked execution and smaller networks need counts."""
        outside, met, steps = self.seen, self._met, len(self._trail)
        self.seen = Observations()
        variables = variables_of(equation)
        outputs = self._run_part(derivative.forward.jaxpr, [operands[index] for index in variables], where, "forward")
        self.ties.because = "a derivative of the network's own"
        for result, output in zip(results, outputs, strict=False):
            tie_values(result, output, self.ties)
        cotangents = [
            dataclasses.replace(result, weight=False)
            for result, atom in zip(results, equation.outvars, strict=True)
            if has_cotangent(atom)
        ]
        saved = outputs[len(results) :]
        gradients = self._run_part(derivative.backward.jaxpr, [*saved, *cotangents], where, "backward")
        self.ties.because = "a derivative of the network's own"
        through = [operands[index] for index in variables if has_cotangent(equation.invars[index])]
        for operand, gradient in zip(through, gradients, strict=True):
            tie_values(operand, gradient, self.ties)
        self._set_aside(steps)
        outside.add_of_derivative(self.seen)
        self.seen, self._met = outside, met

    def _run_part(self, jaxpr: core.Jaxpr, arguments: Sequence[Value], where: Occasion, part: str) -> list[Value]:
        """Labels of what a part of a derivative puts out."""
        return self._run(jaxpr, arguments, where, [True] * len(jaxpr.outvars), part=part)

    def _set_aside(self, steps: int) -> None:
        """Notes of all steps from a number on that they are not in the line of the network's steps."""
        self._trail[steps:] = [(step._replace(aside=True), labels) for step, labels in self._trail[steps:]]

    def _repeats(self, equation: core.JaxprEqn) -> bool:
        """Whether it repeats something once for each example, along a first axis that is new or was of length 1."""
        if equation.primitive.name not in ("broadcast_in_dim", "tile"):
            return False
        before, after = shape_of(equation.invars[0]), shape_of(equation.outvars[0])
        carried = equation.params.get("broadcast_dimensions", range(len(before)))
        return self._batch > 1 and after[:1] == (self._batch,) and (0 not in carried or before[0] == 1)

    def _note_meeting(self, site: Site) -> None:
        """Notes variables that meet what depends on the input for the first time."""
        if all(operand.weight for operand in site.operands):
            return
        new = through_all(operand for operand in site.operands if operand.weight) & ~self._met
        if new:
            self._met |= new
            self.seen.meetings.append(Meeting(new, site.layer, site.primitive in _BEGIN_LAYERS))


_BEGIN_LAYERS = ("conv_general_dilated", "dot_general", "ragged_dot_general", "gather", "dynamic_slice")


def _exponent(equation: core.JaxprEqn) -> float | None:
    """Of a power, where it is a number."""
    if equation.primitive.name == "pow" and isinstance(equation.invars[1], core.Literal):
        return float(equation.invars[1].val)
    return equation.params["y"] if equation.primitive.name == "integer_pow" else None


_BODIES = {"scan": walk_scan, "while": walk_while, "cond": walk_cond}


def shape_of(atom: Any) -> tuple[int, ...]:
    """The shape of a variable of a jaxpr."""
    return tuple(atom.aval.shape)


def _steps_of(
    equation: core.JaxprEqn, place: Place, literals: Mapping[Any, Any], calls: tuple[Any, ...] = ()
) -> Iterator[Step]:
    numbers = literals_of(equation, literals)
    for variable in equation.outvars:
        sources, form = (*calls, equation.source_info), equation.params.get("dimension_numbers")
        yield Step(place, shape_of(variable), numbers, sources, form=form)


def steps_in(jaxpr: core.Jaxpr) -> Iterator[Step]:
    """All steps in the order in which `Walk` notes them."""
    yield from _steps_in(jaxpr, ("", 0), Places())


def _steps_in(
    jaxpr: core.Jaxpr, outer: Occasion, places: Places, literals: Mapping[Any, Any] = NO_LITERALS, part: str = ""
) -> Iterator[Step]:
    for equation in jaxpr.eqns:
        inner, where = inner_jaxpr(equation), occasion_of(equation, outer)
        if inner is not None:
            yield from _steps_in(inner.jaxpr, where, places, literals_inside(equation, inner, literals), part)
            if not part and (derivative := derivative_of(equation)) is not None:
                for name, closed in derivative._asdict().items():
                    yield from _steps_in(closed.jaxpr, where, places, part=name)
            continue
        place = places.next(where, equation.primitive.name, part)
        for body in bodies(equation):
            yield from _steps_in(body.jaxpr, where, places, part=part)
        yield from _steps_of(equation, place, literals)
