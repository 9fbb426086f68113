"""Intervals of official scores: areas as scikit-learn's with sample weights, and coverage of the true score."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from asdjax.evaluation import bootstrap
from asdjax.evaluation.metrics import compute_metrics
from asdjax.inference.scored_clip import ScoredClip


def drawn(seed: int, number: int = 30, sections: tuple[str, ...] = ("00", "01")) -> list[ScoredClip]:
    """Draw `number` clips per section, domain and label; anomalies score one standard deviation higher."""
    rng = np.random.default_rng(seed)
    return [
        ScoredClip(f"{domain}_{label}_{i}.wav", "fan", section, domain, label, rng.normal(label == "anomaly"), None)
        for section in sections
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for i in range(number)
    ]


@pytest.mark.parametrize("max_fpr", [None, 0.1, 0.37])
@pytest.mark.parametrize("distinct", [3, 20, 10_000])
def test_areas_are_those_of_weighted_clips(max_fpr: float | None, distinct: int):
    rng = np.random.default_rng(distinct)
    scores = rng.integers(0, distinct, 60) / 7
    anomalous = rng.random(60) < 0.4
    counts = rng.multinomial(60, np.full(60, 1 / 60), 25)
    expected = [roc_auc_score(anomalous, scores, sample_weight=weights, max_fpr=max_fpr) for weights in counts]
    np.testing.assert_allclose(bootstrap.roc_areas(scores, anomalous, counts, max_fpr), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("year", [2020, 2021, 2022, 2025])
def test_drawn_as_they_are_the_clips_give_the_official_score(year: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bootstrap, "_draw_counts", lambda clips: [np.ones((2, len(clips)), int)])
    clips = [*drawn(0, 9), *(replace(clip, machine="pump", label="normal") for clip in drawn(1, 4))]
    low, high = bootstrap.compute_interval(year, [clips]) or (None, None)
    assert low == high == pytest.approx(compute_metrics(year, clips).official, abs=1e-12)


def test_a_resample_keeps_the_number_of_clips_of_each_kind():
    strata = defaultdict(list)
    for clip, times_drawn in zip(drawn(0, 7), np.concatenate(list(bootstrap._draw_counts(drawn(0, 7)))).T, strict=True):
        strata[clip.section, clip.domain, clip.label].append(times_drawn)
    assert len(strata) == 8
    for times_drawn in strata.values():
        assert (np.sum(times_drawn, axis=0) == 7).all()
        assert np.std(times_drawn) > 0.5


def test_the_interval_holds_the_truth_as_often_as_it_says():
    truth = compute_metrics(2021, drawn(10**6, 10_000, ("00",))).official
    covered = [
        low <= truth <= high
        for low, high in (bootstrap.compute_interval(2021, [drawn(i, 60, ("00",))]) or () for i in range(100))
    ]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_it_is_a_function_of_the_clips_in_any_order():
    clips = drawn(0)
    assert bootstrap.compute_interval(2022, [clips]) == bootstrap.compute_interval(2022, [clips[::-1]])
    assert bootstrap.compute_interval(2022, [clips]) != bootstrap.compute_interval(2022, [drawn(1)])


def test_blocks_of_any_size_draw_the_same(monkeypatch: pytest.MonkeyPatch):
    whole = bootstrap.compute_interval(2021, [drawn(0, 9)])
    monkeypatch.setattr(bootstrap, "COUNTS_AT_ONCE", 1000)
    assert max(map(len, bootstrap._draw_counts(drawn(0, 9)))) == 1000 // len(drawn(0, 9))
    assert bootstrap.compute_interval(2021, [drawn(0, 9)]) == whole


def test_more_clips_or_more_seeds_narrow_it():
    def width(*per_seed: list[ScoredClip]) -> float:
        low, high = bootstrap.compute_interval(2021, per_seed) or (0.0, 0.0)
        return high - low

    assert width(drawn(0, 120)) < 0.7 * width(drawn(0, 30))
    noise = np.random.default_rng(0)
    seeds = [[replace(clip, score=clip.score + noise.normal()) for clip in drawn(0)] for _ in range(8)]
    assert width(*seeds) < width(seeds[0])


def test_undefined_scores_have_none():
    unlabelled = [replace(clip, label=None) for clip in drawn(0)]
    assert bootstrap.compute_interval(2021, [unlabelled]) is None
    assert bootstrap.compute_interval(2021, [drawn(0), unlabelled]) is None
