"""Log-mel frames compared with librosa's in double precision."""

import librosa
import numpy as np
import pytest

from asdjax.inference import log_mel


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Return a tone in noise, int16."""
    rng = np.random.default_rng(seed)
    return (3000 * rng.normal(size=samples) + 8000 * np.sin(0.3 * np.arange(samples))).clip(-32768, 32767).astype("i2")


def by_librosa(samples: np.ndarray, sample_rate_hz: int, n_fft: int = 1024) -> np.ndarray:
    """Compute the baseline's frames, with reflection at the ends: the default of its librosa 0.6."""
    power = librosa.feature.melspectrogram(
        y=samples / 32768,
        sr=sample_rate_hz,
        n_fft=n_fft,
        hop_length=n_fft // 2,
        win_length=n_fft,
        window="hann",
        center=True,
        pad_mode="reflect",
        power=2.0,
        n_mels=128,
        fmin=0.0,
        fmax=sample_rate_hz / 2,
        htk=False,
        norm="slaney",
        dtype=np.float64,
    )
    return 20.0 / 2.0 * np.log10(np.maximum(power, np.finfo(float).eps)).T


@pytest.mark.parametrize(("sample_rate_hz", "n_fft"), [(16_000, 1024), (22_050, 1024), (48_000, 2048), (96_000, 4096)])
@pytest.mark.parametrize("samples", [8400, 32_000, 33_333])
def test_frames_are_librosa_s(samples: int, sample_rate_hz: int, n_fft: int):
    clip = noise(samples)
    got = log_mel.compute_log_mel(clip, sample_rate_hz)
    assert got.shape == (log_mel.count_frames(samples, sample_rate_hz), 128)
    np.testing.assert_allclose(got, by_librosa(clip, sample_rate_hz, n_fft), atol=1e-9)


@pytest.mark.parametrize("sample_rate_hz", [8_000, 16_000, 25_600, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_every_band_has_a_bin(sample_rate_hz: int):
    assert (log_mel.mel_filters(sample_rate_hz).max(axis=1) > 0).all()


def test_silence_is_at_the_floor():
    np.testing.assert_allclose(
        log_mel.compute_log_mel(np.zeros(16_000, "i2"), 16_000), 10 * np.log10(np.finfo(float).eps)
    )


def test_a_clip_too_short_for_a_vector_ends_in_zeros():
    clip = noise(1, seed=3)
    got = log_mel.compute_log_mel(clip, 16_000)
    assert got.shape == (5, 128)
    np.testing.assert_allclose(got, by_librosa(np.pad(clip, (0, 2047)), 16_000), atol=1e-9)


def test_clips_of_any_length_lie_one_after_another():
    clips = [noise(samples, seed) for seed, samples in enumerate((160_000, 100, 5_000))]
    got = log_mel.compute_log_mels(clips, 16_000, "log-mel")
    assert got.first.tolist() == [0, 313, 318, 328]
    for frames, clip in zip(np.split(got.frames, got.first[1:-1]), clips, strict=True):
        np.testing.assert_array_equal(frames, log_mel.compute_log_mel(clip, 16_000).astype(np.float32))
