"""Log-mel statistics in JAX, for exported functions: equal to `log_mel_statistics.compute_statistics` but for rounding.

Letters: b clips, s samples, t frames, f frequency bins, m mel bands.
"""

import jax
import jax.numpy as jnp

from asdjax import features
from asdjax.features import Spectrogram
from asdjax.inference import log_mel
from asdjax.inference.log_mel_statistics import MEAN, MEAN_STD


def compute_statistics(clips: jax.Array, filters: jax.Array, sample_rate_hz: int) -> dict[str, jax.Array]:
    """Return the statistics of clips int16 (b, s) by simple detector: (b, m) or (b, 2 * m) float32.

    `filters` (m, f) are those of `log_mel.mel_filters`.
    """
    frames = _compute_log_mels(clips, filters, sample_rate_hz)
    mean, std = jnp.mean(frames, axis=2), jnp.std(frames, axis=2)
    return {MEAN: mean, MEAN_STD: jnp.concatenate([mean, std], axis=1)}


def _compute_log_mels(clips: jax.Array, filters: jax.Array, sample_rate_hz: int) -> jax.Array:
    """Return `log_mel.compute_log_mel` of each clip: (b, s) -> (b, m, t)."""
    count, n_fft = log_mel.count_frames(clips.shape[1], sample_rate_hz), log_mel.choose_n_fft(sample_rate_hz)
    missing = max(0, (count - 1) * (n_fft // 2) - clips.shape[1])
    padded = jnp.pad(features.as_float(clips), ((0, 0), (0, missing)))
    margin = n_fft // 2
    centred = jnp.pad(padded, ((0, 0), (margin, margin)), mode="reflect")
    shape = Spectrogram(sample_rate_hz, n_fft, n_fft // 2, count, "power", "mean")
    power = jnp.square(features.magnitudes(centred[:, : shape.piece_samples], shape))
    mel = jnp.einsum("mf,bft->bmt", filters, power, precision="highest")
    return 10 * jnp.log10(jnp.maximum(mel, log_mel.FLOOR))
