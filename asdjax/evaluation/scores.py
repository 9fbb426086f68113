"""From embeddings to a score per clip: banks, nearest neighbours, pooling."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asdjax.corpus.clips import Clip
from asdjax.evaluation import knn
from asdjax.training.embed import Embeddings


class ClipScores(NamedTuple):
    """One model's scores, higher = more anomalous. A training clip is scored without its own pieces; those whose
    bank is empty then have no score and are `unscored`. Test clips without a bank are left out."""

    train: dict[Clip, float]
    test: dict[Clip, float]
    unscored: tuple[Clip, ...] = ()

    def of_machine(self, machine: str) -> "ClipScores":
        """The part that is one machine type's."""
        return ClipScores(
            {clip: score for clip, score in self.train.items() if clip.machine == machine},
            {clip: score for clip, score in self.test.items() if clip.machine == machine},
            tuple(clip for clip in self.unscored if clip.machine == machine),
        )


def score_clips(
    train_clips: Sequence[Clip],
    train: Embeddings,
    test_clips: Sequence[Clip],
    test: Embeddings,
    variant: str,
    *,
    k: int,
    bank: str,
    pooling: str,
) -> ClipScores:
    """Score every clip against the training pieces of its own machine type and section.

    `bank` "section" takes both domains together, "same_domain" the clip's own only.
    """
    scores = ClipScores({}, {})
    banks = _grouped(train_clips, bank)
    for key, members in _grouped(test_clips, bank).items():
        rows, queries = _rows(test, members), test.vectors[variant]
        in_bank = _rows(train, banks.get(key, []))
        distance = knn.mean_distance(queries[rows], train.vectors[variant][in_bank], k)
        scores.test.update(_pooled(distance, test.clip[rows], test_clips, pooling))
    for members in banks.values():
        rows = _rows(train, members)
        vectors, clip = train.vectors[variant][rows], train.clip[rows]
        distance = knn.mean_distance(vectors, vectors, k, query_clip=clip, bank_clip=clip)
        scores.train.update(_pooled(distance, clip, train_clips, pooling))
    return scores._replace(unscored=tuple(clip for clip in train_clips if clip not in scores.train))


def _grouped(clips: Sequence[Clip], bank: str) -> Mapping[tuple[str | None, ...], list[int]]:
    """Numbers of the clips that share a bank."""
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for number, clip in enumerate(clips):
        key = (clip.machine, clip.section, clip.domain if bank == "same_domain" else None)
        groups.setdefault(key, []).append(number)
    return groups


def _rows(embeddings: Embeddings, clips: Sequence[int]) -> np.ndarray:
    """Rows of the pieces of these clips."""
    return np.flatnonzero(np.isin(embeddings.clip, clips))


def _pooled(
    distance: np.ndarray, clip: np.ndarray, clips: Sequence[Clip], pooling: str
) -> Iterator[tuple[Clip, float]]:
    """Piece scores (p,) and their clips' numbers (p,) -> each clip's score; without those that have none."""
    for number in np.unique(clip):
        pieces = distance[clip == number].astype(np.float64)
        score = pieces.max() if pooling == "max" else pieces.mean()
        if np.isfinite(score):
            yield clips[number], float(score)
