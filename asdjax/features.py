"""Standardised spectrogram pieces from int16 samples: gather, mix, STFT, magnitude, pool, value, standardise.

The functions are pure and jittable, and touch only the samples under a piece. Letters: b batch, s samples, t frames,
f frequency bins, c channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asdjax.config.fields import Config
from asdjax.runtime.per_platform import PerPlatform

MAGNITUDE_FLOOR = 1e-6
FULL_SCALE = 32768.0
# a piece varies by rounding only, and becomes zeros, if its standard deviation is below this share of its mean
_CONSTANT_BELOW = 1e-5

VALUES = {
    "log": lambda magnitude: jnp.log(jnp.maximum(magnitude, MAGNITUDE_FLOOR)),
    "magnitude": lambda magnitude: magnitude,
    "power": jnp.square,
}
#: Pooling of n neighbouring bins, (b, height, n, t) -> (b, height, t, c).
POOLS = {
    "mean": lambda neighbours: jnp.mean(neighbours, axis=2)[..., None],
    "stack": lambda neighbours: jnp.moveaxis(neighbours, 2, 3),
}


class Spectrogram(NamedTuple):
    """Parameters of pieces: the fields of `config.signal`. Static under jit."""

    sample_rate_hz: int
    n_fft: int
    hop_samples: int
    piece_frames: int
    value: str
    pool: str

    @property
    def bins(self) -> int:
        """Return the rows of an unpooled piece, 1 + n_fft / 2."""
        return 1 + self.n_fft // 2

    @property
    def piece_samples(self) -> int:
        """Return the samples under a piece: 17,918 at the report's settings."""
        return (self.piece_frames - 1) * self.hop_samples + self.n_fft

    @property
    def least_samples(self) -> int:
        """Return the samples of the shortest clip that has a piece; the centred STFT pads its edges with zeros."""
        return (self.piece_frames - 1) * self.hop_samples

    def frames(self, samples: int) -> int:
        """Return the frames of a centred STFT of a clip."""
        return 1 + samples // self.hop_samples

    def channels(self, height: int) -> int:
        """Return the channels of a piece: more than one only if the pool `stack` folds bins into channels."""
        return self.bins // height if self.pool == "stack" else 1


def make_spectrogram(config: Config) -> Spectrogram:
    """Return `config.signal` as a hashable for jitted functions."""
    return Spectrogram(**config.signal.to_dict())


class Waves(NamedTuple):
    """Clips on the device, cut into pages: no index counts samples from the start of a corpus, which may overflow.

    pages: (rows, page) int16; each clip begins at a row and is zero-padded to the end of its last row.
    first_page: (n,) int32, the first row of each clip. length: (n,) int32, the samples of each clip.
    """

    pages: jax.Array
    first_page: jax.Array
    length: jax.Array


class Crops(NamedTuple):
    """Samples of whole batches, cut on the host: (steps, m, v, 2, b, s) int16 for m runs and v variants.

    The axis of two holds the samples of clip a and of clip b.
    """

    samples: jax.Array


