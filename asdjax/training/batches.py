"""The batches of a step: every variant's own, drawn by the sampler, and their spectrogram pieces.

Letters: m runs in one program, v variants, b batch, s samples.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from asdjax import features
from asdjax.features import Spectrogram
from asdjax.models import variants
from asdjax.training import sampler
from asdjax.training.sampler import Batch, SamplingTable
from asdjax.training.state import TrainSpec

#: All clips on the device, or the crops of one dispatch. Both give the same batches.
Audio = features.Waves | features.Crops


def draw_batches(spec: TrainSpec, table: SamplingTable, keys: jax.Array, step: jax.Array) -> Batch:
    """Return a batch for every variant, each drawn with its own key: fields (v, b)."""
    draw = functools.partial(
        sampler.draw_batch,
        batch=spec.batch_size,
        piece_frames=spec.model.spectrogram.piece_frames,
        max_weight=spec.max_weight,
    )
    return jax.vmap(draw, in_axes=(0, None, None))(keys, step, table)


@functools.cache
def compiled_draws(spec: TrainSpec) -> Callable[[SamplingTable, jax.Array, jax.Array], Batch]:
    """Return the jitted `draw_batches(table, keys (m, v), steps (m,))` of m runs: fields (m, v, b)."""
    return jax.jit(jax.vmap(functools.partial(draw_batches, spec)))


def make_pieces(spec: TrainSpec, audio: Audio, batch: Batch) -> dict[str, jax.Array]:
    """Return each variant's pieces (b, height, frames, c), mixed on raw audio, in the models' precision.

    `audio` is all clips, or the crops (v, 2, b, s) of this batch.
    """
    spectrogram = spec.model.spectrogram
    if isinstance(audio, features.Crops):
        a, b = jnp.moveaxis(audio.samples, 1, 0)
    else:
        a, b = jax.vmap(functools.partial(_gather_pair, audio, spectrogram))(batch)
    magnitude = jax.vmap(functools.partial(_mix_magnitudes, spectrogram))(a, b, batch.weight)
    return {
        variant: features.pieces(magnitude[i], variants.piece_height(variant), spectrogram).astype(spec.model.precision)
        for i, variant in enumerate(spec.variants)
    }


def _gather_pair(waves: features.Waves, spectrogram: Spectrogram, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Return the samples under the pieces of both clips, (b, s) each."""
    start = features.first_sample(batch.frame, spectrogram)
    a, b = (features.gather(waves, clip, start, spectrogram.piece_samples) for clip in (batch.clip_a, batch.clip_b))
    return a, b


def _mix_magnitudes(spectrogram: Spectrogram, a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """Return |STFT| of mixed pairs: (b, s), (b, s), (b,) -> (b, f, t)."""
    return features.magnitudes(features.mix(a, b, weight), spectrogram)
