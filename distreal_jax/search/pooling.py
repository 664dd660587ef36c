"""What noisy measurements of many vectors say together: Gaussian process regression (Rasmussen and Williams, 2006).

One short training says little: its noise is several times what two shapes of equal cost differ by, and the best of a
thousand such measurements are the luckiest. Vectors that keep nearly the same filters learn nearly as fast, so the
measurements of all say more of each than its own. A part of the noise belongs to the draw of random numbers that a
measurement shares with others, and is as smooth as what is to be found: drawing anew in each generation tells it apart.

A measurement of vector x with draw d is modelled as

    plane(x) + smooth(x) + offset(d) + smooth(x; d) + noise,

all Gaussian, with x the logarithms of the shares of filters kept.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]
Draws = npt.NDArray[np.intp]

_FITTED_ON = 256  # chosen by us: so many measurements tell a few parameters well enough, and more take long
# First guess and bounds of each parameter, chosen by us: amplitudes, relative to the standard deviation of the measurements,
# and the length over which what is smooth changes, in factors of e of every group's share.
_PLANE, _SMOOTH, _OFFSET, _DRAWN, _NOISE, _LENGTH = range(6)
_PARAMETERS = np.log([(0.5, 1e-2, 10), (1.0, 1e-2, 10), (0.2, 1e-3, 3), (0.2, 1e-3, 3), (0.3, 1e-2, 3), (1.0, 0.3, 3)])


@dataclasses.dataclass(frozen=True)
class Pooled:
    """What is known of vectors after measurements of these and of others.

    Attributes:
      mean: [vectors].
      covariance: [vectors, vectors], of what is not known of progress itself, without the noise of one more measurement.
    """

    mean: Floats
    covariance: Floats


def pooled(places: Floats, draws: Draws, measured: Floats, at: Floats) -> Pooled:
    """Estimates progress from all measurements.

    Args:
      places: Where vectors were measured: logarithms of shares, [measurements, searched].
      draws: Which random numbers each measurement used, [measurements].
      measured: Progress, [measurements].
      at: The vectors whose progress is wanted, [vectors, searched].
    """
    middle, scale = measured.mean(), max(float(measured.std()), 1e-12)
    values = (measured - middle) / scale
    with threadpool_limits(1):  # of matrices this small, several threads make a fit five times slower
        parameters = _fitted(places, draws, values)
        factor = linalg.cho_factor(np.sum(_parts(parameters, _pairs(places, places, draws)), axis=0), lower=True)
        between = np.sum(_parts(parameters, _pairs(at, places)), axis=0)
        left = np.sum(_parts(parameters, _pairs(at, at)), axis=0) - between @ linalg.cho_solve(factor, between.T)
        mean = between @ linalg.cho_solve(factor, values)
    return Pooled(middle + scale * mean, scale**2 * left)


def _fitted(places: Floats, draws: Draws, values: Floats) -> Floats:
    """The parameters of highest marginal likelihood, by measurements spread evenly over all."""
    some = np.unique(np.linspace(0, len(values) - 1, min(len(values), _FITTED_ON)).astype(int))
    pairs, values = _pairs(places[some], places[some], draws[some]), values[some]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        """Its negative logarithm, and the gradient (equations 5.8 and 5.9)."""
        parts = _parts(parameters, pairs)
        factor = linalg.cho_factor(np.sum(parts, axis=0), lower=True)
        explained = linalg.cho_solve(factor, values)
        weights = linalg.cho_solve(factor, np.eye(len(values))) - np.outer(explained, explained)
        # an amplitude's part is quadratic in it; the length is in those that are smooth
        gradient = [np.sum(weights * part) for part in parts]
        smooth = parts[_SMOOTH] + parts[_DRAWN]
        gradient.append(0.5 * np.sum(weights * smooth * pairs.squared) / np.exp(2 * parameters[_LENGTH]))
        return 0.5 * float(values @ explained) + float(np.log(np.diag(factor[0])).sum()), np.array(gradient)

    first, low, high = _PARAMETERS.T
    fitted = optimize.minimize(loss, first, method="L-BFGS-B", jac=True, bounds=list(zip(low, high, strict=True)))
    return np.asarray(fitted.x)


class _Pairs(NamedTuple):
    """What covariances are made of whatever the parameters: of each of the first with each of the second."""

    products: Floats  # mean over groups of the products of their places
    squared: Floats  # and of their squared distances
    same: Floats | None  # 1 where they share a draw; None where they are vectors, not measurements


def _pairs(first: Floats, second: Floats, draws: Draws | None = None) -> _Pairs:
    products = first @ second.T
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None, :] - 2 * products
    same = None if draws is None else (draws[:, None] == draws[None, :]).astype(float)
    return _Pairs(products / first.shape[1], np.maximum(squared, 0) / first.shape[1], same)


def _parts(parameters: Floats, pairs: _Pairs) -> list[Floats]:
    """Prior covariances of what a measurement is the sum of, each [first, second]; given draws, of what is theirs too."""
    *amplitudes, length = np.exp(parameters)
    near = np.exp(-0.5 * pairs.squared / length**2)
    parts = [1 + pairs.products, near]
    if pairs.same is not None:
        parts += [pairs.same, pairs.same * near, np.eye(len(near))]
    return [amplitude**2 * part for amplitude, part in zip(amplitudes, parts, strict=False)]
