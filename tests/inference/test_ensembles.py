"""Ensembles compared with numpy."""

from pathlib import Path

import numpy as np
import pytest

from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.ensembles import average, combine

TRAIN = [Clip(Path(f"train_{i}.wav"), "fan", "00", "train", "source", "normal") for i in range(5)]
TEST = [Clip(Path(f"test_{i}.wav"), "fan", "00", "test", "source", None) for i in range(4)]
RNG = np.random.default_rng(0)
TRAIN_SCORES = RNG.uniform(size=(3, 5))
TEST_SCORES = RNG.uniform(0.5, 3, size=(3, 4)) * [[1], [10], [100]]
MODELS = [
    ClipScores(dict(zip(TRAIN, train, strict=True)), dict(zip(TEST, test, strict=True)))
    for train, test in zip(TRAIN_SCORES.tolist(), TEST_SCORES.tolist(), strict=True)
]


def assert_is(got: ClipScores, train: np.ndarray, test: np.ndarray) -> None:
    np.testing.assert_allclose([got.train[clip] for clip in TRAIN], train)
    np.testing.assert_allclose([got.test[clip] for clip in TEST], test)


def test_scores_are_averaged_as_they_are():
    assert_is(average(MODELS, "score"), TRAIN_SCORES.mean(axis=0), TEST_SCORES.mean(axis=0))
    assert_is(average(MODELS[:1], "score"), TRAIN_SCORES[0], TEST_SCORES[0])


def test_ranks_are_shares_of_the_training_clips_that_score_no_higher():
    shares = (TRAIN_SCORES[:, None, :] <= TRAIN_SCORES[:, :, None]).mean(axis=2).mean(axis=0)
    got = average(MODELS, "rank")
    np.testing.assert_allclose([got.train[clip] for clip in TRAIN], shares)
    between = MODELS[0]._replace(test={TEST[0]: float(np.sort(TRAIN_SCORES[0])[1:3].mean())})
    assert average([between], "rank").test[TEST[0]] == pytest.approx(2.5 / 5)


@pytest.mark.parametrize("how", ["score", "rank", "zscore"])
def test_a_clips_score_hangs_on_no_other_test_clip_and_keeps_its_order(how: str):
    together = average(MODELS, how).test
    for clip in TEST:
        alone = average([model._replace(test={clip: model.test[clip]}) for model in MODELS], how).test
        assert alone[clip] == pytest.approx(together[clip])
    (model,) = MODELS[2:]  # all its test clips score above its training clips
    got = average([model], how).test
    assert sorted(TEST, key=got.__getitem__) == sorted(TEST, key=model.test.__getitem__)
    assert len(set(got.values())) == len(TEST)


def test_z_scores_are_in_deviations_of_the_training_scores():
    mean, deviation = TRAIN_SCORES.mean(axis=1, keepdims=True), TRAIN_SCORES.std(axis=1, keepdims=True)
    expected = [((scores - mean) / deviation).mean(axis=0) for scores in (TRAIN_SCORES, TEST_SCORES)]
    assert_is(average(MODELS, "zscore"), *expected)


@pytest.mark.parametrize("how", ["score", "rank", "zscore"])
def test_a_model_whose_training_scores_are_equal_does_not_drown_the_others(how: str):
    flat = ClipScores(dict.fromkeys(TRAIN, 0.25), MODELS[0].test)
    got = average([flat, MODELS[1]], how)
    assert np.abs([*got.train.values(), *got.test.values()]).max() < 1000


@pytest.mark.parametrize("how", ["score", "rank", "zscore"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_clips_that_one_model_lacks_are_left_out_whichever_model_that_is(how: str, place: int):
    lacking = ClipScores(
        {clip: score for clip, score in MODELS[place].train.items() if clip != TRAIN[2]},
        {clip: score for clip, score in MODELS[place].test.items() if clip != TEST[1]},
        (TRAIN[2],),
    )
    models = [lacking if i == place else model for i, model in enumerate(MODELS)]
    got, whole = average(models, how), average(MODELS, how)
    assert set(got.train) == set(TRAIN) - {TRAIN[2]}
    assert set(got.test) == set(TEST) - {TEST[1]}
    assert got.unscored == (TRAIN[2],)
    if how == "score":  # the other scales depend on the missing training clip
        assert {clip: whole.test[clip] for clip in got.test} == pytest.approx(got.test)


def test_training_clips_that_different_models_lack_are_all_counted():
    models = [
        model._replace(
            train={clip: score for clip, score in model.train.items() if clip != TRAIN[i]}, unscored=(TRAIN[i],)
        )
        for i, model in enumerate(MODELS)
    ]
    got = average(models, "score")
    assert set(got.train) == set(TRAIN[3:])
    assert set(got.unscored) == set(TRAIN[:3])


def test_a_model_without_any_training_score_leaves_none_in_common():
    assert average([MODELS[0], ClipScores({}, MODELS[1].test)], "zscore").train == {}


def standardise(scores: np.ndarray, training: np.ndarray) -> np.ndarray:
    low, median, high = np.quantile(training, [0.25, 0.5, 0.75])
    return (scores - median) / (high - low)


def test_detectors_are_combined_in_quartiles_of_their_own_training_scores():
    train = np.mean([standardise(scores, scores) for scores in TRAIN_SCORES], axis=0)
    pairs = zip(TEST_SCORES, TRAIN_SCORES, strict=True)
    assert_is(combine(MODELS), train, np.mean([standardise(test, training) for test, training in pairs], axis=0))


def make_section(section: str, train: list[float], test: float) -> ClipScores:
    clips = [Clip(Path(f"{section}_{i}.wav"), "fan", section, "train", "source", "normal") for i in range(len(train))]
    new = Clip(Path(f"{section}_test.wav"), "fan", section, "test", "source", None)
    return ClipScores(dict(zip(clips, train, strict=True)), {new: test})


def test_each_section_has_a_scale_of_its_own():
    one, other = make_section("00", [1.0, 2.0, 3.0, 5.0], 4.0), make_section("01", [50.0, 60.0, 90.0, 70.0, 65.0], 80.0)
    got = combine([ClipScores(one.train | other.train, one.test | other.test)])
    expected = [standardise(np.array(*own.test.values()), np.array([*own.train.values()])) for own in (one, other)]
    assert list(got.test.values()) == pytest.approx(expected)


@pytest.mark.parametrize("train", [[], [3.0], [3.0, 4.0, 5.0]])
def test_a_section_of_few_training_scores_has_no_scale(train: list[float]):
    with pytest.raises(InputError, match=f"fan 00: expected 4 training clips with a score, got {len(train)}"):
        combine([make_section("00", train, 4.0)])


@pytest.mark.parametrize("other", [3.0, 3.0 + 1e-12])
def test_equal_training_scores_have_a_unit_of_a_hundredth_of_them(other: float):
    got = combine([make_section("00", [3.0, 3.0, other, other, 3.0, 9.0], 6.0)])
    assert list(got.test.values()) == pytest.approx([100])
