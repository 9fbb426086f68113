"""What a step of a fleet learns from: every variant's own batch, drawn by the sampler, and its pieces.

Letters: m tasks in a stack, v variants, b batch, s samples.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from asdjax import features
from asdjax.features import Spectrogram
from asdjax.fleet.fleet_model import FleetSpec
from asdjax.models import variants
from asdjax.training import sampler
from asdjax.training.sampler import Batch, SamplingTable

Audio = features.Waves | features.Crops
"""All clips on the device, or the crops of one dispatch; the same batches come of both."""


def draw_batches(spec: FleetSpec, plan: SamplingTable, keys: jax.Array, step: jax.Array) -> Batch:
    """Every variant's own batch: fields (v, b)."""
    return jax.vmap(
        lambda key: sampler.draw_batch(
            key,
            step,
            plan,
            batch=spec.batch_size,
            piece_frames=spec.spectrogram.piece_frames,
            max_weight=spec.max_weight,
        )
    )(keys)


@functools.cache
def compiled_draws(spec: FleetSpec) -> Callable[[SamplingTable, jax.Array, jax.Array], Batch]:
    """The jitted `draw(plan, keys (m, v), steps (m,))` of a stack: fields (m, v, b)."""
    return jax.jit(jax.vmap(functools.partial(draw_batches, spec)))


def make_pieces(spec: FleetSpec, audio: Audio, draws: Batch) -> list[jax.Array]:
    """Each variant's pieces (b, height, frames, c), mixed on raw audio, in the compute type.

    audio: all clips, or the crops of these draws (v, 2, b, s).
    """
    spectrogram = spec.spectrogram
    if isinstance(audio, features.Crops):
        a, b = jnp.moveaxis(audio.samples, 1, 0)
    else:
        a, b = jax.vmap(functools.partial(_gathered, audio, spectrogram))(draws)
    magnitude = jax.vmap(functools.partial(_mixed, spectrogram))(a, b, draws.weight)
    return [
        features.pieces(magnitude[i], variants.piece_height(variant), spectrogram).astype(spec.precision)
        for i, variant in enumerate(spec.variants)
    ]


def _gathered(waves: features.Waves, spectrogram: Spectrogram, draw: Batch) -> tuple[jax.Array, jax.Array]:
    """The samples under both clips' pieces, (b, s) each."""
    start = features.first_sample(draw.frame, spectrogram)
    a, b = (features.gather(waves, clip, start, spectrogram.piece_samples) for clip in (draw.clip_a, draw.clip_b))
    return a, b


def _mixed(spectrogram: Spectrogram, a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """|STFT| of the pairs, mixed by weight (b,)."""
    return features.magnitudes(features.mix(a, b, weight), spectrogram)
