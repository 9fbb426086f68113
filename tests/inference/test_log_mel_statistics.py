"""Baselines on log-mel statistics: Mahalanobis distances by section, and cross-fitting of training clips."""

from pathlib import Path

import numpy as np
import pytest
from librosa.feature import melspectrogram
from sklearn.covariance import LedoitWolf

from asdjax.data.clips import Clip, Split
from asdjax.inference import log_mel_statistics
from asdjax.inference.log_mel_statistics import MEAN, NAMES

SECTIONS = ("00",) * 8 + ("01",) * 8


def clips(split: Split, sections: tuple[str, ...]) -> list[Clip]:
    return [Clip(Path(f"{split}_{i}.wav"), "fan", section, split, "source", None) for i, section in enumerate(sections)]


def draw(number: int, seed: int) -> np.ndarray:
    """Draw the statistics of `number` clips."""
    return np.random.default_rng(seed).normal(-40, 5, (number, 2, 128)).astype(np.float32)


def select(name: str, statistics: np.ndarray) -> np.ndarray:
    return statistics[:, 0] if name == MEAN else statistics.reshape(len(statistics), 256)


def distance(spectrum: np.ndarray, bank: np.ndarray) -> float:
    return float(np.sqrt(LedoitWolf().fit(bank).mahalanobis(spectrum[None])[0]))


@pytest.mark.parametrize("name", NAMES)
def test_a_test_clip_is_held_against_its_own_section(name: str):
    drawn = draw(16, 0), draw(3, 1)
    test_clips = clips("test", ("01", "00", "02"))
    wrapped = [log_mel_statistics.wrap_statistics(statistics) for statistics in drawn]
    got = log_mel_statistics.score_clips(clips("train", SECTIONS), wrapped[0], test_clips, wrapped[1])[name]
    train, test = (select(name, statistics) for statistics in drawn)
    expected = {
        test_clips[0]: distance(test[0], train[8:]),
        test_clips[1]: distance(test[1], train[:8]),
    }
    assert got.test == pytest.approx(expected, rel=1e-4)  # section 02 has no training clips


@pytest.mark.parametrize("name", NAMES)
def test_a_training_clip_is_held_against_the_others_of_its_section(name: str):
    drawn = draw(16, 0)
    wrapped, none = (log_mel_statistics.wrap_statistics(statistics) for statistics in (drawn, drawn[:0]))
    got = log_mel_statistics.score_clips(clips("train", SECTIONS), wrapped, [], none)[name]
    train = select(name, drawn)
    expected = {
        clip: distance(train[i], np.delete(train[i // 8 * 8 : i // 8 * 8 + 8], i % 8, axis=0))
        for i, clip in enumerate(clips("train", SECTIONS))
    }
    assert got.train == pytest.approx(expected, rel=1e-4)
    assert got.unscored == ()


def test_statistics_are_those_of_librosa_s_log_mel_frames():
    samples = (3000 * np.random.default_rng(2).normal(size=16_000)).astype(np.int16)
    mel = melspectrogram(y=samples / 32768, sr=16_000, n_fft=1024, hop_length=512, n_mels=128, pad_mode="reflect")
    mean, std = log_mel_statistics.compute_statistics(samples, 16_000)
    assert mean == pytest.approx((10 * np.log10(mel)).mean(axis=1), abs=1e-3)
    assert std == pytest.approx((10 * np.log10(mel)).std(axis=1), abs=1e-3)
