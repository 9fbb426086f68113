"""Clip scores from embeddings: banks, distances and pooling over pieces."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from asdjax.data.clips import Clip
from asdjax.fleet.embed import Embeddings
from asdjax.inference.backends import make_scorer, score_left_out
from asdjax.inference.bank import Bank, Scoring, group_clips, make_bank

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
        scores.train.update(_pool_clips(score_left_out(bank, bank, scoring), bank.clips[:, 0], train_clips, scoring))
    return scores._replace(unscored=tuple(clip for clip in train_clips if clip not in scores.train))


class Copies(NamedTuple):
    """Changed copies of training clips: n clips, their pieces, and the number (n,) of the clip each was made from."""

    clips: Sequence[Clip]
    pieces: Embeddings
    originals: np.ndarray


def score_changed_copies(
    copies: Copies,
    bank_clips: Sequence[Clip],
    bank_embedded: Embeddings,
    variant: str,
    scoring: Scoring,
) -> dict[Clip, float]:
    """Score changed copies of training clips by one variant, as `score_by_banks` scores the training clips.

    Pieces of the clip that a copy was made from do not count. `copies.originals` are numbers in `bank_clips`.
    """
    scores: dict[Clip, float] = {}
    embedded, of_piece = copies.pieces, copies.originals[copies.pieces.clip]
    for members in group_clips(bank_clips, scoring.bank).values():
        rows = np.flatnonzero(np.isin(of_piece, members))
        if len(rows):
            bank = make_bank(bank_clips, members, bank_embedded, variant)
            is_target = np.array([bank_clips[number].domain == "target" for number in of_piece[rows]])
            clips = np.stack([of_piece[rows]] * 2, axis=1)
            distances = score_left_out(Bank(embedded.vectors[variant][rows], clips, is_target), bank, scoring)
            scores.update(_pool_clips(distances, embedded.clip[rows], copies.clips, scoring))
    return scores


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
