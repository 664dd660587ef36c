"""Does one measure order things as another does: over all of them, at equal cost, and how sure that is.

Functions take arrays whose last axis is that of the things, and keep the axes before it: repeats, or resamples.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from distreal_jax.errors import InputError
from distreal_jax.record.statistics import Interval

Floats = npt.NDArray[np.float64]

_RESAMPLES = 2000  # chosen by us: ends move by less than a hundredth from one seed to another
_ROUNDING = 1e-6  # chosen by us: a swap of two neighbours among a hundred leaves more unexplained
_BOOTSTRAP = 0x72616E6B  # role of the random stream: "rank"


def rank_correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Spearman's rank correlation, ties at their mean rank; NaN where a measure is the same for all things.

    Args:
      a: [..., things].
      b: [..., things].

    Returns:
      [...] float64.
    """
    first, second = _centred_ranks(a), _centred_ranks(b)
    spread = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    correlation: Floats = np.divide(
        (first * second).sum(axis=-1), spread, out=np.full(spread.shape, np.nan), where=spread > 0
    )
    return correlation


def partial_rank_correlation(a: npt.ArrayLike, b: npt.ArrayLike, given: npt.ArrayLike) -> Floats:
    """Rank correlation of what a third measure does not explain of either, such as cost: of `a` and `b` at equal `given`.

    Args:
      a: [..., things].
      b: [..., things].
      given: [..., things].

    Returns:
      [...] float64; NaN where `given` orders things just as `a` or `b` does, which leaves nothing to correlate.
    """
    ab, ag, bg = rank_correlation(a, b), rank_correlation(a, given), rank_correlation(b, given)
    unexplained = np.sqrt(np.maximum((1 - ag**2) * (1 - bg**2), 0))
    undefined = np.full(unexplained.shape, np.nan)
    partial: Floats = np.divide(ab - ag * bg, unexplained, out=undefined, where=unexplained > _ROUNDING)
    return partial


def agreement_within(a: npt.ArrayLike, b: npt.ArrayLike, level: npt.ArrayLike) -> Floats:
    """Of the pairs of things of one level that `b` tells apart, the share that `a` orders alike; a half is chance.

    Args:
      a: [..., things]; a pair that it does not tell apart counts half.
      b: [..., things].
      level: [..., things].

    Returns:
      [...] float64; NaN where there is no such pair.
    """
    signs = [np.sign(np.expand_dims(v, -1) - np.expand_dims(v, -2)) for v in map(np.asarray, (a, b, level))]
    counted = (signs[2] == 0) & (signs[1] != 0)
    pairs = counted.sum(axis=(-2, -1))
    alike = (counted * (1 + signs[0] * signs[1]) / 2).sum(axis=(-2, -1))
    share: Floats = np.divide(alike, pairs, out=np.full(alike.shape, np.nan), where=pairs > 0)
    return share


def mean_over_pairs(correlation: Callable[..., Floats]) -> Callable[..., Floats]:
    """The mean correlation of two rows of a measure [rows, ..., things], such as repeats: how repeatable its order is."""

    def mean(rows: Floats, *others: Floats) -> Floats:
        pairs = itertools.combinations(rows, 2)
        value: Floats = np.mean([correlation(first, second, *others) for first, second in pairs], axis=0)
        return value

    return mean


def interval_over_things(
    statistic: Callable[..., Floats], *measures: npt.ArrayLike, seed: int = 0, level: float = 0.95
) -> Interval:
    """A statistic of things, with the interval of a bootstrap that draws things with replacement (plain percentiles).

    In our simulations of 12 and 25 normal things, intervals of nominally 95 % held a rank correlation in 95 to 100 % of
    cases and a partial one in 91 to 98 %; resamples hold things twice, which pulls both towards zero.

    Args:
      statistic: Of the measures, over their last axis; axes before it are those of resamples, and are kept.
      *measures: [..., things] each, in the same order.
      seed: Of the resampling.
      level: Nominal coverage.

    Returns:
      The statistic of the things themselves, as `mean`, and the interval's ends; NaN where they have no such statistic or
      are fewer than three, and no ends where most resamples have none (those are left out).

    Raises:
      InputError: Measures of different numbers of things.
    """
    columns = [np.asarray(measure, dtype=np.float64) for measure in measures]
    counts = {column.shape[-1] for column in columns}
    if len(counts) != 1:
        raise InputError(f"a correlation needs the same things in each measure; got {sorted(counts)} of them")
    things = min(counts)
    value = float(statistic(*columns)) if things > 2 else math.nan
    if math.isnan(value):
        return Interval(value, None, None)
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, _BOOTSTRAP])))
    draws = generator.integers(things, size=(_RESAMPLES, things))
    values = statistic(*(column[..., draws] for column in columns))
    known = values[np.isfinite(values)]
    if known.size < _RESAMPLES / 2:
        return Interval(value, None, None)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def order_kept(
    correlation: Callable[..., Floats], before: npt.ArrayLike, now: npt.ArrayLike | None, *others: npt.ArrayLike
) -> Interval:
    """Whether things keep their order, by the correlation of their means over rows, such as seeds.

    Args:
      correlation: Of two measures [..., things], and of the others.
      before: [rows, things].
      now: [rows, things]; None: nothing changed, so what is reported is how two rows of `before` agree in the mean.
      *others: More measures that the correlation takes, [things].
    """
    rows = np.asarray(before, dtype=np.float64)
    if now is not None:
        return interval_over_things(correlation, rows.mean(axis=0), np.asarray(now, np.float64).mean(axis=0), *others)
    if len(rows) < 2:
        return Interval(math.nan, None, None)
    return interval_over_things(mean_over_pairs(correlation), rows, *others)


def _centred_ranks(values: npt.ArrayLike) -> Floats:
    ranks: Floats = stats.rankdata(values, axis=-1)
    return ranks - (ranks.shape[-1] + 1) / 2
