"""How values grow with those that they are computed from: what a normalisation gives does not grow at all.

A bias or an epsilon is no part of that: what is added to a value and depends on no input leaves its degree as it is.
"""

from collections.abc import Mapping, Sequence

Degree = Mapping[object, float]  # by the source, the power that the value grows with; empty: it does not grow

# What grows as its operands do, if all of these grow alike.
_ALIKE = frozenset(
    "abs add add_any concatenate convert_element_type copy copy_p expand_dims max min name neg real reduce_max reduce_min "
    "reduce_precision reduce_sum reshape rev select_n slice split squeeze stop_gradient sub tile transpose "
    "broadcast_in_dim pad reduce_window_max reduce_window_sum optimization_barrier sharding_constraint".split()
)
_POWERS = {"square": 2.0, "sqrt": 0.5, "rsqrt": -0.5, "cbrt": 1 / 3}


def fresh() -> Degree:
    """The degree of a new source, such as the output of a layer."""
    return {object(): 1.0}


def degree_of(primitive: str, grown: Sequence[Degree | None], exponent: float | None) -> Degree:
    """How the output of an equation grows.

    Args:
      primitive: Of the equation.
      grown: The degree of each operand; None for one that depends on no input.
      exponent: Of a power, where it is a number.
    """
    if primitive == "select_n" and any(degree is not None for degree in grown[1:]):
        grown = grown[1:]
    known = [degree for degree in grown if degree is not None]
    if known and (primitive == "conv_general_dilated" or (primitive == "dot_general" and None in grown)):
        return fresh()
    if not any(known):
        return {}
    match primitive:
        case "mul" | "dot_general":
            return _product([(degree, 1.0) for degree in known])
        case "div":
            return _product([(degree or {}, power) for degree, power in zip(grown, (1.0, -1.0), strict=True)])
        case "pow" | "integer_pow" if exponent is not None and grown[0] is not None:
            return _product([(grown[0], exponent)])
    if primitive in _POWERS:
        return _product([(known[0], _POWERS[primitive])])
    if primitive in _ALIKE and all(degree == known[0] for degree in known):
        return known[0]
    return fresh()


def _product(factors: Sequence[tuple[Degree, float]]) -> Degree:
    powers: dict[object, float] = {}
    for degree, power in factors:
        for source, times in degree.items():
            powers[source] = powers.get(source, 0.0) + power * times
    return {source: power for source, power in powers.items() if abs(power) > 1e-6}
