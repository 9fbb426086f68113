"""Clip scores from embeddings: banks, distances and pooling over pieces."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from asdjax.data.clips import Clip
from asdjax.fleet.embed import Embeddings
from asdjax.inference.backends import make_scorer, score_within
from asdjax.inference.bank import Scoring, group_clips, make_bank

#: Poolings of piece scores (..., p), of numpy or JAX, to clip scores (...); `top` pieces count in "top".
POOLINGS: dict[str, Callable[[Any, int], Any]] = {
    "mean": lambda pieces, top: pieces.mean(axis=-1),
    "max": lambda pieces, top: pieces.max(axis=-1),
    "top": lambda pieces, top: pieces.__array_namespace__().sort(pieces, axis=-1)[..., -top:].mean(axis=-1),
}


class ClipScores(NamedTuple):
    """The scores of one model for training and test clips; a higher score is more anomalous.

    A training clip is scored without its own pieces. If that leaves its bank empty, it is listed as `unscored`. Test
    clips without a bank are left out.
    """

    train: dict[Clip, float]
    test: dict[Clip, float]
    unscored: tuple[Clip, ...] = ()

    def select_machine(self, machine: str) -> "ClipScores":
        """Return the scores of one machine type."""
        return ClipScores(
            {clip: score for clip, score in self.train.items() if clip.machine == machine},
            {clip: score for clip, score in self.test.items() if clip.machine == machine},
            tuple(clip for clip in self.unscored if clip.machine == machine),
        )


def score_by_banks(
    train_clips: Sequence[Clip],
    train: Embeddings,
    test_clips: Sequence[Clip],
    test: Embeddings,
    variant: str,
    scoring: Scoring,
) -> ClipScores:
    """Score every clip by one variant's distances to the training pieces of its machine type and section."""
    scores = ClipScores({}, {})
    groups = group_clips(train_clips, scoring.bank)
    banks = {key: make_bank(train_clips, members, train, variant) for key, members in groups.items()}
    for key, members in group_clips(test_clips, scoring.bank).items():
        if key in banks:
            queries = make_bank(test_clips, members, test, variant)
            distances = make_scorer(banks[key], scoring)(queries.vectors)
            scores.test.update(_pool_clips(distances, queries.clips[:, 0], test_clips, scoring))
    for bank in banks.values():
        scores.train.update(_pool_clips(score_within(bank, scoring), bank.clips[:, 0], train_clips, scoring))
    return scores._replace(unscored=tuple(clip for clip in train_clips if clip not in scores.train))


def _pool_clips(
    distances: np.ndarray, numbers: np.ndarray, clips: Sequence[Clip], scoring: Scoring
) -> Iterator[tuple[Clip, float]]:
    """Yield each clip with its finite score, from piece scores (p,) and their ascending clip numbers (p,)."""
    unique, begins = np.unique(numbers, return_index=True)
    for number, pieces in zip(unique, np.split(distances, begins[1:]), strict=True):
        score = pool_pieces(pieces, scoring)
        if np.isfinite(score):
            yield clips[number], score


def pool_pieces(pieces: np.ndarray, scoring: Scoring) -> float:
    """Pool the scores of a clip's pieces (p,) to the clip's score."""
    return float(POOLINGS[scoring.pooling](pieces.astype(np.float64), scoring.top_pieces))
