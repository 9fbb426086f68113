"""Thresholds compared with scipy's gamma distribution, and thresholds where no gamma distribution fits."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.inference.thresholds import (
    EMPIRICAL,
    GAMMA,
    PREDICTED,
    ThresholdRule,
    find_threshold,
    fit,
    fit_all,
    fit_few,
)


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0])
def test_a_gamma_distribution_is_found_again(percentile: float):
    scores = stats.gamma.rvs(4.0, scale=0.1, size=20_000, random_state=0)
    threshold = fit(scores.tolist(), percentile)
    assert threshold.rule == GAMMA
    assert threshold.value == pytest.approx(stats.gamma.ppf(percentile / 100, 4.0, scale=0.1), rel=0.02)


def test_the_fit_is_the_maximum_of_the_likelihood():
    """Compare with a search over shapes, with the scale mean / shape."""
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
def test_where_no_gamma_distribution_fits_it_is_the_highest_of_few_scores(scores: list[float]):
    threshold = fit(scores, 90.0)
    assert threshold.rule == EMPIRICAL
    assert threshold.value == max(scores)


@pytest.mark.parametrize("number", [9, 20, 53])
def test_a_further_score_exceeds_it_as_often_as_promised_whatever_the_distribution(number: int):
    rng = np.random.default_rng(number)
    above = [rng.standard_cauchy() > fit(rng.standard_cauchy(number).tolist(), 90.0).value for _ in range(3000)]
    assert 0.1 - 1 / number - 0.02 < np.mean(above) < 0.1 + 0.015


def test_no_scores_are_an_error():
    with pytest.raises(ValueError, match="expected training scores"):
        fit([], 90.0)


def test_the_share_of_training_clips_above_a_threshold_is_told():
    scores = stats.gamma.rvs(4.0, scale=0.1, size=500, random_state=2)
    threshold = fit(scores.tolist(), 90.0)
    assert threshold.clips == 500
    assert threshold.false_alarms == np.mean(scores > threshold.value)
    assert 0.05 < threshold.false_alarms < 0.15


def make_rule(per: str, few: str = "predicted") -> ThresholdRule:
    return ThresholdRule(per=per, percentile=90.0, few_clips=20, few=few)


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
    limits = fit_all(scores, make_rule(per))
    assert len(limits) == (2**fields if fields < 2 else 4 + 2)  # each section also has one for clips of unknown domain
    for clip in scores:
        alike = [
            score
            for other, score in scores.items()
            if (fields < 1 or other.section == clip.section) and (fields < 2 or other.domain == clip.domain)
        ]
        assert find_threshold(clip, limits, per) == fit(alike, 90.0)


def test_a_group_without_training_scores_is_named():
    stranger = Clip(Path("new.wav"), "fan", "07", "test", "target", None)
    with pytest.raises(InputError, match=r"fan 07: expected training clips with a score.*threshold_per=machine"):
        find_threshold(stranger, fit_all(training(), make_rule("section")), "section")


def few_target(clips: int, others: int = 60, seed: int = 5) -> dict[Clip, float]:
    """Draw scores of a section; its target domain has few training clips and scores three times as high."""
    rng = np.random.default_rng(seed)
    return {
        Clip(Path(f"{d}_{i}.wav"), "fan", "00", "train", d, "normal"): float(rng.gamma(6) * (1 + 2 * (d == "target")))
        for d, number in (("source", others), ("target", clips))
        for i in range(number)
    }


def scores_of(training: dict[Clip, float], domain: str) -> list[float]:
    return [score for clip, score in training.items() if clip.domain == domain]


TARGET = ("fan", "00", "target")
BY_DOMAIN = make_rule("section_domain")


def test_a_domain_of_few_clips_borrows_the_spread_of_the_other():
    training = few_target(3)
    limit = fit_all(training, BY_DOMAIN)[TARGET]
    assert limit == fit_few(scores_of(training, "target"), scores_of(training, "source"), 90.0)
    assert (limit.rule, limit.clips) == (PREDICTED, 3)


@pytest.mark.parametrize(("clips", "few"), [(19, True), (20, False)])
def test_fewer_than_twenty_clips_are_few(clips: int, few: bool):
    training = few_target(clips)
    limits = fit_all(training, BY_DOMAIN)
    assert (limits[TARGET].rule == PREDICTED) == few
    assert limits["fan", "00", "source"] == fit(scores_of(training, "source"), 90.0)
    assert (limits[TARGET] == fit(scores_of(training, "target"), 90.0)) == (not few)


def test_the_section_s_threshold_is_that_of_few_clips_on_request_and_where_both_domains_have_few():
    for training, rule in (
        (few_target(3), make_rule("section_domain", "section")),
        (few_target(3, 8), BY_DOMAIN),
    ):
        limits = fit_all(training, rule)
        assert limits[TARGET] == limits["fan", "00", None] == fit(list(training.values()), 90.0)


@pytest.mark.parametrize("domain", ["target", None])
def test_clips_of_a_domain_without_a_threshold_are_decided_by_the_section_s(domain: str | None):
    training = few_target(0)
    clip = Clip(Path("new.wav"), "fan", "00", "test", domain, None)
    assert find_threshold(clip, fit_all(training, BY_DOMAIN), "section_domain") == fit(list(training.values()), 90.0)


@pytest.mark.parametrize("number", [1, 3, 10])
def test_few_clips_keep_the_promised_share_of_false_alarms_over_many_draws(number: int):
    """Simulate many domains: 10 % of new scores must exceed a threshold fitted to a few others."""
    rng = np.random.default_rng(number)
    others = rng.normal(4.0, 2.0, size=1000).tolist()
    above = [
        rng.normal(20.0, 2.0) > fit_few(rng.normal(20.0, 2.0, size=number).tolist(), others, 90.0).value
        for _ in range(2000)
    ]
    assert np.mean(above) == pytest.approx(0.08, abs=0.03)  # a little less, as the spread of `others` is in fact known


def test_it_is_the_prediction_by_the_posterior():
    """Draw variances and means from their posterior, and the next score from each: compare the 90th percentile."""
    few, others = np.array([11.0, 12.5, 11.9]), np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    limit = fit_few(few.tolist(), others.tolist(), 90.0)
    assert (limit.rule, limit.clips) == (PREDICTED, 3)
    rng = np.random.default_rng(0)
    squares = 3 * others.var(ddof=1) + np.square(few - few.mean()).sum()
    variance = squares / rng.chisquare(3 + 2, 400_000)
    following = rng.normal(rng.normal(few.mean(), np.sqrt(variance / 3)), np.sqrt(variance))
    assert limit.value == pytest.approx(np.percentile(following, 90), rel=5e-3)
