"""From int16 samples to standardised spectrogram pieces: gather, mix, STFT, magnitude, pool, value, standardise.

Pure functions, jittable; only the samples under a piece are touched. Letters: b batch, s samples, t frames,
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
# a piece whose standard deviation is within rounding of its mean is constant, and becomes zeros
_CONSTANT_BELOW = 1e-5

VALUES = {
    "log": lambda magnitude: jnp.log(jnp.maximum(magnitude, MAGNITUDE_FLOOR)),
    "magnitude": lambda magnitude: magnitude,
    "power": jnp.square,
}
POOLS = {
    "mean": lambda neighbours: jnp.mean(neighbours, axis=2)[..., None],
    "stack": lambda neighbours: jnp.moveaxis(neighbours, 2, 3),
}
"""Of bins side by side, (b, height, n, t) -> (b, height, t, c)."""


class Spectrogram(NamedTuple):
    """How pieces are made; the fields of `config.signal`. Static under jit."""

    sample_rate_hz: int
    n_fft: int
    hop_samples: int
    piece_frames: int
    value: str
    pool: str

    @property
    def bins(self) -> int:
        """Rows of an unpooled piece, 1 + n_fft / 2."""
        return 1 + self.n_fft // 2

    @property
    def piece_samples(self) -> int:
        """Samples under a piece: 17,918 at the report's settings."""
        return (self.piece_frames - 1) * self.hop_samples + self.n_fft

    @property
    def least_samples(self) -> int:
        """Samples of the shortest clip that has a piece: the STFT is centred, its edges see zeros."""
        return (self.piece_frames - 1) * self.hop_samples

    def frames(self, samples: int) -> int:
        """Frames of a centred STFT of a clip of so many samples."""
        return 1 + samples // self.hop_samples

    def channels(self, height: int) -> int:
        """Channels of a piece of that height: more than one only where `stack` folds bins into channels."""
        return self.bins // height if self.pool == "stack" else 1


def make_spectrogram(config: Config) -> Spectrogram:
    """`config.signal` as the hashable that jitted functions take."""
    return Spectrogram(**config.signal.to_dict())


class Waves(NamedTuple):
    """Clips on the device: cut into pages so that no index ever counts samples from the start of a corpus.

    pages: (rows, page) int16, each clip beginning a row and zero-padded to the end of its last;
    first_page: (n,) int32, a clip's first row; length: (n,) int32, its samples.
    """

    pages: jax.Array
    first_page: jax.Array
    length: jax.Array


class Crops(NamedTuple):
    """The samples of whole batches, cut on the host: (steps, m, v, 2, b, s) int16 for m stacked tasks and v variants,
    for each row of a batch those of clip a and of clip b."""

    samples: jax.Array


