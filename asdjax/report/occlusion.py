"""Which frequencies make a clip anomalous: occlusion, a band at a time.

A band of the clip's pieces is swapped for that of the same moment of the nearest normal clip, and the models are asked
again: what the score falls by is what the band contributed. Unlike a gradient, which says what a tiny change would
do, this holds for large differences, for every backend, and in the unit of the score; and it never shows the models
silence, which they have not heard in training (Zeiler and Fergus 2014, section 4.2, with normal sound as the
occluder).

Letters: b batch, s samples, f frequency bins, n bands, q pieces, d embedding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from asdjax.features import Spectrogram
from asdjax.fleet import embed
from asdjax.fleet.fleet_model import Model, ModelSpec

_EDGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32)
"""In thirty-seconds of the highest frequency: at 16 kHz from 250 Hz wide to 1 kHz."""


class Pair(NamedTuple):
    """The samples under a piece of a clip and under one of a normal clip, int16 (s,) each."""

    own: np.ndarray
    normal: np.ndarray


def edges_hz(spectrogram: Spectrogram) -> np.ndarray:
    """The edges of the bands, (n + 1,)."""
    return np.array(_EDGES) / _EDGES[-1] * spectrogram.sample_rate_hz / 2


def masks(spectrogram: Spectrogram) -> np.ndarray:
    """Which bins each band has, every bin in exactly one: (n, f) bool."""
    bin_hz = np.arange(spectrogram.bins) * spectrogram.sample_rate_hz / spectrogram.n_fft
    band = np.clip(np.searchsorted(edges_hz(spectrogram), bin_hz, side="right") - 1, 0, len(_EDGES) - 2)
    return band[None] == np.arange(len(_EDGES) - 1)[:, None]


def swapped(spec: ModelSpec, model: Model, pairs: Sequence[Pair], batch_size: int) -> dict[str, np.ndarray]:
    """Embed each pair's own piece with one band after the other swapped: {variant: (q, n, d) float32}."""
    bands = masks(spec.spectrogram)
    jobs = [(pair, band) for pair in pairs for band in bands]
    stft, run = embed.compiled_stft(spec.spectrogram), embed.compiled_embed(spec, batch_size)
    embedded: dict[str, list[np.ndarray]] = {variant: [] for variant in spec.variants}
    for begin in range(0, len(jobs), batch_size):
        part = jobs[begin : begin + batch_size]
        filled = part + part[:1] * (batch_size - len(part))
        own, normal, swap = map(np.stack, zip(*((pair.own, pair.normal, band) for pair, band in filled), strict=True))
        magnitude = jnp.where(swap[:, :, None], stft(normal), stft(own))
        for variant, rows in run(model.only(spec.variants), magnitude).items():
            embedded[variant].append(np.asarray(rows)[: len(part)])
    return {variant: np.concatenate(rows).reshape(len(pairs), len(bands), -1) for variant, rows in embedded.items()}
