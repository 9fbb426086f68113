"""Spectrograms for people: levels in dB over time and a logarithmic frequency axis.

Letters: s samples, f frequency bins, t frames, r rows of the picture.
"""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from asdjax.features import FULL_SCALE, Spectrogram, hann

ROWS, COLUMNS = 160, 360
"""Of a picture, at most: as many as one can see, which keeps the page small."""

_OCTAVES = 7
"""From the top of the frequency axis down."""
_FLOOR = 1e-10  # of a power: -100 dB of full scale
_RANGE_DB = 60
_TICKS_KHZ = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


class Levels(NamedTuple):
    """dB of full scale (r, t), rows between `edges_hz` (r + 1,), over so many seconds."""

    decibels: np.ndarray
    edges_hz: np.ndarray
    seconds: float


def levels(samples: np.ndarray, spectrogram: Spectrogram) -> Levels:
    """The levels of a clip, int16 (s,), in the windows that the models look at; a full-scale sine is at 0 dB."""
    power = _power(samples, spectrogram)
    group = -(-power.shape[1] // COLUMNS)
    begins = np.arange(0, power.shape[1], group)
    power = np.add.reduceat(power, begins, axis=1) / np.diff(np.append(begins, power.shape[1]))
    edges = row_edges_hz(spectrogram.sample_rate_hz)
    rows = _pooled(power, edges * spectrogram.n_fft / spectrogram.sample_rate_hz)
    seconds = len(samples) / spectrogram.sample_rate_hz
    return Levels(10 * np.log10(np.maximum(rows, _FLOOR)), edges, seconds)


def row_edges_hz(sample_rate_hz: int) -> np.ndarray:
    """Edges of the rows, evenly spaced in octaves: (r + 1,)."""
    top = sample_rate_hz / 2
    return np.geomspace(top / 2**_OCTAVES, top, ROWS + 1)


def _power(samples: np.ndarray, spectrogram: Spectrogram) -> np.ndarray:
    """(s,) -> (f, t): the squared magnitudes of `signal.magnitudes`, a full-scale sine at 1."""
    n_fft, hop = spectrogram.n_fft, spectrogram.hop_samples
    window = hann(n_fft)
    padded = np.pad(samples.astype(np.float64) / FULL_SCALE, n_fft // 2)
    frames: np.ndarray = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    magnitude = [np.abs(np.fft.rfft(part * window)) for part in np.array_split(frames, -(-len(frames) // 512))]
    return np.square(np.concatenate(magnitude) * 2 / window.sum()).T


def _pooled(power: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Power of the strongest bin in each row, of the nearest where a row has none, so that a narrow tone stands out:
    (f, t), edges in bins (r + 1,) -> (r, t)."""
    begin = np.minimum(np.round(edges[:-1]).astype(int), len(power) - 1)
    return np.maximum.reduceat(power, begin, axis=0)


def limits(*shown: Levels) -> tuple[float, float]:
    """The dB that the colours of several spectrograms reach from and to, so that they can be compared."""
    values = np.concatenate([one.decibels.ravel() for one in shown])
    top = float(np.percentile(values, 99.9))
    return max(top - _RANGE_DB, float(np.percentile(values, 1))), top


def draw(axes: Axes, shown: Levels, reach: tuple[float, float]) -> AxesImage:
    """A spectrogram on axes, whose vertical one is in octaves: see `height_of`."""
    low, high = height_of(shown.edges_hz[[0, -1]])
    image = axes.imshow(
        shown.decibels,
        extent=(0, shown.seconds, low, high),
        origin="lower",
        aspect="auto",
        cmap="viridis",
        vmin=reach[0],
        vmax=max(reach[1], reach[0] + 1),
    )
    axes.grid(visible=False)
    ticks = [khz for khz in _TICKS_KHZ if low <= height_of(1000 * khz) <= high]
    axes.set_yticks([height_of(1000 * khz) for khz in ticks], [f"{khz:g}" for khz in ticks])
    axes.set_ylabel("frequency (kHz)")
    return image


def height_of(hertz: Any) -> Any:
    """Where frequencies stand on the vertical axis: number or array."""
    return np.log2(hertz)