def gather(waves: Waves, clip: jax.Array, start: jax.Array, samples: int) -> jax.Array:
    """Samples from each clip, zeros beyond its ends: (b,) clips, (b,) starts (may be negative) -> (b, s) int16."""
    page = waves.pages.shape[1]
    rows_needed = -(-(samples - 1) // page) + 1
    first_row = jnp.floor_divide(start, page)
    rows = (waves.first_page[clip] + first_row)[:, None] + jnp.arange(rows_needed)[None]
    block = waves.pages.at[rows].get(mode="clip").reshape(len(clip), rows_needed * page)
    cut = jax.vmap(lambda row, offset: jax.lax.dynamic_slice(row, (offset,), (samples,)))
    taken = cut(block, start - first_row * page)
    position = start[:, None] + jnp.arange(samples)[None]
    inside = (position >= 0) & (position < waves.length[clip][:, None])
    return jnp.where(inside, taken, jnp.int16(0))


def first_sample[N: (int, jax.Array)](frame: N, spectrogram: Spectrogram) -> N:
    """Where the samples under a piece begin that starts at `frame` (centred STFT: half a window earlier)."""
    return frame * spectrogram.hop_samples - spectrogram.n_fft // 2


def crop(samples: np.ndarray, start: int, length: int) -> np.ndarray:
    """The host's `gather` for one clip: (s,) int16 -> (length,) int16, zeros beyond the clip's ends."""
    out = np.zeros(length, np.int16)
    begin, end = (min(max(at, 0), len(samples)) for at in (start, start + length))
    out[begin - start : end - start] = samples[begin:end]
    return out


def mix(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """Mixup on raw audio, (1 - w) * a + w * b: (b, s) int16, (b, s) int16, (b,) -> (b, s) float32 in [-1, 1)."""
    w = weight[:, None]
    return (1 - w) * as_float(a) + w * as_float(b)


def as_float(samples: jax.Array) -> jax.Array:
    """int16 -> float32 in [-1, 1)."""
    return samples.astype(jnp.float32) / FULL_SCALE


def hann(samples: int) -> np.ndarray:
    """The periodic Hann window, (s,) float64: `scipy.signal.get_window("hann", s)`, which takes 1.5 s to import."""
    return np.hanning(samples + 1)[:-1]


def magnitudes(samples: jax.Array, spectrogram: Spectrogram) -> jax.Array:
    """|STFT| of the samples under pieces, (b, s) float32 -> (b, f, t).

    Equals the same columns of `librosa.stft(y, n_fft=..., hop_length=..., window="hann", center=True,
    pad_mode="constant")` where the samples begin half a window before the piece's first frame.
    """
    return MAGNITUDES.here()(samples, spectrogram)


def by_fft(samples: jax.Array, spectrogram: Spectrogram) -> jax.Array:
    """`magnitudes` by a fast Fourier transform of windows that are copied out whole.

    The barrier keeps the compiler from mixing anew for each of the windows over a sample. On two x86 cores 48 pieces
    take 8.7 ms from int16 to standardised instead of 12.0 as shifted views, which are put together number by number.
    """
    n, t, hop = spectrogram.n_fft, spectrogram.piece_frames, spectrogram.hop_samples
    whole = jax.lax.optimization_barrier(samples)
    cut = jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(whole, start, n, axis=1), out_axes=1)
    spectrum = jnp.fft.rfft(cut(hop * jnp.arange(t)) * _hann(n))
    return jnp.swapaxes(_magnitude(spectrum.real, spectrum.imag), 1, 2)


def by_products(samples: jax.Array, spectrogram: Spectrogram) -> jax.Array:
    """`magnitudes` by two matrix products, of shifted views: no gather.

    A TPU's compiler makes products of an FFT too, three of them and more: 48 pieces at the report's settings take 0.44
    ms instead of 1.29 by its own estimate for a v5e. On a CPU they take ten times as long as the FFT.
    """
    n = spectrogram.n_fft
    windows = _shifted_views(samples, spectrogram) * _hann(n)
    turns = np.outer(np.arange(n), np.arange(spectrogram.bins)) % n / n
    waves = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    real, imaginary = (
        jnp.einsum("btn,nf->bft", windows, jnp.asarray(wave, jnp.float32), precision=jax.lax.Precision.HIGHEST)
        for wave in waves
    )
    return _magnitude(real, imaginary)


MAGNITUDES = PerPlatform(cpu=by_fft, gpu=by_fft, tpu=by_products)


def _magnitude(real: jax.Array, imaginary: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(real) + jnp.square(imaginary))


def _hann(samples: int) -> jax.Array:
    """For windows (b, t, s)."""
    return jnp.asarray(hann(samples), jnp.float32)[None, None]


def _shifted_views(samples: jax.Array, spectrogram: Spectrogram) -> jax.Array:
    """Overlapping windows, (b, s) -> (b, t, n_fft)."""
    hop, t = spectrogram.hop_samples, spectrogram.piece_frames
    hops_per_window = -(-spectrogram.n_fft // hop)
    padded_length = (t - 1 + hops_per_window) * hop
    padded = jnp.pad(samples, ((0, 0), (0, padded_length - samples.shape[1])))
    hops = padded.reshape(samples.shape[0], -1, hop)
    windows = jnp.concatenate([hops[:, i : i + t] for i in range(hops_per_window)], axis=-1)
    return windows[..., : spectrogram.n_fft]


def pieces(magnitude: jax.Array, height: int, spectrogram: Spectrogram) -> jax.Array:
    """Pool to `height`, take the value, standardise: (b, f, t) -> (b, height, t, c)."""
    return standardise(VALUES[spectrogram.value](pool(magnitude, height, spectrogram.pool)))


def pool(magnitude: jax.Array, height: int, how: str) -> jax.Array:
    """Neighbouring bins averaged, or stacked as channels: (b, f, t) -> (b, height, t, c)."""
    b, f, t = magnitude.shape
    return POOLS[how](magnitude.reshape(b, height, f // height, t))


def standardise(values: jax.Array) -> jax.Array:
    """Each piece minus its mean, over its standard deviation; a constant piece becomes zeros: (b, ...) alike."""
    axes = tuple(range(1, values.ndim))
    mean = jnp.mean(values, axis=axes, keepdims=True)
    centred = values - mean
    deviation = jnp.sqrt(jnp.mean(jnp.square(centred), axis=axes, keepdims=True))
    varies = deviation > _CONSTANT_BELOW * jnp.abs(mean)
    return jnp.where(varies, centred / jnp.where(varies, deviation, 1.0), 0.0)
