"""The exported function: a detector as a function of samples and named arrays, in JAX.

Letters: b clips, s samples, p pieces of a clip, n bank pieces, d embedding.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from asdjax import features
from asdjax.features import Spectrogram
from asdjax.fleet import embed, fleet_model
from asdjax.fleet.fleet_model import Model
from asdjax.inference import log_mel, log_mel_in_jax
from asdjax.inference.backends import Gaussian, Neighbours
from asdjax.inference.clip_scores import POOLINGS
from asdjax.inference.combination import Scale
from asdjax.inference.detector import CheckpointModels, SectionDetector
from asdjax.inference.ensembles import Linear

# names of the simple detectors' arrays
_FILTERS, _STATISTICS = "log_mel/filters", "log_mel"
# names of the origins, units and weights of a section's combination
_ORIGINS, _UNITS, _WEIGHTS = "combination/origins", "combination/units", "combination/weights"

#: Arguments of the function besides samples: weights and banks, by name.
ExportedArrays = dict[str, Any]


def score_with(detector: SectionDetector, arrays: ExportedArrays, clips: jax.Array) -> dict[str, Any]:
    """Score clips int16 (b, s) by a detector's settings and the given arrays: the exported function.

    Returns `score` (b,), `pieces` (b, p) and, by model, `embeddings` (b, p, d).
    """
    starts = embed.list_piece_starts(clips.shape[1], detector.spectrogram, detector.stride_frames)
    scores, pieces, embeddings = _score_by_models(detector, arrays, clips, starts)
    simple = _score_by_statistics(detector, arrays, clips)
    return {
        "score": _join(arrays, scores, simple),
        "pieces": _join(arrays, pieces, [jnp.tile(score[:, None], len(starts)) for score in simple]),
        "embeddings": embeddings,
    }


def _join(arrays: ExportedArrays, models: Sequence[jax.Array], simple: Sequence[jax.Array]) -> jax.Array:
    """Return the system's scores from those of its models, as they are averaged, and of its simple detectors."""
    detectors = [sum(models) / len(models), *simple] if models else simple
    if len(detectors) == 1:
        return detectors[0]
    scales = zip(detectors, arrays[_ORIGINS], arrays[_UNITS], arrays[_WEIGHTS], strict=True)
    terms = [jnp.where(weight > 0, weight * Scale(origin, unit)(one, jnp), 0.0) for one, origin, unit, weight in scales]
    return functools.reduce(jnp.add, terms)


def _score_by_statistics(detector: SectionDetector, arrays: ExportedArrays, clips: jax.Array) -> list[jax.Array]:
    """Return the scores (b,) of each simple detector."""
    if not detector.simple.scorers:
        return []
    statistics = log_mel_in_jax.compute_statistics(clips, arrays[_FILTERS], detector.simple.sample_rate_hz)
    return [
        _measure(distance, arrays, f"{_STATISTICS}/{name}/{i}", statistics[name])
        for name, scorer in detector.simple.scorers.items()
        for i, distance in enumerate(scorer.distances)
    ]


def _score_by_models(
    detector: SectionDetector, arrays: ExportedArrays, clips: jax.Array, starts: Sequence[int]
) -> tuple[list[jax.Array], list[jax.Array], dict[str, jax.Array]]:
    """Return the scores (b,) and piece scores (b, p) of each model as they are averaged, and the embeddings."""
    crops = _cut_pieces(clips, starts, detector.spectrogram)
    embeddings, scores, pieces = {}, [], []
    for part in detector.parts:
        embedded = embed.embed(part.spec, _make_model(part, arrays), crops)
        for member in part.members:
            vectors = embedded[member.variant]
            name = f"{part.name}/{member.variant}"
            distances = [
                _measure(distance, arrays, f"bank/{name}/{i}", vectors)
                for i, distance in enumerate(member.scorer.distances)
            ]
            nearest = functools.reduce(jnp.fmin, distances).reshape(-1, len(starts))
            embeddings[name] = vectors.reshape(-1, len(starts), vectors.shape[-1])
            scale = cast(Linear, member.normaliser)
            scores.append(scale(POOLINGS[detector.scoring.pooling](nearest, detector.scoring.top_pieces)))
            pieces.append(scale(nearest))
    return scores, pieces, embeddings


