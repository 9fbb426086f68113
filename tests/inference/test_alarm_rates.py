"""Thresholds for a number of false alarms a day, refused where the training clips are too few."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import asdjax
from asdjax.cli.main import main
from asdjax.data.clips import Clip, Domain
from asdjax.errors import InputError
from asdjax.inference import alarm_rates
from asdjax.inference.alarm_rates import AlarmRate
from asdjax.inference.loaded_evaluation import open_evaluation
from asdjax.inference.loaded_system import open_system
from asdjax.inference.thresholds import Threshold, ThresholdRule

RULE = ThresholdRule(per="section", percentile=90.0, few_clips=20, few="predicted")
CLIP = Clip(Path("new.wav"), "fan", "00", "test", None, None)


def make_scores(values: np.ndarray, section: str = "00") -> dict[Clip, float]:
    return {
        Clip(Path(f"{section}_{i}.wav"), "fan", section, "train", "source", "normal"): float(value)
        for i, value in enumerate(values)
    }


@pytest.mark.parametrize(("alarms", "clips"), [(432, 8640), (864, 8640), (1728, 8640), (5, 100)])
def test_the_threshold_is_the_quantile_of_the_training_scores(alarms: float, clips: float):
    scores = np.random.default_rng(0).normal(size=199)  # negative scores have no gamma distribution
    training = make_scores(scores) | make_scores(scores + 100, "01")
    rate = AlarmRate(alarms, None if clips == 8640 else clips)
    limit = alarm_rates.fit_rate(training, CLIP, rate, 10.0, RULE)
    assert limit.value == np.sort(scores)[int(np.ceil((1 - alarms / clips) * 200)) - 1]
    assert np.mean(scores > limit.value) <= alarms / clips


def test_further_clips_exceed_the_threshold_as_often_as_asked():
    """Positive scores have a gamma distribution, whose percentile is compared with 100,000 further scores."""
    rng = np.random.default_rng(0)
    further = rng.gamma(4.0, 2.0, size=100_000)
    for alarms in (5, 10, 20):
        limits = [
            alarm_rates.fit_rate(make_scores(rng.gamma(4.0, 2.0, size=199)), CLIP, AlarmRate(alarms, 100), 10.0, RULE)
            for _ in range(20)
        ]
        assert {limit.rule for limit in limits} == {"gamma"}
        assert np.mean([np.mean(further > limit.value) for limit in limits]) == pytest.approx(alarms / 100, rel=0.15)


@pytest.mark.parametrize("domain", [None, "source", "target"])
@pytest.mark.parametrize("per", ["machine", "section", "section_domain"])
def test_alarms_rarer_than_the_training_clips_allow_are_refused(per: str, domain: Domain | None):
    """The clips that count are those that share the threshold: 70, 40, or 30 and 10 of the domains."""
    rng = np.random.default_rng(0)
    rule = ThresholdRule(per=per, percentile=90.0, few_clips=20, few="predicted")
    training = make_scores(rng.normal(size=30)) | make_scores(rng.normal(size=30), "01")
    training |= {
        replace(clip, domain="target"): score for clip, score in make_scores(rng.normal(size=10), "00").items()
    }
    clip = replace(CLIP, domain=domain)
    known = {"machine": 70, "section": 40, "section_domain": {None: 40, "source": 30, "target": 10}[domain]}[per]
    alarm_rates.fit_rate(training, clip, AlarmRate(1, known + 1), 10.0, rule)
    clips = known + 1.1
    with pytest.raises(InputError, match=f"has {known} training clips, got 1 of .*need {known + 1} training") as raised:
        alarm_rates.fit_rate(training, clip, AlarmRate(1, clips), 10.0, rule)
    least = float(re.search(r"expected ([\d.]+) or more", str(raised.value))[1])  # pyright: ignore[reportOptionalSubscript]
    alarm_rates.fit_rate(training, clip, AlarmRate(least, clips), 10.0, rule)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (AlarmRate(0), "above 0 and below 8640, the clips a day, got 0"),
        (AlarmRate(8640), "got 8640"),
        (AlarmRate(float("nan")), "got nan"),
        (AlarmRate(1, 0), "clips a day: expected a number above 0, got 0"),
        (AlarmRate(1, float("inf")), "got inf"),
    ],
)
def test_a_rate_without_meaning_is_refused(rate: AlarmRate, message: str):
    with pytest.raises(InputError, match=message):
        rate.count_clips(10.0)


def test_the_rarest_rate_and_other_types_are_refused_in_a_line():
    training = make_scores(np.random.default_rng(0).normal(size=30))
    with pytest.raises(InputError, match="need inf training clips"):
        alarm_rates.fit_rate(training, CLIP, AlarmRate(5e-324), 10.0, RULE)
    for arguments in (("2", 24), (2, "24"), ("x", None)):
        with pytest.raises(InputError, match="expected a number, got '"):
            alarm_rates.make_rate(*arguments)  # pyright: ignore[reportArgumentType]


def test_the_cost_is_the_share_of_faults_found():
    low, high = (Threshold(value, "empirical", 99, 0.1) for value in (1.0, 2.0))
    assert alarm_rates.describe(high, low, [0.5, 1.5, 2.5, 3.5]).endswith(
        "threshold 2 instead of 1: finds 50 % of the faults mixed into normal clips, instead of 75 %"
    )
    assert "--sensitivity" in alarm_rates.describe(high, low, [])


def test_score_decides_by_the_rate(trained_once: Path, corpus: Path, capsys: pytest.CaptureFixture):
    """On 2 s clips a day has 43200; the tiny corpus has 12 training clips, which share a threshold."""
    clips = sorted(map(str, corpus.glob("fan/source_test/section_00*.wav")))
    words = ["score", "--workdir", str(trained_once), "--machine", "fan", "--section", "00", "--json", *clips]
    assert main([*words, "--false-alarms-per-day", "21600"]) == 0
    captured = capsys.readouterr()
    shown = [json.loads(line) for line in captured.out.splitlines()]
    (limit,) = {one["threshold"] for one in shown}
    assert all((one["decision"] == "anomaly") == (one["score"] > limit) for one in shown)
    assert re.search(rf"threshold {limit:.6g} instead of", captured.err)
    detector = asdjax.load(trained_once, machine="fan", section="00", false_alarms_per_day=1, clips_per_day=2)
    assert detector.threshold == limit != asdjax.load(trained_once, machine="fan", section="00").threshold
    assert main([*words, "--false-alarms-per-day", "1"]) == 2
    assert "need 43199 training clips; allow more" in capsys.readouterr().err
    assert main([*words, "--clips-per-day", "1"]) == 2
    assert "clips a day: expected together with false alarms a day, got 1 alone" in capsys.readouterr().err


@pytest.mark.parametrize("system", ["all_mean", "mobilefacenet_512", "mean_log_mel"])
def test_training_scores_are_those_of_the_evaluation(trained_once: Path, system: str):
    evaluation = open_evaluation(trained_once, None)
    if system not in evaluation.results["systems"]:
        system = evaluation.results["config"]["variants"][0]
    got = open_system(evaluation, system, "fan").score_training()
    with (evaluation.folder / "clips" / f"{system}.csv").open() as file:
        expected = {row["clip"]: float(row["score"]) for row in csv.DictReader(file) if row["split"] == "train"}
    assert {clip.name: score for clip, score in got.items()} == pytest.approx(expected, rel=1e-12)
