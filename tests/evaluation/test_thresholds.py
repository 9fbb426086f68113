"""Thresholds against scipy's gamma distribution, and where none can be fitted."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from asdjax.corpus.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation.thresholds import EMPIRICAL, GAMMA, fit, fit_all, threshold_of


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


def test_the_share_of_training_clips_above_a_threshold_is_told():
    scores = stats.gamma.rvs(4.0, scale=0.1, size=500, random_state=2)
    threshold = fit(scores.tolist(), 90.0)
    assert threshold.clips == 500
    assert threshold.false_alarms == np.mean(scores > threshold.value)
    assert 0.05 < threshold.false_alarms < 0.15


def training() -> dict[Clip, float]:
    rng = np.random.default_rng(3)
    return {
        Clip(Path(f"{s}_{d}_{i}.wav"), "fan", s, "train", d, "normal"): float(rng.gamma(4) * (1 + (d == "target")))
        for s in ("00", "01")
        for d in ("source", "target")
        for i in range(20)
    }


@pytest.mark.parametrize(("per", "fields"), [("machine", 0), ("section", 1), ("section_domain", 2)])
def test_each_group_has_a_threshold_of_its_own(per: str, fields: int):
    scores = training()
    limits = fit_all(scores, per, 90.0)
    assert len(limits) == 2**fields
    for clip in scores:
        alike = [
            score
            for other, score in scores.items()
            if (fields < 1 or other.section == clip.section) and (fields < 2 or other.domain == clip.domain)
        ]
        assert threshold_of(clip, limits, per) == fit(alike, 90.0)


def test_a_group_without_training_scores_is_named():
    stranger = Clip(Path("new.wav"), "fan", "07", "test", "target", None)
    with pytest.raises(InputError, match=r"fan 07: no training clip has a score.*threshold_per=machine"):
        threshold_of(stranger, fit_all(training(), "section", 90.0), "section")
