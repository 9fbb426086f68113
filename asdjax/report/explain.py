"""Explanation of a clip's score: the seconds, the frequencies, and the nearest normal clip.

Letters: s samples, p pieces, n bands, q pieces of several clips, d embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asdjax import features
from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.features import Spectrogram
from asdjax.fleet import embed
from asdjax.inference.anomalous_seconds import Spans, TimedPieces
from asdjax.report import occlusion, recordings
from asdjax.report.clip_selection import ChosenClip
from asdjax.report.occlusion import PiecePair
from asdjax.report.piece_scores import Embeddings, ExplainedDetectors, ModelKey, open_detectors
from asdjax.report.report_inputs import ReportedRun
from asdjax.runtime.progress import progress

# Bands are replaced in this number of a clip's highest-scoring pieces. Every piece costs one embedding per band.
OCCLUDED_PIECES = 4


class Bands(NamedTuple):
    """Contributions of frequency bands to a clip's highest-scoring pieces.

    `edges_hz` (n + 1,); `before` is the pieces' mean score, `after` (n,) their mean score with each band replaced by
    normal sound.
    """

    edges_hz: np.ndarray
    before: float
    after: np.ndarray

    @property
    def decrease(self) -> np.ndarray:
        """Return the decrease of the score with each band replaced, (n,). It is negative where the score rises."""
        return self.before - self.after


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A test clip next to the nearest normal training clip, with the samples of both, int16 (s,).

    `cosine` compares the mean embeddings of the two clips; without models, their log-mel statistics without the level.
    """

    chosen: ChosenClip
    clip: Clip
    samples: np.ndarray
    pieces: TimedPieces
    neighbour: Clip
    neighbour_samples: np.ndarray
    cosine: float

    @property
    def anomalous(self) -> Spans:
        """Return the seconds of the pieces whose score is above the clip's threshold, joined where they touch."""
        return self.pieces.above(self.chosen.row.threshold)

    @property
    def highest(self) -> np.ndarray:
        """Return the indices of the highest-scoring pieces, in order of time."""
        return np.sort(np.argsort(-self.pieces.score, kind="stable")[:OCCLUDED_PIECES])


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation(Comparison):
    """A comparison together with the contributions of the frequency bands."""

    bands: Bands


def explain(workdir: Path, config: Config, fleet: ReportedRun, chosen: Sequence[ChosenClip]) -> list[Explanation]:
    """Explain clips of a fleet's machine types.

    Raises InputError if the sound of a clip, or an evaluated checkpoint, is no longer there.
    """
    if not chosen:
        return []
    models = open_detectors(fleet, config)
    comparisons = _compare(workdir, config, models, chosen)
    occluded = (
        _occlude_pieces(fleet, config, comparisons)
        if fleet.checkpoints
        else [_occlude_statistics(models, comparison) for comparison in comparisons]
    )
    return [
        Explanation(**vars(comparison), bands=_score_bands(models, comparison, vectors))
        for comparison, vectors in zip(comparisons, occluded, strict=True)
    ]


def _compare(
    workdir: Path, config: Config, models: ExplainedDetectors, chosen: Sequence[ChosenClip]
) -> list[Comparison]:
    numbers = [models.find_number(one.row) for one in chosen]
    nearest = [models.find_nearest(number) for number in numbers]
    clips = [models.test_clips[number] for number in numbers]
    neighbours = [models.bank_clips[number] for number, _ in nearest]
    samples = _load_samples(workdir, config, {clip: models.digests[clip] for clip in clips + neighbours})
    comparisons = []
    for one, number, clip, neighbour, (_, cosine) in zip(chosen, numbers, clips, neighbours, nearest, strict=True):
        score = models.score(clip, models.read_embeddings(number))
        comparisons.append(
            Comparison(
                chosen=one,
                clip=clip,
                samples=samples[clip],
                pieces=models.time(len(samples[clip]), score),
                neighbour=neighbour,
                neighbour_samples=samples[neighbour],
                cosine=cosine,
            )
        )
    return comparisons


