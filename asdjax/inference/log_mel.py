"""Log-mel frames of clips, as in the auto-encoder baseline of DCASE 2021 Task 2.

Letters: n clips, s samples, t frames, f frequency bins, m mel bands.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from asdjax.features import FULL_SCALE, hann
from asdjax.runtime.progress import track
from asdjax.runtime.threads import map_in_threads

# From baseline.yaml of the challenge's auto-encoder. Its `power` is 2.
_N_FFT = 1024
BANDS = 128
VECTOR_FRAMES = 5

# Largest distance of frequency bins in Hz: with wider ones the lowest mel bands would lie between two bins. The
# baseline's window suffices up to 25.6 kHz.
_WIDEST_BIN_HZ = 25

#: Smallest power of a band, as in the baseline.
FLOOR = np.finfo(np.float64).eps


class LogMels(NamedTuple):
    """The concatenated frames of clips: `frames` (t, m) float32 in dB.

    The frames of clip i are the rows from `first[i]` up to `first[i + 1]`; `first` is (n + 1,) int64.
    """

    frames: np.ndarray
    first: np.ndarray


def compute_log_mels(samples: Sequence[np.ndarray], sample_rate_hz: int, what: str) -> LogMels:
    """Compute the log-mel frames of clips int16 (s,). `what` names the progress bar."""
    first = np.cumsum([0, *(count_frames(len(clip), sample_rate_hz) for clip in samples)])
    frames = np.empty((first[-1], BANDS), np.float32)
    computed = map_in_threads(functools.partial(compute_log_mel, clip, sample_rate_hz) for clip in samples)
    for begin, clip_frames in zip(first, track(computed, what, len(samples), "clip", quiet=True), strict=False):
        frames[begin : begin + len(clip_frames)] = clip_frames
    return LogMels(frames, first)


def choose_n_fft(sample_rate_hz: int) -> int:
    """Return the samples of a window: 1,024 as in the baseline, or for high rates twice that, four times, and so on.

    Frames begin every half window.
    """
    n_fft = _N_FFT
    while sample_rate_hz > _WIDEST_BIN_HZ * n_fft:
        n_fft *= 2
    return n_fft


def count_frames(samples: int, sample_rate_hz: int) -> int:
    """Return the number of frames of a clip: 313 for 10 s at 16 kHz, and at least VECTOR_FRAMES."""
    return max(1 + samples // (choose_n_fft(sample_rate_hz) // 2), VECTOR_FRAMES)


def compute_log_mel(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Compute the power of a clip in mel bands, in dB: int16 (s,) -> (t, m) float64.

    It is 10 * log10(max(mel, eps)), which the baseline writes as 20 / power * log10(...). `mel` equals
    `librosa.feature.melspectrogram(y, sr, n_fft, hop_length=n_fft // 2, n_mels=128, power=2, pad_mode="reflect")` with
    `choose_n_fft`; reflection was the default of librosa at the baseline's time. A clip of fewer than VECTOR_FRAMES
    frames is padded with zeros.
    """
    n_fft = choose_n_fft(sample_rate_hz)
    needed = (count_frames(len(samples), sample_rate_hz) - 1) * (n_fft // 2)
    padded = np.pad(samples / FULL_SCALE, (0, max(0, needed - len(samples))))
    centred = np.pad(padded, n_fft // 2, mode="reflect")
    windows = sliding_window_view(centred, n_fft)[:: n_fft // 2]
    spectrum = np.fft.rfft(windows * hann(n_fft)[None])
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return 10 * np.log10(np.maximum(power @ mel_filters(sample_rate_hz).T, FLOOR))


@functools.cache
def mel_filters(sample_rate_hz: int) -> np.ndarray:
    """Return mel filters of equal area from 0 Hz to half the sample rate: (m, f) float64.

    Scale and normalisation are those of Slaney's Auditory Toolbox (1998), as in the challenge's baseline.
    """
    from librosa.filters import mel  # late: slow to import, and models alone do not need it

    return mel(
        sr=sample_rate_hz, n_fft=choose_n_fft(sample_rate_hz), n_mels=BANDS, htk=False, norm="slaney", dtype=np.float64
    )
