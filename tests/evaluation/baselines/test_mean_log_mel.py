"""Mean log-mel frames: Mahalanobis distances by section, training clips never by a fit that saw them."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from asdjax.corpus.clips import Clip, Split
from asdjax.evaluation.baselines import mean_log_mel
from asdjax.evaluation.baselines.log_mel import LogMels

SECTIONS = ("00",) * 8 + ("01",) * 8


def clips(split: Split, sections: tuple[str, ...]) -> list[Clip]:
    return [Clip(Path(f"{split}_{i}.wav"), "fan", section, split, "source", None) for i, section in enumerate(sections)]


def heard(number: int, seed: int) -> LogMels:
    """Clips of six to nine frames around a level of their own."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(6, 10, number)
    levels = np.repeat(rng.normal(-40, 5, (number, 128)), lengths, axis=0)
    frames = levels + rng.normal(size=(lengths.sum(), 128))
    return LogMels(frames.astype(np.float32), np.cumsum([0, *lengths]))


def means(log_mels: LogMels) -> np.ndarray:
    return np.array([of_clip.astype(np.float64).mean(axis=0) for of_clip in log_mels.of_clips()])


def distance(spectrum: np.ndarray, bank: np.ndarray) -> float:
    return float(np.sqrt(LedoitWolf().fit(bank).mahalanobis(spectrum[None])[0]))


def test_a_test_clip_is_held_against_its_own_section():
    train, test = heard(16, 0), heard(3, 1)
    asked = clips("test", ("01", "00", "02"))
    got = mean_log_mel.score_clips(clips("train", SECTIONS), train, asked, test)
    expected = {
        asked[0]: distance(means(test)[0], means(train)[8:]),
        asked[1]: distance(means(test)[1], means(train)[:8]),
    }
    assert got.test == pytest.approx(expected, rel=1e-4)  # none of section 02, which has no training clips


def test_a_training_clip_is_held_against_the_others_of_its_section():
    train = heard(16, 0)
    got = mean_log_mel.score_clips(clips("train", SECTIONS), train, [], LogMels(np.zeros((0, 128)), np.zeros(1)))
    bank = means(train)
    expected = {
        clip: distance(bank[i], np.delete(bank[i // 8 * 8 : i // 8 * 8 + 8], i % 8, axis=0))
        for i, clip in enumerate(clips("train", SECTIONS))
    }
    assert got.train == pytest.approx(expected, rel=1e-4)
    assert got.unscored == ()
