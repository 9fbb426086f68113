"""Spectrograms for people: levels in dB over time, on a logarithmic frequency axis.

Letters: s samples, f frequency bins, t frames, r rows of the picture.
"""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from asdjax.features import FULL_SCALE, Spectrogram

# The largest size of a picture. More would not be visible and would make the page larger.
ROWS, COLUMNS = 160, 360

_OCTAVES = 7  # from the highest frequency down
_LEAST_POWER = 1e-10  # -100 dB of full scale
_RANGE_DB = 60
_TICKS_KHZ = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


class Levels(NamedTuple):
    """Levels in dB of full scale (r, t), the edges of their rows in Hz (r + 1,), and the length of the clip."""

    decibels: np.ndarray
    edges_hz: np.ndarray
    seconds: float


def compute_levels(samples: np.ndarray, spectrogram: Spectrogram) -> Levels:
    """Return the levels of a clip, int16 (s,), in the STFT windows of the models. A full-scale sine is at 0 dB."""
    import librosa  # late: importing it takes a second

    scale = 2 / (FULL_SCALE * librosa.filters.get_window("hann", spectrogram.n_fft).sum())
    stft = librosa.stft(
        samples * scale,
        n_fft=spectrogram.n_fft,
        hop_length=spectrogram.hop_samples,
        window="hann",
        pad_mode="constant",
    )
    power = np.abs(stft) ** 2
    group = -(-power.shape[1] // COLUMNS)
    begins = np.arange(0, power.shape[1], group)
    power = np.add.reduceat(power, begins, axis=1) / np.diff(np.append(begins, power.shape[1]))
    edges = _compute_row_edges_hz(spectrogram.sample_rate_hz)
    rows = _pool_rows(power, edges * spectrogram.n_fft / spectrogram.sample_rate_hz)
    decibels = librosa.power_to_db(rows, ref=1.0, amin=_LEAST_POWER, top_db=None)
    return Levels(decibels, edges, len(samples) / spectrogram.sample_rate_hz)


def _compute_row_edges_hz(sample_rate_hz: int) -> np.ndarray:
    """Return the edges of the rows, evenly spaced in octaves: (r + 1,)."""
    top = sample_rate_hz / 2
    return np.geomspace(top / 2**_OCTAVES, top, ROWS + 1)


def _pool_rows(power: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the largest power in each row, so that narrow tones stay visible.

    A row between two bins takes the nearest bin. Shapes: power (f, t), edges in bins (r + 1,) -> (r, t).
    """
    begin = np.minimum(np.round(edges[:-1]).astype(int), len(power) - 1)
    return np.maximum.reduceat(power, begin, axis=0)


def choose_limits(*shown: Levels) -> tuple[float, float]:
    """Return the lowest and highest dB of one colour scale for several spectrograms."""
    values = np.concatenate([levels.decibels.ravel() for levels in shown])
    top = float(np.percentile(values, 99.9))
    return max(top - _RANGE_DB, float(np.percentile(values, 1))), top


def plot_levels(axes: Axes, levels: Levels, limits: tuple[float, float]) -> AxesImage:
    """Plot a spectrogram. The vertical axis is in octaves, as `to_height` returns them."""
    low, high = to_height(levels.edges_hz[[0, -1]])
    image = axes.imshow(
        levels.decibels,
        extent=(0, levels.seconds, low, high),
        origin="lower",
        aspect="auto",
        cmap="viridis",
        vmin=limits[0],
        vmax=max(limits[1], limits[0] + 1),
    )
    axes.grid(visible=False)
    ticks = [khz for khz in _TICKS_KHZ if low <= to_height(1000 * khz) <= high]
    axes.set_yticks([to_height(1000 * khz) for khz in ticks], [f"{khz:g}" for khz in ticks])
    axes.set_ylabel("frequency (kHz)")
    return image


def to_height(hertz: Any) -> Any:
    """Return frequencies, a number or an array, as positions on the vertical axis."""
    return np.log2(hertz)
