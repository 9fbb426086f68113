"""Log-mel frames of whole clips, as the DCASE 2021 Task 2 auto-encoder baseline computes them.

Letters: n clips, s samples, t frames, f frequency bins, m mel bands.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from asdjax.features import FULL_SCALE, hann
from asdjax.runtime.progress import track
from asdjax.runtime.threads import map_in_threads

# baseline.yaml of the challenge's auto-encoder; its `power` is 2
N_FFT = 1024
HOP_SAMPLES = 512
BANDS = 128
VECTOR_FRAMES = 5

_FLOOR = np.finfo(np.float64).eps  # of a band's power; the baseline's
_LINEAR_HZ = 200 / 3  # a mel, below 1 kHz
_KNEE_HZ, _KNEE_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27  # a mel in ln(frequency), above


class LogMels(NamedTuple):
    """Clips one after another: `frames` (t, m) float32 in dB; those of clip i are the rows from `first[i]` up to
    `first[i + 1]`, `first` (n + 1,) int64."""

    frames: np.ndarray
    first: np.ndarray

    def of_clips(self) -> Iterator[np.ndarray]:
        """Each clip's frames (t, m), a view."""
        return (self.frames[begin:end] for begin, end in zip(self.first[:-1], self.first[1:], strict=True))


def log_mels(samples: Sequence[np.ndarray], sample_rate_hz: int, what: str) -> LogMels:
    """The log-mel frames of clips int16 (s,); `what` names the progress bar."""
    first = np.cumsum([0, *(frame_count(len(clip)) for clip in samples)])
    frames = np.empty((first[-1], BANDS), np.float32)
    computed = map_in_threads(functools.partial(log_mel, clip, sample_rate_hz) for clip in samples)
    for begin, of_clip in zip(first, track(computed, what, len(samples), "clip", quiet=True), strict=False):
        frames[begin : begin + len(of_clip)] = of_clip
    return LogMels(frames, first)


def frame_count(samples: int) -> int:
    """Frames of a clip of so many samples: 313 of 10 s at 16 kHz, and never fewer than VECTOR_FRAMES."""
    return max(1 + samples // HOP_SAMPLES, VECTOR_FRAMES)


def log_mel(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """One clip's power in mel bands, in dB: int16 (s,) -> (t, m) float64.

    10 * log10(max(mel, eps)), which the baseline writes as 20 / power * log10(...), mel being
    `librosa.feature.melspectrogram(y, sr, n_fft=1024, hop_length=512, n_mels=128, power=2, pad_mode="reflect")`:
    reflection is what the librosa of the baseline's time did unasked. A clip of fewer than VECTOR_FRAMES frames ends
    in zeros.
    """
    needed = (frame_count(len(samples)) - 1) * HOP_SAMPLES
    padded = np.pad(samples / FULL_SCALE, (0, max(0, needed - len(samples))))
    centred = np.pad(padded, N_FFT // 2, mode="reflect")
    windows = sliding_window_view(centred, N_FFT)[::HOP_SAMPLES]
    spectrum = np.fft.rfft(windows * hann(N_FFT)[None])
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return 10 * np.log10(np.maximum(power @ mel_filters(sample_rate_hz).T, _FLOOR))


@functools.cache
def mel_filters(sample_rate_hz: int) -> np.ndarray:
    """Triangles of equal area between neighbouring mels, from 0 to half the sample rate: (m, f) float64.

    The filters of `librosa.filters.mel(norm="slaney", htk=False)`: Slaney's Auditory Toolbox (1998).
    """
    edges = _hz_of_mel(np.linspace(0, _mel_of_hz(sample_rate_hz / 2), BANDS + 2))
    bins = np.fft.rfftfreq(N_FFT, 1 / sample_rate_hz)
    low, centre, high = (edges[i : i + BANDS, None] for i in range(3))
    rising, falling = (bins[None] - low) / (centre - low), (high - bins[None]) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


def _mel_of_hz(hz: float) -> float:
    return hz / _LINEAR_HZ if hz < _KNEE_HZ else _KNEE_MEL + np.log(hz / _KNEE_HZ) / _LOG_STEP


def _hz_of_mel(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ, _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL)))
