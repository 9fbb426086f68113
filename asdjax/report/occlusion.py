"""Occlusion: the contribution of each frequency band to a score (Zeiler and Fergus 2014, section 4.2).

One band of a clip's pieces is replaced by the same band of the nearest normal clip, at the same time in the clip, and
the models embed the pieces again; without models, the band's log-mel statistics are replaced. The decrease of the score
is the contribution of the band. Unlike a gradient, it holds for large changes, works with every backend, and has the
unit of the score. Normal sound replaces the band because the models have not been trained on silence.

Letters: b batch, s samples, f frequency bins, n bands, q pieces, d embedding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from asdjax.features import Spectrogram
from asdjax.fleet import embed
from asdjax.fleet.fleet_model import Model, ModelSpec
from asdjax.inference import log_mel

# In thirty-seconds of the highest frequency. At 16 kHz, bands are 250 Hz to 1 kHz wide.
_EDGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32)


class PiecePair(NamedTuple):
    """Samples of one piece of a clip and of one piece of a normal clip, int16 (s,) each."""

    own: np.ndarray
    normal: np.ndarray


def make_band_edges_hz(spectrogram: Spectrogram) -> np.ndarray:
    """Return the edges of the bands, (n + 1,)."""
    return np.array(_EDGES) / _EDGES[-1] * spectrogram.sample_rate_hz / 2


def make_masks(spectrogram: Spectrogram) -> np.ndarray:
    """Return the bins of each band, (n, f) bool. Every bin is in one band."""
    bin_hz = np.arange(spectrogram.bins) * spectrogram.sample_rate_hz / spectrogram.n_fft
    return _find_band(bin_hz, spectrogram)[None] == np.arange(len(_EDGES) - 1)[:, None]


def _find_band(frequency_hz: np.ndarray, spectrogram: Spectrogram) -> np.ndarray:
    """Return the band of each frequency, (f,) int."""
    edges_hz = make_band_edges_hz(spectrogram)
    return np.clip(np.searchsorted(edges_hz, frequency_hz, side="right") - 1, 0, len(_EDGES) - 2)


def replace_mel_bands(own: np.ndarray, normal: np.ndarray, spectrogram: Spectrogram) -> np.ndarray:
    """Return log-mel statistics (1, d) of a clip, once per band with that band's from a normal clip: (n, d).

    A mel band belongs to the band of its centre. Statistics are one or more values of each mel band, one kind after the
    other.
    """
    from librosa import mel_frequencies  # late: slow to import

    centre_hz = mel_frequencies(log_mel.BANDS + 2, fmin=0.0, fmax=spectrogram.sample_rate_hz / 2)[1:-1]
    band = np.tile(_find_band(centre_hz, spectrogram), own.shape[1] // log_mel.BANDS)
    return np.where(band[None] == np.arange(len(_EDGES) - 1)[:, None], normal, own)


def embed_occluded(spec: ModelSpec, model: Model, pairs: Sequence[PiecePair], batch_size: int) -> dict[str, np.ndarray]:
    """Embed each pair's own piece once per band, with that band replaced.

    Returns {variant: (q, n, d) float32}.
    """
    masks = make_masks(spec.spectrogram)
    jobs = [(pair, mask) for pair in pairs for mask in masks]
    stft, run = embed.jit_stft(spec.spectrogram), embed.jit_embed(spec, batch_size)
    embedded: dict[str, list[np.ndarray]] = {variant: [] for variant in spec.variants}
    for begin in range(0, len(jobs), batch_size):
        part = jobs[begin : begin + batch_size]
        filled = part + part[:1] * (batch_size - len(part))
        own, normal, mask = map(np.stack, zip(*((pair.own, pair.normal, mask) for pair, mask in filled), strict=True))
        magnitude = jnp.where(mask[:, :, None], stft(normal), stft(own))
        for variant, rows in run(model.only(spec.variants), magnitude).items():
            embedded[variant].append(np.asarray(rows)[: len(part)])
    return {variant: np.concatenate(rows).reshape(len(pairs), len(masks), -1) for variant, rows in embedded.items()}
