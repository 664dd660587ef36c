"""Claims about what measurements of many vectors say together."""

import numpy as np
import pytest

from distreal_jax.search.pooling import pooled


def _measured(seed, *, vectors=240, draws=12, noise=0.3, offset=0.2):
    """A smooth function of two shares at random places, and measurements with noise and with an offset for each draw."""
    generator = np.random.default_rng(seed)
    places = -3 * generator.random((vectors, 2))
    truth = np.tanh(places[:, 0] + 1.5) + 0.5 * places[:, 1]
    drawn = np.repeat(np.arange(draws), vectors // draws)
    measured = truth + noise * generator.normal(size=vectors) + offset * generator.normal(size=draws)[drawn]
    return places, drawn, measured, truth


@pytest.mark.parametrize("seed", range(3))
def test_estimates_are_several_times_nearer_than_measurements_and_their_errors_are_known(seed):
    places, drawn, measured, truth = _measured(seed)
    found = pooled(places, drawn, measured, places)
    common = np.eye(len(truth)) - 1 / len(truth)  # a level that all share says nothing of which is better
    errors, expected = common @ (found.mean - truth), np.sqrt(np.trace(common @ found.covariance @ common) / len(truth))
    assert np.sqrt(np.mean(errors**2)) < 0.3 / 3
    assert 0.4 < np.sqrt(np.mean(errors**2)) / expected < 2


def test_a_draw_that_favours_all_its_vectors_does_not_make_them_better():
    places, drawn, measured, _ = _measured(0)
    before, of_draw = pooled(places, drawn, measured, places).mean, drawn == 3
    after = pooled(places, drawn, measured + 1.0 * of_draw, places).mean
    assert abs(np.mean((after - before)[of_draw]) - np.mean((after - before)[~of_draw])) < 0.1


def test_without_noise_measurements_are_believed():
    places, drawn, _, truth = _measured(0, vectors=60)
    assert pooled(places, drawn, truth, places).mean == pytest.approx(truth, abs=0.02)


def test_vectors_that_were_not_measured_are_estimated_from_those_near_them():
    places, drawn, measured, truth = _measured(0)
    found = pooled(places[:180], drawn[:180], measured[:180], places[180:])
    assert np.std(found.mean - truth[180:]) < 0.15 < np.std(measured[180:] - truth[180:])
    far = pooled(places[:180], drawn[:180], measured[:180], places[180:] - 20)
    assert np.diag(far.covariance).min() > 4 * np.diag(found.covariance).max()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_or_equal_measurements_are_no_trouble(count):
    places = np.zeros((count, 3)) - np.arange(count)[:, None]
    found = pooled(places, np.zeros(count, int), np.full(count, 0.25), places)
    assert found.mean == pytest.approx(np.full(count, 0.25)) and np.diag(found.covariance).max() < 1e-12


def test_the_same_measurements_say_bitwise_the_same():
    places, drawn, measured, _ = _measured(1)
    first, second = (pooled(places, drawn, measured, places) for _ in range(2))
    assert first.mean.tobytes() == second.mean.tobytes() and first.covariance.tobytes() == second.covariance.tobytes()
