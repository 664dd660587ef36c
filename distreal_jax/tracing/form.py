"""The form of a jaxpr: which operations follow from which, whatever the lengths of axes and the types of numbers.

A trace names equations by their places. A call with other shapes, of a smaller network or of other examples, has the same
equations there if its jaxpr has the same form. It need not: a product of three arrays begins with the two that are cheapest,
and an axis of length 1 may be left out.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from distreal_jax.tracing.derivatives import derivative_of, variables_of
from distreal_jax.tracing.inner import Occasion, Place, Places, bodies, inner_jaxpr, occasion_of, scanned
from distreal_jax.tracing.sub_networks import Path

Key = Place | tuple[Place, int] | None
"""An equation with all that it follows from; with one of its operands alone; or what the network returns."""
Form = dict[Key, int]

_PASSED_ON = frozenset("convert_element_type copy copy_p".split())
_TELLING = frozenset("axes axis broadcast_dimensions dimension dimension_numbers dimensions permutation reverse y".split())


def form_of(closed: core.ClosedJaxpr, variables: Sequence[Path]) -> Form:
    """The form of a call of a network, in numbers that hold as long as this process lives.

    Args:
      closed: The jaxpr of the call, of variables and then of inputs.
      variables: The paths of the variables, in whatever order they come.
    """
    names: list[Hashable] = [*variables, *range(len(closed.jaxpr.invars) - len(variables))]
    walk = _Walk()
    returned = walk.run(closed.jaxpr, [hash(("argument", name)) for name in names], ("", 0))
    return {**walk.form, None: hash(tuple(returned))}


class _Walk:
    """Over a jaxpr, in the order in which `Places` are numbered."""

    def __init__(self) -> None:
        self.form: Form = {}
        self._places = Places()

    def run(self, jaxpr: core.Jaxpr, arguments: Sequence[int], outer: Occasion, part: str = "") -> list[int]:
        """The forms of the results, of those of the arguments."""
        known: dict[Any, int] = dict.fromkeys(jaxpr.constvars, hash("constant"))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def form(atom: Any) -> int:
            if isinstance(atom, core.Literal):
                return hash(("literal", np.ndim(atom.val)))
            return _KEY if jnp.issubdtype(atom.aval.dtype, jax.dtypes.extended) else known[atom]

        for equation in jaxpr.eqns:
            operands, where = [form(atom) for atom in equation.invars], occasion_of(equation, outer)
            called = inner_jaxpr(equation)
            if called is None:
                results = self._results(equation, operands, where, part)
            else:
                results = self.run(called.jaxpr, operands, where, part)
                if not part and (derivative := derivative_of(equation)) is not None:
                    forward, backward = derivative.forward.jaxpr, derivative.backward.jaxpr
                    saved = self.run(forward, [operands[index] for index in variables_of(equation)], where, "forward")
                    saved = saved[len(results) :]
                    cotangents = [hash(("cotangent", index)) for index in range(len(backward.invars) - len(saved))]
                    gradients = self.run(backward, [*saved, *cotangents], where, "backward")
                    results = [hash((result, *gradients)) for result in results]
            known.update(zip(equation.outvars, results, strict=True))
        return [form(atom) for atom in jaxpr.outvars]

    def _results(self, equation: core.JaxprEqn, operands: Sequence[int], where: Occasion, part: str) -> list[int]:
        name = equation.primitive.name
        place = self._places.next(where, name, part)
        inside = [
            self.run(body.jaxpr, [hash(("argument", index)) for index in range(len(body.jaxpr.invars))], where, part)
            for body in bodies(equation)
        ]
        told = [(key, str(value)) for key, value in sorted(equation.params.items()) if key in _TELLING]
        if name == "scan":
            told.append(("scanned", str(scanned(equation.params))))
        ranks = [len(variable.aval.shape) for variable in equation.outvars]  # type: ignore[attr-defined]
        itself = hash((name, *told, *ranks, *map(tuple, inside)))
        self.form.update({(place, index): hash((itself, operand)) for index, operand in enumerate(operands)})
        form = self.form[place] = hash((itself, *operands))
        return [operands[0]] if name in _PASSED_ON else [hash((form, index)) for index in range(len(ranks))]


_KEY = hash("key")  # what random numbers come from does not matter