def _load_samples(workdir: Path, config: Config, digests: Mapping[Clip, str]) -> dict[Clip, np.ndarray]:
    """Load the samples of clips, given with the SHA-256 of their recordings."""
    samples: dict[Clip, np.ndarray] = {}
    for machine in {clip.machine: None for clip in digests}:
        clips = [clip for clip in digests if clip.machine == machine]
        by_path = recordings.load_samples(workdir, config, machine, {clip.path: digests[clip] for clip in clips})
        samples |= {clip: by_path[clip.path] for clip in clips}
    return samples


def _occlude_statistics(models: ExplainedDetectors, comparison: Comparison) -> Embeddings:
    """Return the statistics of a clip with each band replaced by its neighbour's, (1, n, d) by simple detector."""
    own = models.read_embeddings(models.find_number(comparison.chosen.row))
    normal = models.read_bank_embeddings(models.bank_clips.index(comparison.neighbour))
    spectrogram = features.make_spectrogram(models.config)
    return {key: occlusion.replace_mel_bands(own[key], normal[key], spectrogram)[None] for key in models.keys}


def _occlude_pieces(fleet: ReportedRun, config: Config, comparisons: Sequence[Comparison]) -> list[Embeddings]:
    """Return the embeddings of each clip's highest-scoring pieces with each band replaced, (p, n, d) by model."""
    spectrogram = features.make_spectrogram(config)
    pairs = [_cut_pairs(one, spectrogram, config.evaluate.stride_frames) for one in comparisons]
    occluded = _embed_occluded(fleet, [pair for clip_pairs in pairs for pair in clip_pairs], config.evaluate.batch_size)
    ends = np.cumsum([len(clip_pairs) for clip_pairs in pairs]).tolist()
    return [
        {key: vectors[begin:end] for key, vectors in occluded.items()}
        for begin, end in zip([0, *ends], ends, strict=False)
    ]


def _cut_pairs(comparison: Comparison, spectrogram: Spectrogram, stride_frames: int) -> list[PiecePair]:
    """Cut the highest-scoring pieces, and the pieces at the same time of the neighbour, repeated if it is shorter."""
    own, normal = comparison.samples, comparison.neighbour_samples
    starts, others = (embed.list_piece_starts(len(samples), spectrogram, stride_frames) for samples in (own, normal))
    length = spectrogram.piece_samples
    return [
        PiecePair(
            features.crop(own, features.first_sample(starts[k], spectrogram), length),
            features.crop(normal, features.first_sample(others[k % len(others)], spectrogram), length),
        )
        for k in comparison.highest.tolist()
    ]


def _embed_occluded(fleet: ReportedRun, pairs: Sequence[PiecePair], batch_size: int) -> Embeddings:
    """Embed pairs with each band replaced, by every evaluated model: (q, n, d) each."""
    vectors: dict[ModelKey, np.ndarray] = {}
    with progress(f"{fleet.name} explain", len(fleet.checkpoints), "checkpoint") as shown:
        for line, checkpoint in fleet.checkpoints.items():
            try:
                spec, model = checkpoint.load()
            except InputError as error:
                raise InputError(f"{error}, or asdjax report with --clips 0") from None
            for variant, embedded in occlusion.embed_occluded(spec, model, pairs, batch_size).items():
                vectors[ModelKey(line, variant)] = embedded
            shown.update()
    return vectors


def _score_bands(models: ExplainedDetectors, comparison: Comparison, occluded: Embeddings) -> Bands:
    """Score the occluded pieces of one clip, (p, n, d) by model."""
    pieces, bands, _ = next(iter(occluded.values())).shape
    flat = {key: vectors.reshape(pieces * bands, -1) for key, vectors in occluded.items()}
    after = models.score(comparison.clip, flat).reshape(pieces, bands).mean(axis=0)
    before = float(comparison.pieces.score[comparison.highest].mean())
    return Bands(occlusion.make_band_edges_hz(features.make_spectrogram(models.config)), before, after)
