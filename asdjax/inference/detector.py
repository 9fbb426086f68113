"""The detector for new clips of one machine type and section: models, simple detectors, or both."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asdjax import features
from asdjax.errors import InputError
from asdjax.fleet import embed
from asdjax.fleet.embed import Embeddings
from asdjax.fleet.fleet_model import Model, ModelSpec
from asdjax.inference.anomalous_seconds import Spans, TimedPieces, time_pieces, time_whole_clip
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import pool_pieces
from asdjax.inference.combination import Combination
from asdjax.inference.loaded_evaluation import Member
from asdjax.inference.log_mel_statistics import SimpleDetectors
from asdjax.inference.off_rule import OffRule
from asdjax.inference.thresholds import Threshold

#: Pieces embedded in one call: a 10 s clip has nine, and padding costs computation. A stream brings as many at once if
#: it is ahead of its scores, else one.
PIECES_PER_BATCH = 3


class CheckpointModels(NamedTuple):
    """The models that a detector takes from one checkpoint, `name`."""

    name: str
    spec: ModelSpec
    model: Model
    members: Sequence[Member]


class ClipResult(NamedTuple):
    """A detector's result for a clip: score, threshold, its pieces with their scores, and if the machine is off."""

    score: float
    threshold: float
    pieces: TimedPieces
    is_off: bool

    @property
    def is_anomaly(self) -> bool:
        """Return True if the score is above the threshold."""
        return self.score > self.threshold

    @property
    def anomalous_seconds(self) -> Spans:
        """Return the time spans, in seconds, of the pieces above the threshold."""
        return self.pieces.above(self.threshold)


class SectionDetector(NamedTuple):
    """A system for the clips of one machine type and section: models, simple detectors, or both, combined.

    `off` is the rule by which the machine is off, and `clip_pieces` counts the pieces of a usual training clip.
    """

    parts: Sequence[CheckpointModels]
    simple: SimpleDetectors
    combination: Combination | None
    scoring: Scoring
    threshold: Threshold
    spectrogram: features.Spectrogram
    stride_frames: int
    off: OffRule
    clip_pieces: int

    def embed(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Return the unit embeddings (p, d) of a clip's pieces by variant.

        A second model of a variant is `<variant>@<run>/<line>`. `samples` are int16 (s,).
        """
        embeddings: dict[str, np.ndarray] = {}
        for part in self.parts:
            vectors = self._embed_part(part, samples).vectors
            for member in part.members:
                name = member.variant if member.variant not in embeddings else f"{member.variant}@{part.name}"
                embeddings[name] = vectors[member.variant]
        return embeddings

    def score_clip(self, samples: np.ndarray) -> ClipResult:
        """Score a clip int16 (s,) of at least one piece. Raises InputError if a score is not finite.

        The simple detectors have one score for the clip, which counts in each of its pieces; without models the clip is
        one piece.
        """
        distances = [pair for part in self.parts for pair in self._measure_distances(part, samples)]
        simple = self.simple(samples)
        clip = self.pool(distances, simple)
        scores = self._join([member.normalise(pieces) for member, pieces in distances], simple)
        if not np.isfinite(scores).all():
            raise _infinite_error(scores)
        if not self.parts:
            pieces = time_whole_clip(len(samples), scores, self.spectrogram)
        else:
            count = len(embed.list_piece_starts(len(samples), self.spectrogram, self.stride_frames))
            pieces = time_pieces(len(samples), np.broadcast_to(scores, count), self.spectrogram, self.stride_frames)
        is_off, _ = self.off.examine(samples, self.spectrogram.sample_rate_hz)
        return ClipResult(clip, self.threshold.value, pieces, is_off)

    def measure_crops(self, crops: np.ndarray) -> list[tuple[Member, np.ndarray]]:
        """Return each model with the distances (p,) of pieces, given as the samples under them, int16 (p, s)."""
        measured = []
        for part in self.parts:
            vectors = embed.embed_crops(part.spec, part.model, crops)
            measured += [(member, member.scorer(vectors[member.variant])) for member in part.members]
        return measured

    def pool(self, distances: Sequence[tuple[Member, np.ndarray]], simple: Sequence[float]) -> float:
        """Return a clip's score from each model's distances (p,) of its pieces and the simple detectors' scores.

        Raises InputError if it is not finite.
        """
        pooled = [member.normalise(np.array([pool_pieces(pieces, self.scoring)])) for member, pieces in distances]
        score = self._join(pooled, simple)
        if not np.isfinite(score).all():
            raise _infinite_error(score)
        return float(score[0])

    def _join(self, models: Sequence[np.ndarray], simple: Sequence[float]) -> np.ndarray:
        """Return the system's scores (n,), from the normalised ones of each model (n,) and the simple detectors'."""
        average = [np.mean(models, axis=0)] if models else []
        if self.combination is None:
            (only,) = [*average, *map(np.atleast_1d, simple)]
            return only
        return np.atleast_1d(self.combination([*average, *simple]))

    def _measure_distances(self, part: CheckpointModels, samples: np.ndarray) -> list[tuple[Member, np.ndarray]]:
        """Return each model with the distances (p,) of the clip's pieces."""
        embedded = self._embed_part(part, samples)
        return [(member, member.scorer(embedded.vectors[member.variant])) for member in part.members]

    def _embed_part(self, part: CheckpointModels, samples: np.ndarray) -> Embeddings:
        return embed.embed_clips(
            part.spec,
            part.model,
            [samples],
            stride_frames=self.stride_frames,
            batch_size=PIECES_PER_BATCH,
            what="embed",
            quiet=True,
        )


def _infinite_error(scores: np.ndarray) -> InputError:
    (bad, *_) = scores[~np.isfinite(scores)]
    return InputError(f"expected a finite score, got {bad}; evaluate another checkpoint or with larger banks")
