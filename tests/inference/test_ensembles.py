"""Ensembles compared with numpy."""

from pathlib import Path

import numpy as np
import pytest

from asdjax.data.clips import Clip
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.ensembles import average

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
