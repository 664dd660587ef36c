"""Which points of a method's knobs are tried: first a spread over step and batch size, then what lies next to the best.

A small search on purpose: every method gets the same number of trials, and a person can say of each why it was made. The
neighbours of the best come one at a time, those first that extend a grid beyond its edge.
"""

from collections.abc import Sequence

import numpy as np

from distreal_jax.tuning.knobs import Knob, Point, usual_point

_SPREAD = ("learning_rate", "batch_size")  # what decides most: covered evenly
_USUAL = 0.5  # chance that another knob stays at its usual value in the first points, chosen by us


def first_points(knobs: Sequence[Knob], count: int, generator: np.random.Generator) -> list[Point]:
    """The untuned method, and points that use each learning rate, and each batch size, about equally often.

    Args:
      knobs: What is tuned.
      count: Points, the untuned one included.
      generator: Of the random choices.
    """
    points = [usual_point(knobs)]
    spread = [knob for knob in knobs if knob.name in _SPREAD]
    orders = [generator.permutation(len(knob.start)) for knob in spread]
    index = 0
    while len(points) < count and index < 50 * count:
        point: Point = {}
        for position, (knob, order) in enumerate(zip(spread, orders, strict=True)):
            # Each next value of the first knob, and as the first starts again, the second moves by one more: a Latin square.
            turn = index + (index // len(orders[0]) if position else 0)
            point[knob.name] = knob.start[order[turn % len(order)]]
        for knob in knobs:
            if knob.name not in point:
                usual = generator.random() < _USUAL
                point[knob.name] = knob.usual if usual else knob.start[generator.integers(len(knob.start))]
        index += 1
        if point not in points:
            points.append(point)
    return points


def next_point(knobs: Sequence[Knob], best: Point, tried: Sequence[Point], generator: np.random.Generator) -> Point | None:
    """A point that was not tried and differs from the best in one knob; None where all of them were tried.

    Args:
      knobs: The method's.
      best: The best point so far.
      tried: All points so far.
      generator: Orders what is as good to try.
    """
    edges = at_edges(knobs, best, tried)
    candidates: list[tuple[int, float, Point]] = []
    for knob in knobs:
        seen = {point[knob.name] for point in tried}
        for value in knob.beside(best[knob.name]):
            beyond = knob.name in edges and value not in seen
            rank = 0 if beyond else 1 if knob.name in _SPREAD else 2
            candidates.append((rank, generator.random(), {**best, knob.name: value}))
    fresh = [candidate for candidate in candidates if candidate[2] not in tried]
    return min(fresh, key=lambda candidate: candidate[:2])[2] if fresh else None


def at_edges(knobs: Sequence[Knob], best: Point, tried: Sequence[Point]) -> list[str]:
    """The knobs whose best value is the largest or the smallest that was tried, although larger or smaller ones exist.

    Args:
      knobs: What is tuned.
      best: The best point.
      tried: All points that were tried.
    """
    edges = []
    for knob in knobs:
        seen = {point[knob.name] for point in tried}
        place = knob.ladder.index(best[knob.name]) if knob.ladder else 0
        beyond = (knob.ladder[:place], knob.ladder[place + 1 :])
        if any(values and not seen & {*values} for values in beyond):
            edges.append(knob.name)
    return edges
