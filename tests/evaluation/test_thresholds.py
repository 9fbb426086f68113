"""Thresholds against scipy's gamma distribution, and where none can be fitted."""

import numpy as np
import pytest
from scipy import stats

from asdjax.evaluation.thresholds import EMPIRICAL, GAMMA, fit


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0])
def test_a_gamma_distribution_is_found_again(percentile: float):
    scores = stats.gamma.rvs(4.0, scale=0.1, size=20_000, random_state=0)
    threshold = fit(scores.tolist(), percentile)
    assert threshold.rule == GAMMA
    assert threshold.value == pytest.approx(stats.gamma.ppf(percentile / 100, 4.0, scale=0.1), rel=0.02)


def test_the_fit_is_the_maximum_of_the_likelihood():
    """Against a plain search over shapes, the scale being mean / shape there."""
    scores = np.random.default_rng(1).uniform(0.1, 0.9, 50)
    shapes = np.linspace(1, 10, 9001)
    likelihood = [stats.gamma.logpdf(scores, shape, scale=scores.mean() / shape).sum() for shape in shapes[::20]]
    best = shapes[::20][int(np.argmax(likelihood))]
    expected = stats.gamma.ppf(0.9, best, scale=scores.mean() / best)
    assert fit(scores.tolist(), 90.0).value == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
    "scores",
    [[0.3], [0.3, 0.3, 0.3], [0.0, 0.1, 0.2], [-0.1, 0.1, 0.4], [0.3, 0.3 * (1 + 1e-12)], [0.3, 0.3 * (1 + 1e-8)]],
    ids=["one", "constant", "a zero", "a negative", "equal but for rounding", "equal in float32"],
)
def test_where_no_gamma_distribution_fits_it_is_the_scores_own_percentile(scores: list[float]):
    threshold = fit(scores, 90.0)
    assert threshold.rule == EMPIRICAL
    assert threshold.value == pytest.approx(np.percentile(scores, 90))


def test_no_scores_are_an_error():
    with pytest.raises(ValueError, match="no training scores"):
        fit([], 90.0)