def _cut_pieces(clips: jax.Array, starts: Sequence[int], spectrogram: Spectrogram) -> jax.Array:
    """Cut out the samples under each piece: (b, s) -> (b * p, piece samples), with zeros outside the clips."""
    length, margin = spectrogram.piece_samples, spectrogram.n_fft // 2
    padded = jnp.pad(clips, ((0, 0), (margin, length)))
    begins = [features.first_sample(frame, spectrogram) + margin for frame in starts]
    return jnp.stack([padded[:, begin : begin + length] for begin in begins], axis=1).reshape(-1, length)


def list_weights(detector: SectionDetector) -> ExportedArrays:
    """Return the arrays that every section of the machine type needs, by name."""
    weights = {name: np.asarray(leaf) for part in detector.parts for name, leaf in _list_model_weights(part).items()}
    if detector.simple.scorers:
        weights[_FILTERS] = log_mel.mel_filters(detector.simple.sample_rate_hz).astype(np.float32)
    return weights


def _list_model_weights(part: CheckpointModels) -> ExportedArrays:
    """Return the arrays of a checkpoint that embedding needs, by name; `_make_model` is the inverse."""
    return {
        f"{part.name}/{kind}/{variant}/{path}": leaf
        for kind, by_variant in part.model._asdict().items()
        for variant in part.spec.variants
        for path, leaf in by_variant[variant].items()
        if path not in fleet_model.HEAD_PATHS
    }


def _make_model(part: CheckpointModels, arrays: ExportedArrays) -> Model:
    return Model(
        *(
            {
                variant: {
                    path: arrays[f"{part.name}/{kind}/{variant}/{path}"]
                    for path in by_variant[variant]
                    if path not in fleet_model.HEAD_PATHS
                }
                for variant in part.spec.variants
            }
            for kind, by_variant in part.model._asdict().items()
        )
    )


def _list_distances(detector: SectionDetector) -> Iterator[tuple[str, Neighbours | Gaussian]]:
    for part in detector.parts:
        for member in part.members:
            for i, distance in enumerate(member.scorer.distances):
                yield f"bank/{part.name}/{member.variant}/{i}", distance
    for name, scorer in detector.simple.scorers.items():
        for i, distance in enumerate(scorer.distances):
            yield f"{_STATISTICS}/{name}/{i}", distance


def find_longest_bank(detector: SectionDetector) -> int:
    """Return the number of pieces of the largest bank."""
    return max((len(one.vectors) for _, one in _list_distances(detector) if isinstance(one, Neighbours)), default=0)


def list_banks(detector: SectionDetector, length: int) -> ExportedArrays:
    """Return the arrays of a section by name. Banks of neighbours are padded to `length` pieces."""
    arrays: ExportedArrays = {}
    if detector.combination:
        arrays[_ORIGINS], arrays[_UNITS] = np.array(detector.combination.scales).T
        arrays[_WEIGHTS] = np.array(detector.combination.weights)
    for name, distance in _list_distances(detector):
        if isinstance(distance, Gaussian):
            arrays |= {f"{name}/mean": distance.mean, f"{name}/whitening": distance.whitening}
        else:
            missing = max(length, distance.k) - len(distance.vectors)
            spacing = np.ones(len(distance.vectors), np.float32) if distance.spacing is None else distance.spacing
            arrays[f"{name}/vectors"] = np.pad(distance.vectors, ((0, missing), (0, 0)))
            arrays[f"{name}/spacing"] = np.pad(spacing, (0, missing), constant_values=np.nan)  # NaN marks padding
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _measure(distance: Neighbours | Gaussian, arrays: ExportedArrays, name: str, queries: jax.Array) -> jax.Array:
    """Compute a distance in JAX from the function's arguments: (q, d) -> (q,)."""
    if isinstance(distance, Gaussian):
        centred = queries - arrays[f"{name}/mean"][None]
        return jnp.linalg.norm(jnp.matmul(centred, arrays[f"{name}/whitening"], precision="highest"), axis=1)
    cosines = jnp.matmul(queries, arrays[f"{name}/vectors"].T, precision="highest")
    distances = (1 - cosines) / arrays[f"{name}/spacing"][None]
    nearest = -jax.lax.top_k(jnp.where(jnp.isnan(distances), -jnp.inf, -distances), distance.k)[0]
    finite = jnp.isfinite(nearest)
    return jnp.sum(jnp.where(finite, nearest, 0.0), axis=1) / jnp.sum(finite, axis=1)
