"""Loops and branches: their bodies are walked over with the labels of what they carry.

What a loop runs over (time, layers whose parameters are stacked) is never dropped. What it carries has the same labels
after each round, so a filter of a recurrent layer is one in all of its gates; layers that are stacked share their groups.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend import core

from distreal_jax.tracing.inner import scanned
from distreal_jax.tracing.labels import ANY, AxisLabels, Ties, pinned
from distreal_jax.tracing.site import Value, through_all

Run = Callable[[core.Jaxpr, Sequence[Value]], list[Value]]  # a walk over a body


def walk_scan(params: dict[str, Any], operands: Sequence[Value], run: Run, ties: Ties) -> list[Value]:
    """The results of `scan`.

    Args:
      params: Of the equation.
      operands: Labels of its operands.
      run: Walks over a jaxpr.
      ties: Joins labels.
    """
    body = params["jaxpr"].jaxpr
    fixed, carried = scanned(params)
    constants, carry, sequences = operands[:fixed], operands[fixed : fixed + carried], operands[fixed + carried :]
    weight = all(operand.weight for operand in operands)
    through = through_all(operands)
    carry = _carried(carry, weight, through, ties)
    for value in sequences:
        ties.pin(value.labels[0])  # what it runs over
    slices = [Value(value.labels[1:], value.weight, value.trained_by) for value in sequences]
    results = run(body, [*constants, *carry, *slices])
    for before, after in zip(carry, results[:carried], strict=True):
        tie_values(before, after, ties)
    stacked = [Value((pinned(params["length"]), *value.labels), weight, through) for value in results[carried:]]
    return [*carry, *stacked]


def walk_while(params: dict[str, Any], operands: Sequence[Value], run: Run, ties: Ties) -> list[Value]:
    """The results of `while`.

    Args:
      params: Of the equation.
      operands: Labels of its operands.
      run: Walks over a jaxpr.
      ties: Joins labels.
    """
    of_test, fixed = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    carry = _carried(operands[fixed:], all(operand.weight for operand in operands), through_all(operands), ties)
    run(params["cond_jaxpr"].jaxpr, [*operands[:of_test], *carry])
    results = run(params["body_jaxpr"].jaxpr, [*operands[of_test:fixed], *carry])
    for before, after in zip(carry, results, strict=True):
        tie_values(before, after, ties)
    return carry


def walk_cond(params: dict[str, Any], operands: Sequence[Value], run: Run, ties: Ties) -> list[Value]:
    """The results of `cond`, which are those of any branch.

    Args:
      params: Of the equation.
      operands: Labels of its operands.
      run: Walks over a jaxpr.
      ties: Joins labels.
    """
    results = [run(branch.jaxpr, operands[1:]) for branch in params["branches"]]
    first = results[0]
    for others in results[1:]:
        for one, other in zip(first, others, strict=True):
            tie_values(one, other, ties)
    return [
        Value(
            tuple(ties.tie_axes(axes) for axes in zip(*(value.labels for value in values), strict=True)),
            weight=False,
            trained_by=through_all(values),
        )
        for values in zip(*results, strict=True)
    ]


def _carried(values: Sequence[Value], weight: bool, trained_by: int, ties: Ties) -> list[Value]:
    """Zeros at the start fit anything; from the second round on they have the labels of what is carried."""
    return [Value(tuple(_labelled(labels, ties) for labels in value.labels), weight, trained_by) for value in values]


def _labelled(labels: AxisLabels, ties: Ties) -> AxisLabels:
    return ties.new(len(labels), tentative=True) if (labels == ANY).all() else labels


def tie_values(one: Value, other: Value, ties: Ties) -> None:
    """Ties the labels of two values of one shape."""
    for axes in zip(one.labels, other.labels, strict=True):
        ties.tie_axes(axes)
