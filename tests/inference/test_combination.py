"""The combination of detectors compared with numpy."""

import math
from pathlib import Path

import numpy as np
import pytest

from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.combination import combine


def standardise(scores: np.ndarray, training: np.ndarray) -> np.ndarray:
    low, median, high = np.quantile(training, [0.25, 0.5, 0.75])
    units = (scores - median) / (high - low)
    return np.where(units < 10, units, 10 * (1 + np.log(np.maximum(units, 10) / 10)))


def test_detectors_are_combined_in_quartiles_of_their_own_training_scores():
    rng = np.random.default_rng(0)
    train, test = rng.uniform(size=(3, 5)), rng.uniform(0.5, 3, 3) * [1, 10, 1000]
    detectors = [make_section("00", *both) for both in zip(train.tolist(), test.tolist(), strict=True)]
    got = combine(detectors)
    expected = [standardise(new, scores) for new, scores in zip(test, train, strict=True)]
    assert list(got.test.values()) == pytest.approx([np.mean(expected)])
    assert list(got.train.values()) == pytest.approx(np.mean([standardise(scores, scores) for scores in train], axis=0))


def test_a_detector_that_is_far_off_does_not_outvote_the_others():
    calm = make_section("00", [1.0, 2.0, 3.0, 4.0, 5.0], 3.0)
    (new,) = calm.test
    far, farther = ({new: median + 2 * units} for median, units in [(3.0, 1e3), (3.0, 1e6)])
    scores = [combine([calm, calm._replace(test=one)]).test[new] for one in (calm.test, far, farther)]
    assert scores == sorted(set(scores))
    assert scores[-1] < 100


def make_section(section: str, train: list[float], test: float) -> ClipScores:
    clips = [Clip(Path(f"{section}_{i}.wav"), "fan", section, "train", "source", "normal") for i in range(len(train))]
    new = Clip(Path(f"{section}_test.wav"), "fan", section, "test", "source", None)
    return ClipScores(dict(zip(clips, train, strict=True)), {new: test})


def test_each_section_has_a_scale_of_its_own():
    one, other = make_section("00", [1.0, 2.0, 3.0, 5.0], 4.0), make_section("01", [50.0, 60.0, 90.0, 70.0, 65.0], 80.0)
    got = combine([ClipScores(one.train | other.train, one.test | other.test)])
    expected = [
        float(standardise(np.array(*own.test.values()), np.array([*own.train.values()]))) for own in (one, other)
    ]
    assert list(got.test.values()) == pytest.approx(expected)


def test_a_section_of_few_training_scores_has_the_models_alone_on_their_scale_in_the_machine_type():
    few, many = make_section("00", [3.0, 4.0, 5.0], 4.5), make_section("01", [1.0, 2.0, 3.0, 5.0], 4.0)
    models = ClipScores(few.train | many.train, few.test | many.test)
    simple = ClipScores(
        {clip: 1e5 * score for clip, score in models.train.items()}, dict.fromkeys(models.test, 1000000000.0)
    )
    (new,) = few.test
    expected = standardise(np.array(4.5), np.array([3.0, 4.0, 5.0, 1.0, 2.0, 3.0, 5.0]))
    assert combine([models, simple]).test[new] == pytest.approx(expected)
    assert combine([models]).test[new] == pytest.approx(expected)


@pytest.mark.parametrize("train", [[], [3.0], [3.0, 4.0, 5.0]])
def test_a_machine_type_of_few_training_scores_has_no_scale(train: list[float]):
    with pytest.raises(InputError, match=f"00: expected 4 or more training clips with a score .*, got {len(train)}"):
        combine([make_section("00", train, 4.0)])


def test_clips_that_a_detector_did_not_score_are_left_out():
    one, other = make_section("00", [1.0, 2.0, 3.0, 5.0, 4.0], 4.0), make_section("00", [1.0, 2.0, 3.0, 5.0], 4.0)
    (unscored,) = one.train.keys() - other.train.keys()
    assert combine([one, other]).unscored == (unscored,)


@pytest.mark.parametrize("other", [3.0, 3.0 + 1e-12])
def test_equal_training_scores_have_a_unit_of_a_hundredth_of_them(other: float):
    got = combine([make_section("00", [3.0, 3.0, other, other, 3.0, 9.0], 6.0)])
    assert list(got.test.values()) == pytest.approx([10 + 10 * math.log(10)])
