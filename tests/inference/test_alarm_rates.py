"""Thresholds for a number of false alarms a day: the quantile of training scores, refused where they are too few."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

import asdjax
from asdjax.cli.main import main
from asdjax.data.clips import Clip
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


@pytest.mark.parametrize(("per", "number"), [("section", 99), ("section_domain", 99), ("machine", 50)])
def test_alarms_rarer_than_the_training_clips_can_tell_are_refused(per: str, number: int):
    rng = np.random.default_rng(0)
    rule = ThresholdRule(per=per, percentile=90.0, few_clips=20, few="predicted")
    enough = make_scores(rng.normal(size=number)) | make_scores(rng.normal(size=99 - number), "01")
    alarm_rates.fit_rate(enough, CLIP, AlarmRate(1, 100), 10.0, rule)
    too_few = dict(list(enough.items())[1:])
    message = "expected 1.01 or more, which 98 training clips can tell, got 1 of 100 clips a day; record 99 training"
    with pytest.raises(InputError, match=message):
        alarm_rates.fit_rate(too_few, CLIP, AlarmRate(1, 100), 10.0, rule)


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


def test_the_cost_is_told_in_faults_found():
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
    assert "record 43199 training clips" in capsys.readouterr().err
    assert main([*words, "--clips-per-day", "1"]) == 2
    assert "expected with false alarms a day only" in capsys.readouterr().err


@pytest.mark.parametrize("system", ["all_mean", "mobilefacenet_512", "mean_log_mel"])
def test_training_scores_are_those_of_the_evaluation(trained_once: Path, system: str):
    evaluation = open_evaluation(trained_once, None)
    if system not in evaluation.results["systems"]:
        system = evaluation.results["config"]["variants"][0]
    got = open_system(evaluation, system, "fan").score_training()
    with (evaluation.folder / "clips" / f"{system}.csv").open() as file:
        expected = {row["clip"]: float(row["score"]) for row in csv.DictReader(file) if row["split"] == "train"}
    assert {clip.name: score for clip, score in got.items()} == pytest.approx(expected, rel=1e-12)
