"""Warnings without labels: each on scores that deserve it, and silent on those that do not."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asdjax.config.fields import default_config
from asdjax.data.clips import Clip
from asdjax.evaluation import reliability, training_doubts, training_ranking
from asdjax.evaluation.sensitivity import Sensitivity
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.scored_clip import ScoredClip
from asdjax.inference.thresholds import Threshold

CONFIG = default_config()
RNG = np.random.default_rng(0)
TEST = [Clip(Path(f"test_{i}.wav"), "fan", "00", "test", "source", None) for i in range(20)]
TRAIN = [Clip(Path(f"train_{i}.wav"), "fan", "00", "train", "source", "normal") for i in range(20)]


def kinds(doubts: Any) -> list[str]:
    return [doubt.kind for doubt in doubts]


@pytest.mark.parametrize(
    ("accuracies", "held_out", "expected"),
    [
        ([0.5, 0.6, 0.8, 0.9, 0.9], [0.85], []),
        ([0.2, 0.3, 0.3, 0.3, 0.3], [], ["classes not learned"]),
        ([0.5, 0.6, 0.8, 0.9, 0.9], [0.9, 0.4], ["known by heart"]),
        ([], [], []),
    ],
)
def test_the_classes_are_learned_and_not_by_heart(
    accuracies: list[float], held_out: list[float], expected: list[str], tmp_path: Path
):
    rows: list[dict[str, Any]] = [
        {"phase": "phase1", "step": 10 * i, "accuracy": {"a": value, "b": value}}
        for i, value in enumerate(accuracies, 1)
    ]
    rows += [{"phase": "phase1", "step": 50, "holdout_accuracy": {"a": value}} for value in held_out]
    rows += [{"phase": "phase2_full", "step": 10, "accuracy": {"a": 0.0}}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run: Any = SimpleNamespace(name="fan", folder=tmp_path, task=SimpleNamespace(classes=("a", "b", "c", "d")))
    assert kinds(training_doubts.examine_training(run)) == expected


@pytest.mark.parametrize(("distance", "expected"), [(0.5, False), (20.0, True)])
def test_classes_that_a_mean_spectrum_separates_are_too_easy_whatever_the_level(distance: float, expected: bool):
    rng = np.random.default_rng(0)
    classes = np.arange(60) % 3
    shapes = distance * rng.normal(size=(3, 128))[classes] + rng.normal(size=(60, 128))
    alike = training_doubts._compute_alike(shapes + 100 * rng.normal(size=(60, 1)), classes)
    assert (alike >= training_doubts.TOO_EASY) == expected


@pytest.mark.parametrize(("outlier", "expected"), [(2.0, []), (30.0, ["training clip unlike the others"])])
def test_a_training_clip_far_above_its_threshold_is_named(outlier: float, expected: list[str]):
    rng = np.random.default_rng(1)
    training = dict(zip(TRAIN, [outlier, *rng.normal(1, 0.1, 19).tolist()], strict=True))
    doubts = list(training_doubts.examine_strange("fan", training_ranking.rank(CONFIG, training)))
    assert kinds(doubts) == expected
    assert all("1 training clip of section 00" in doubt.seen and "train_0.wav" in doubt.seen for doubt in doubts)
    assert not list(training_doubts.examine_strange("pump", training_ranking.rank(CONFIG, training)))


def scores(values: np.ndarray) -> ClipScores:
    return ClipScores(dict(zip(TRAIN, values.tolist(), strict=True)), dict(zip(TEST, values.tolist(), strict=True)))


ONE, SAME, OTHER = scores(np.arange(20.0)), scores(np.arange(20.0) ** 3), scores(RNG.permutation(20).astype(float))
TURNED = scores(-np.arange(20.0))


@pytest.mark.parametrize(
    ("by_seed", "simple", "expected"),
    [
        ({0: {"a": ONE, "b": SAME}, 1: {"a": SAME, "b": ONE}}, ONE, []),
        ({0: {"a": ONE, "b": OTHER}}, ONE, ["models disagree"]),
        ({0: {"a": ONE}, 1: {"a": OTHER}}, ONE, ["seeds disagree"]),
        ({0: {"a": ONE}}, TURNED, ["models against simple detectors"]),
        ({0: {"a": scores(np.ones(20))}}, ONE, []),
    ],
)
def test_models_seeds_and_simple_detectors_agree(
    by_seed: dict[int, dict[str, ClipScores]], simple: ClipScores, expected: list[str]
):
    assert kinds(reliability._examine_agreement(CONFIG, "fan", by_seed, {"mean_std_log_mel": simple})) == expected


def test_without_test_clips_training_clips_are_compared():
    without = [one._replace(test={}) for one in (ONE, OTHER)]
    got = reliability._examine_agreement(
        CONFIG, "fan", {0: dict(zip("ab", without, strict=True))}, {"mean_std_log_mel": ONE}
    )
    assert kinds(got) == ["models disagree"]


def subject(clips: list[Clip]) -> Any:
    part = SimpleNamespace(of_machine=lambda machine: SimpleNamespace(clips=clips))
    corpus = SimpleNamespace(layout="dcase2021")
    return SimpleNamespace(recorded={"fan": {"bank": part}}, runs=[], corpus=corpus)


@pytest.mark.parametrize("number", [9, 10])
def test_a_section_has_enough_training_clips(number: int):
    got = list(training_doubts.examine_banks("fan", subject(TRAIN[:number])))
    assert kinds(got) == (["few training clips"] if number < 10 else [])
    assert all("section 00 (9)" in doubt.seen for doubt in got)


@pytest.mark.parametrize(
    ("copies", "expected"), [(0, []), (9, []), (10, ["training clips alike"]), (20, ["training clips alike"])]
)
def test_training_clips_differ(copies: int, expected: list[str], monkeypatch: pytest.MonkeyPatch):
    spectra = RNG.normal(size=(20, 128)).astype(np.float32)
    spectra[:copies] = spectra[0]
    bank = SimpleNamespace(clips=TRAIN, pieces=SimpleNamespace(vectors={"mean_log_mel": spectra}))
    monkeypatch.setattr(training_doubts.stored_embeddings, "load", lambda *_: SimpleNamespace(bank=bank))
    got = list(training_doubts.examine_copies("fan", Path()))
    assert kinds(got) == expected
    assert all(f"{copies} of 20 training clips of section 00" in doubt.seen for doubt in got)


@pytest.mark.parametrize(
    ("above", "alarms", "expected"),
    [(2, 5, []), (8, 5, ["false alarms"]), (2, 19, ["nearly all are alarms"])],
)
def test_normal_clips_stay_below_the_threshold_and_test_clips_are_not_all_above(
    above: int, alarms: int, expected: list[str]
):
    default: Any = SimpleNamespace(
        training={clip: float(i < above) for i, clip in enumerate(TRAIN)},
        thresholds={("fan", None, None): Threshold(0.5, "gamma", 20, 0.1)},
        clips=[ScoredClip(f"{i}.wav", "fan", "00", "source", None, 0.0, i < alarms) for i in range(20)],
    )
    got = [*reliability._examine_alarms(CONFIG, "fan", subject(TRAIN), default)]
    assert kinds(got + [*reliability._examine_test_clips("fan", default)]) == expected


@pytest.mark.parametrize(("fleet", "expected"), [(0.9, []), (0.7, ["models below simple detectors"])])
def test_the_models_hear_no_less_than_the_simple_detectors(fleet: float, expected: list[str]):
    measured = {
        name: {"fan": Sensitivity(auc=auc, kinds={}, scores={})}
        for name, auc in (("all_mean", fleet), ("mean_log_mel", 0.6), ("mean_std_log_mel", 0.8))
    }
    default: Any = SimpleNamespace(baselines=())
    evaluated = reliability.Evaluated({}, {}, default, [], measured, Path())
    got = list(reliability._examine_sensitivity("fan", evaluated))
    assert kinds(got) == expected
    assert all("than mean_std_log_mel" in doubt.seen and "combined system (config" in doubt.remedy for doubt in got)
    default.baselines = ("mean_std_log_mel",)
    assert all("until then" in doubt.remedy for doubt in reliability._examine_sensitivity("fan", evaluated))
    assert not list(reliability._examine_sensitivity("pump", evaluated))
