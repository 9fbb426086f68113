"""Embeddings of clips: every piece of every clip through all variants of a fleet.

Letters: n clips, p pieces of all clips, b batch, s samples, f bins, t frames, d embedding.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asdjax import features
from asdjax.features import Spectrogram
from asdjax.fleet import fleet_model
from asdjax.fleet.fleet_model import Model, ModelSpec
from asdjax.models import heads, variants
from asdjax.models.layers import EMBEDDING
from asdjax.runtime import jax_setup
from asdjax.runtime.cached_jit import cached_jit
from asdjax.runtime.progress import progress


class Embeddings(NamedTuple):
    """Unit embeddings by variant, (p, d) float32 each, and the index of each piece's clip, (p,)."""

    vectors: dict[str, np.ndarray]
    clip: np.ndarray


def embed_clips(
    spec: ModelSpec,
    model: Model,
    samples: Sequence[np.ndarray],
    *,
    stride_frames: int,
    batch_size: int,
    what: str,
    quiet: bool = False,
) -> Embeddings:
    """Return the embeddings of the pieces at frames 0, stride, 2 * stride, ... of clips int16 (s,).

    A clip shorter than a piece gives one zero-padded piece. Samples after the last whole piece are not used. `what`
    names the progress bar; a `quiet` bar disappears at the end. It runs on JAX's default device.
    """
    run = _jit_run(spec, model, batch_size)
    places = [
        (number, frame)
        for number, clip in enumerate(samples)
        for frame in list_piece_starts(len(clip), spec.spectrogram, stride_frames)
    ]
    out = {variant: np.empty((len(places), EMBEDDING), np.float32) for variant in spec.variants}
    with progress(what, len(places), "piece", quiet=quiet) as shown:
        for batch, embedded in _one_ahead(run, samples, places, spec, batch_size):
            for variant, rows in embedded.items():
                out[variant][batch.start : batch.stop] = np.asarray(rows)[: len(batch)]
            shown.update(len(batch))
    return Embeddings(out, np.array([number for number, _ in places], np.int64))


def embed_crops(spec: ModelSpec, model: Model, crops: np.ndarray) -> dict[str, np.ndarray]:
    """Return the unit embeddings by variant, (b, d) float32 each, of the samples under pieces, int16 (b, s).

    They are embedded in one batch.
    """
    return {variant: np.asarray(rows) for variant, rows in _jit_run(spec, model, len(crops))(crops).items()}


def _jit_run(spec: ModelSpec, model: Model, batch_size: int) -> Callable[[np.ndarray], dict[str, jax.Array]]:
    stft, run = jit_stft(spec.spectrogram), jit_embed(spec, batch_size)
    model = jax.device_put(model.only(spec.variants))
    return lambda crops: run(model, stft(crops))


def _one_ahead(
    run: Callable[[np.ndarray], dict[str, jax.Array]],
    samples: Sequence[np.ndarray],
    places: Sequence[tuple[int, int]],
    spec: ModelSpec,
    batch_size: int,
) -> Iterator[tuple[range, dict[str, jax.Array]]]:
    """Yield the piece numbers and embeddings of each batch, while the device computes the next one."""
    previous: tuple[range, dict[str, jax.Array]] | None = None
    for begin in range(0, len(places), batch_size):
        batch = range(begin, min(begin + batch_size, len(places)))
        crops = np.zeros((batch_size, spec.spectrogram.piece_samples), np.int16)
        for row, (number, frame) in enumerate(places[begin : batch.stop]):
            start = features.first_sample(frame, spec.spectrogram)
            crops[row] = features.crop(samples[number], start, spec.spectrogram.piece_samples)
        newest = batch, run(crops)
        if previous:
            yield previous
        previous = newest
    if previous:
        yield previous


def list_piece_starts(samples: int, spectrogram: Spectrogram, stride_frames: int) -> range:
    """Return the frames at which the pieces of a clip start: 9 for a 10 s clip at stride 32."""
    last = spectrogram.frames(samples) - spectrogram.piece_frames
    return range(0, max(last, 0) + 1, stride_frames)


@functools.cache
def jit_stft(spectrogram: Spectrogram) -> Callable[..., jax.Array]:
    """Return the jitted |STFT| of the samples under pieces: (b, s) int16 -> (b, f, t) float32."""
    return jax.jit(
        lambda crops: features.magnitudes(features.as_float(crops), spectrogram),
        compiler_options=jax_setup.compiler_options(jax.default_backend()),
    )


@functools.cache
def jit_embed(spec: ModelSpec, batch_size: int) -> Callable[[Model, jax.Array], dict[str, jax.Array]]:
    """Return the compiled `embed_magnitudes(model, magnitude)` for batches of `batch_size` pieces.

    It is compiled apart from the STFT, so that explanations, which change the magnitudes, use the same program.
    """
    shape = (batch_size, spec.spectrogram.bins, spec.spectrogram.piece_frames)
    magnitude = jax.ShapeDtypeStruct(shape, jnp.float32)
    run = functools.partial(embed_magnitudes, spec)
    return cached_jit(run, f"embed {spec}", fleet_model.describe_model(spec), magnitude)


def embed(spec: ModelSpec, model: Model, crops: jax.Array) -> dict[str, jax.Array]:
    """Return unit embeddings by variant (b, d) of the samples under pieces, int16 (b, s).

    One STFT serves all variants and both heights.
    """
    return embed_magnitudes(spec, model, features.magnitudes(features.as_float(crops), spec.spectrogram))


def embed_magnitudes(spec: ModelSpec, model: Model, magnitude: jax.Array) -> dict[str, jax.Array]:
    """Return unit embeddings of pieces given as |STFT|: (b, f, t) -> {variant: (b, d)}."""
    pieces = {
        height: features.pieces(magnitude, height, spec.spectrogram).astype(spec.precision)
        for height in {variants.piece_height(variant) for variant in spec.variants}
    }
    return {
        variant: heads.normalise(
            variants.embed(fleet_model.make_backbone(spec, model, variant), pieces[variants.piece_height(variant)])
        )
        for variant in spec.variants
    }