def gather(waves: Waves, clip: jax.Array, start: jax.Array, samples: int) -> jax.Array:
    """Read samples of each clip, with zeros beyond its ends: clips (b,), starts (b,) -> (b, s) int16.

    A start may be negative.
    """
    page = waves.pages.shape[1]
    rows_needed = -(-(samples - 1) // page) + 1
    first_row = jnp.floor_divide(start, page)
    rows = (waves.first_page[clip] + first_row)[:, None] + jnp.arange(rows_needed)[None]
    block = waves.pages.at[rows].get(mode="clip").reshape(len(clip), rows_needed * page)
    cut = jax.vmap(lambda row, offset: jax.lax.dynamic_slice(row, (offset,), (samples,)))
    values = cut(block, start - first_row * page)
    position = start[:, None] + jnp.arange(samples)[None]
    inside = (position >= 0) & (position < waves.length[clip][:, None])
    return jnp.where(inside, values, jnp.int16(0))


def first_sample[N: (int, jax.Array)](frame: N, spectrogram: Spectrogram) -> N:
    """Return the first sample under a piece that starts at `frame`: half a window earlier, as the STFT is centred."""
    return frame * spectrogram.hop_samples - spectrogram.n_fft // 2


def crop(samples: np.ndarray, start: int, length: int) -> np.ndarray:
    """Read samples of one clip on the host, as `gather`: (s,) int16 -> (length,) int16, zeros beyond its ends."""
    out = np.zeros(length, np.int16)
    begin, end = (min(max(at, 0), len(samples)) for at in (start, start + length))
    out[begin - start : end - start] = samples[begin:end]
    return out


def mix(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """Mix raw audio, (1 - w) * a + w * b: (b, s) int16, (b, s) int16, (b,) -> (b, s) float32 in [-1, 1)."""
    w = weight[:, None]
    return (1 - w) * as_float(a) + w * as_float(b)


def as_float(samples: jax.Array) -> jax.Array:
    """Convert int16 samples to float32 in [-1, 1)."""
    return samples.astype(jnp.float32) / FULL_SCALE


def hann(samples: int) -> np.ndarray:
    """Return the periodic Hann window, (s,) float64."""
    # equals `scipy.signal.get_window("hann", samples)`; scipy.signal is slow to import
    return np.hanning(samples + 1)[:-1]


def magnitudes(samples: jax.Array, spectrogram: Spectrogram) -> jax.Array:
    """Compute |STFT| of the samples under pieces, (b, s) float32 -> (b, f, t).

    The samples begin half a window before the piece's first frame. The result equals the same columns of
    `librosa.stft(y, n_fft=..., hop_length=..., window="hann", center=True, pad_mode="constant")`.
    """
    return MAGNITUDES.current()(samples, spectrogram)


def fft_magnitudes(samples: jax.Array, spectrogram: Spectrogram) -> jax.Array:
    """Compute `magnitudes` by a fast Fourier transform of copied windows.

    The barrier keeps the compiler from repeating the mixup in each window over a sample.
    """
    n, t, hop = spectrogram.n_fft, spectrogram.piece_frames, spectrogram.hop_samples
    mixed = jax.lax.optimization_barrier(samples)
    cut = jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(mixed, start, n, axis=1), out_axes=1)
    spectrum = jnp.fft.rfft(cut(hop * jnp.arange(t)) * _hann(n))
    return jnp.swapaxes(_magnitude(spectrum.real, spectrum.imag), 1, 2)


def matmul_magnitudes(samples: jax.Array, spectrogram: Spectrogram) -> jax.Array:
    """Compute `magnitudes` by two matrix products of shifted views, without a gather.

    For a TPU, whose compiler turns an FFT into at least three products.
    """
    n = spectrogram.n_fft
    windows = _shifted_views(samples, spectrogram) * _hann(n)
    cycles = np.outer(np.arange(n), np.arange(spectrogram.bins)) % n / n
    waves = np.cos(2 * np.pi * cycles), np.sin(2 * np.pi * cycles)
    real, imaginary = (
        jnp.einsum("btn,nf->bft", windows, jnp.asarray(wave, jnp.float32), precision=jax.lax.Precision.HIGHEST)
        for wave in waves
    )
    return _magnitude(real, imaginary)


MAGNITUDES = PerPlatform(cpu=fft_magnitudes, gpu=fft_magnitudes, tpu=matmul_magnitudes)


def _magnitude(real: jax.Array, imaginary: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(real) + jnp.square(imaginary))


def _hann(samples: int) -> jax.Array:
    """Return the window for windows (b, t, s), float32."""
    return jnp.asarray(hann(samples), jnp.float32)[None, None]


def _shifted_views(samples: jax.Array, spectrogram: Spectrogram) -> jax.Array:
    """Cut samples into overlapping windows, (b, s) -> (b, t, n_fft)."""
    hop, t = spectrogram.hop_samples, spectrogram.piece_frames
    hops_per_window = -(-spectrogram.n_fft // hop)
    padded_length = (t - 1 + hops_per_window) * hop
    padded = jnp.pad(samples, ((0, 0), (0, padded_length - samples.shape[1])))
    hops = padded.reshape(samples.shape[0], -1, hop)
    windows = jnp.concatenate([hops[:, i : i + t] for i in range(hops_per_window)], axis=-1)
    return windows[..., : spectrogram.n_fft]


def pieces(magnitude: jax.Array, height: int, spectrogram: Spectrogram) -> jax.Array:
    """Pool to `height`, take the value and standardise: (b, f, t) -> (b, height, t, c)."""
    return standardise(VALUES[spectrogram.value](pool(magnitude, height, spectrogram.pool)))


def pool(magnitude: jax.Array, height: int, method: str) -> jax.Array:
    """Average neighbouring bins, or stack them as channels: (b, f, t) -> (b, height, t, c)."""
    b, f, t = magnitude.shape
    return POOLS[method](magnitude.reshape(b, height, f // height, t))


def standardise(values: jax.Array) -> jax.Array:
    """Subtract each piece's mean and divide by its standard deviation; a constant piece becomes zeros.

    (b, ...) -> (b, ...).
    """
    axes = tuple(range(1, values.ndim))
    mean = jnp.mean(values, axis=axes, keepdims=True)
    centred = values - mean
    deviation = jnp.sqrt(jnp.mean(jnp.square(centred), axis=axes, keepdims=True))
    varies = deviation > _CONSTANT_BELOW * jnp.abs(mean)
    return jnp.where(varies, centred / jnp.where(varies, deviation, 1.0), 0.0)
