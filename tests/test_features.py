"""Spectrogram pieces: equal to librosa's columns, though cut before the transform instead of after it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal

from asdjax.features import (
    MAGNITUDE_FLOOR,
    Spectrogram,
    Waves,
    crop,
    fft_magnitudes,
    first_sample,
    gather,
    magnitudes,
    matmul_magnitudes,
    mix,
    pieces,
)
from asdjax.runtime import hardware

REPORT = Spectrogram(16_000, n_fft=2046, hop_samples=512, piece_frames=32, value="log", pool="mean")
SMALL = REPORT._replace(n_fft=14, piece_frames=5)
TEN_SECONDS = 160_000
CLIP_SAMPLES = (96_001, TEN_SECONDS, 17_000, TEN_SECONDS)
CLOSE = 4e-7  # share of the largest magnitude: the accuracy of a float32 FFT of 2046 points


piece_magnitudes = jax.jit(magnitudes, static_argnums=1)
cut = jax.jit(gather, static_argnums=3)
make_pieces = jax.jit(pieces, static_argnums=(1, 2))


def noise(samples: int, seed: int) -> np.ndarray:
    """Return loud noise over the whole int16 range, so that overlapping clips would show."""
    return np.random.default_rng(seed).integers(-32768, 32768, samples, dtype=np.int16)


CLIPS = [noise(samples, seed) for seed, samples in enumerate(CLIP_SAMPLES)]


def paged(clips: Sequence[np.ndarray], page: int = 512) -> Waves:
    rows = [np.pad(clip, (0, -len(clip) % page)).reshape(-1, page) for clip in clips]
    first = np.cumsum([0, *map(len, rows[:-1])])
    lengths = [len(clip) for clip in clips]
    return Waves(jnp.asarray(np.concatenate(rows)), jnp.asarray(first, jnp.int32), jnp.asarray(lengths, jnp.int32))


def under(clip: list[int], frame: list[int], spectrogram: Spectrogram) -> jax.Array:
    """Return the int16 samples under pieces of CLIPS."""
    start = first_sample(jnp.asarray(frame), spectrogram)
    return cut(paged(CLIPS), jnp.asarray(clip), start, spectrogram.piece_samples)


def librosa_magnitudes(samples: np.ndarray, spectrogram: Spectrogram) -> np.ndarray:
    """Return the magnitudes of the whole clip, in float64."""
    stft = librosa.stft(
        samples / 32768,
        n_fft=spectrogram.n_fft,
        hop_length=spectrogram.hop_samples,
        window="hann",
        center=True,
        pad_mode="constant",
    )
    return np.abs(stft)


def assert_close(actual: jax.Array | np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=CLOSE * np.max(expected))


def test_the_report_s_pieces_have_its_sizes() -> None:
    assert REPORT.bins == 1024
    assert REPORT.frames(TEN_SECONDS) == 313
    assert REPORT.piece_samples == 17_918


@pytest.mark.parametrize(
    "spectrogram",
    [
        REPORT,
        REPORT._replace(n_fft=1024, hop_samples=160, piece_frames=20),
        REPORT._replace(n_fft=400, hop_samples=500, piece_frames=3),
    ],
    ids=["report", "short hop", "hop beyond the window"],
)
def test_a_piece_equals_librosa_s_spectrogram_of_the_whole_clip_cut_afterwards(spectrogram: Spectrogram) -> None:
    cases = [
        (clip, frame)
        for clip, samples in enumerate(CLIP_SAMPLES)
        for last in [spectrogram.frames(samples) - spectrogram.piece_frames]
        for frame in (0, 1, last // 2, last)
    ]
    clip, frame = map(list, zip(*cases, strict=True))
    actual = piece_magnitudes(under(clip, frame, spectrogram).astype(jnp.float32) / 32768, spectrogram)
    whole = [librosa_magnitudes(samples, spectrogram) for samples in CLIPS]
    for i, (clip_number, first) in enumerate(cases):
        expected = whole[clip_number][:, first : first + spectrogram.piece_frames]
        assert_close(actual[i], expected)


@pytest.mark.parametrize("compute_magnitudes", [fft_magnitudes, matmul_magnitudes])
@pytest.mark.parametrize(
    "spectrogram", [REPORT, SMALL, REPORT._replace(n_fft=400, hop_samples=500)], ids=["report", "small", "gaps"]
)
def test_each_way_to_transform_equals_numpy_s_in_float64(compute_magnitudes: Any, spectrogram: Spectrogram) -> None:
    samples = np.random.default_rng(7).normal(size=(2, spectrogram.piece_samples))
    samples[1] = np.sin(2 * np.pi * 3 * np.arange(samples.shape[1]) / spectrogram.n_fft)  # other bins are almost 0
    actual = compute_magnitudes(jnp.asarray(samples, jnp.float32), spectrogram)
    windows = np.lib.stride_tricks.sliding_window_view(samples, spectrogram.n_fft, axis=1)
    hann = scipy.signal.get_window("hann", spectrogram.n_fft)
    expected = np.abs(np.fft.rfft(windows[:, :: spectrogram.hop_samples] * hann)).swapaxes(1, 2)
    for ours, reference in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-6 * np.max(reference))


def test_a_tpu_s_pieces_are_transformed_matmul_magnitudes() -> None:
    with hardware.compiling_for("tpu"):
        made = jax.make_jaxpr(magnitudes, static_argnums=1)(jnp.zeros((1, REPORT.piece_samples)), REPORT)
    assert "fft" not in str(made)
    assert str(made).count("dot_general") == 2


def test_mixing_under_the_piece_equals_mixing_ten_seconds() -> None:
    a, b, weight = CLIPS[1], CLIPS[3], [0.0, 0.25, 0.4375]
    frames = [0, 140, 281]
    mixed = mix(under([1] * 3, frames, REPORT), under([3] * 3, frames, REPORT), jnp.asarray(weight))
    actual = piece_magnitudes(mixed, REPORT)
    for i, (w, frame) in enumerate(zip(weight, frames, strict=True)):
        assert_close(actual[i], librosa_magnitudes((1 - w) * a + w * b, REPORT)[:, frame : frame + 32])


@pytest.mark.parametrize("page", [512, 97])
def test_the_host_crops_what_the_device_gathers(page: int) -> None:
    clips = [noise(samples, samples) for samples in (1000, 2048, 700)]
    starts = np.array([-3000, -1500, -1023, -1, 0, 1, 511, 512, 699, 1500, 2500, 9000])
    for number, clip in enumerate(clips):
        gathered = cut(paged(clips, page), jnp.full(len(starts), number), jnp.asarray(starts), 1300)
        padded = np.pad(clip, (3000, 12_000))
        for row, start in zip(gathered, starts, strict=True):
            np.testing.assert_array_equal(row, padded[start + 3000 :][:1300])
            np.testing.assert_array_equal(row, crop(clip, int(start), 1300))


NUMPY_VALUES: dict[str, Any] = {
    "log": lambda magnitude: np.log(np.maximum(magnitude, MAGNITUDE_FLOOR)),
    "magnitude": lambda magnitude: magnitude,
    "power": np.square,
}


@pytest.mark.parametrize("value", NUMPY_VALUES)
@pytest.mark.parametrize("how", ["mean", "stack"])
def test_bins_are_pooled_before_the_value_is_taken_and_standardised(value: str, how: str) -> None:
    magnitude = np.random.default_rng(0).gamma(1.0, size=(3, 8, 5)).astype(np.float32)
    magnitude[:, :4, 0] = 0
    magnitude[1] *= 1e-4
    actual = pieces(jnp.asarray(magnitude), 4, SMALL._replace(value=value, pool=how))
    even, odd = magnitude[:, 0::2].astype(np.float64), magnitude[:, 1::2].astype(np.float64)
    pooled = np.stack([even, odd], axis=-1) if how == "stack" else ((even + odd) / 2)[..., None]
    valued = NUMPY_VALUES[value](pooled)
    for piece, row in zip(actual, valued, strict=True):
        np.testing.assert_allclose(piece, (row - row.mean()) / row.std(), atol=3e-6)


@pytest.mark.parametrize("value", NUMPY_VALUES)
@pytest.mark.parametrize("height", [1024, 512])
def test_a_silent_piece_becomes_zeros_and_leaves_its_neighbours_alone(value: str, height: int) -> None:
    samples = jnp.stack([jnp.zeros(REPORT.piece_samples), jnp.asarray(CLIPS[1][: REPORT.piece_samples] / 32768)])
    silent, loud = np.asarray(make_pieces(piece_magnitudes(samples, REPORT), height, REPORT._replace(value=value)))
    np.testing.assert_array_equal(silent, 0.0)
    assert loud.shape == (height, 32, 1)
    assert abs(np.mean(loud)) < 1e-5
    assert np.std(loud) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", NUMPY_VALUES)
def test_a_barely_audible_piece_is_no_silence(value: str) -> None:
    one_bit = np.random.default_rng(0).integers(-1, 2, REPORT.piece_samples) / 32768
    magnitude = piece_magnitudes(jnp.asarray(one_bit, jnp.float32)[None], REPORT)
    assert np.std(make_pieces(magnitude, 512, REPORT._replace(value=value))) == pytest.approx(1, abs=1e-5)


def test_a_piece_has_more_channels_only_where_bins_are_stacked() -> None:
    stacked = REPORT._replace(pool="stack")
    assert [REPORT.channels(height) for height in (1024, 512)] == [1, 1]
    assert [stacked.channels(height) for height in (1024, 512)] == [1, 2]
    shape = jax.eval_shape(lambda m: pieces(m, 512, stacked), jax.ShapeDtypeStruct((4, 1024, 32), jnp.float32)).shape
    assert shape == (4, 512, 32, 2)
