"""From embeddings to a score per clip: banks, distances, pooling."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from asdjax.data.clips import Clip
from asdjax.fleet.embed import Embeddings
from asdjax.inference.backends import make_scorer, scores_within
from asdjax.inference.bank import Scoring, group_clips, make_bank


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
    scoring: Scoring,
) -> ClipScores:
    """Score every clip against the training pieces of its own machine type and section."""
    scores = ClipScores({}, {})
    groups = group_clips(train_clips, scoring.bank)
    banks = {key: make_bank(train_clips, members, train, variant) for key, members in groups.items()}
    for key, members in group_clips(test_clips, scoring.bank).items():
        if key in banks:
            queries = make_bank(test_clips, members, test, variant)
            distance = make_scorer(banks[key], scoring)(queries.vectors)
            scores.test.update(_of_clips(distance, queries.clips[:, 0], test_clips, scoring))
    for bank in banks.values():
        scores.train.update(_of_clips(scores_within(bank, scoring), bank.clips[:, 0], train_clips, scoring))
    return scores._replace(unscored=tuple(clip for clip in train_clips if clip not in scores.train))


def _of_clips(
    distance: np.ndarray, clip: np.ndarray, clips: Sequence[Clip], scoring: Scoring
) -> Iterator[tuple[Clip, float]]:
    """Piece scores (p,) and their clips' numbers (p,), ascending -> each clip's score; without those that have none."""
    numbers, begins = np.unique(clip, return_index=True)
    for number, pieces in zip(numbers, np.split(distance, begins[1:]), strict=True):
        score = pooled(pieces, scoring)
        if np.isfinite(score):
            yield clips[number], score


def pooled(pieces: np.ndarray, scoring: Scoring) -> float:
    """A clip's score from those of its pieces (p,)."""
    return float(POOLINGS[scoring.pooling](pieces.astype(np.float64), scoring.top_pieces))


POOLINGS: dict[str, Callable[[Any, int], Any]] = {
    "mean": lambda pieces, top: pieces.mean(axis=-1),
    "max": lambda pieces, top: pieces.max(axis=-1),
    "top": lambda pieces, top: pieces.__array_namespace__().sort(pieces, axis=-1)[..., -top:].mean(axis=-1),
}
"""Scores of pieces (..., p), numpy's or JAX's, and how many `top` ones count -> (...)."""
