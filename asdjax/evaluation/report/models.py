"""What the headline system's models say of single pieces, and which normal clips they take a clip for.

Letters: n clips, p pieces, q queries, d embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asdjax.config import Config
from asdjax.corpus.clips import Clip
from asdjax.evaluation.backends import scorer_of
from asdjax.evaluation.bank import Scoring, bank_of, grouped
from asdjax.evaluation.embeddings import Embedded
from asdjax.evaluation.ensembles import SCALES
from asdjax.evaluation.report.inputs import Fleet

Scores = Callable[[np.ndarray], np.ndarray]
"""Unit embeddings (q, d) -> scores (q,) float64 of one model, on the scale on which models are averaged."""


class ModelKey(NamedTuple):
    """One of a fleet's models: its checkpoint line and its variant."""

    line: str
    variant: str


Vectors = Mapping[ModelKey, np.ndarray]
"""The same pieces as each model embeds them: (q, d) each."""


class Models:
    """A fleet's models, all of which the headline system averages."""

    def __init__(self, fleet: Fleet, config: Config) -> None:
        self.fleet, self.config = fleet, config
        self.keys = [ModelKey(line, variant) for line in fleet.steps for variant in config.variants]
        first = fleet.kept[self.keys[0].line]
        self.bank_clips, self.test_clips = first.bank.clips, first.test.clips
        self._number = {
            (clip.machine, clip.section, clip.domain, clip.name): i for i, clip in enumerate(self.test_clips)
        }
        self._scores: dict[tuple[str | None, ...], dict[ModelKey, Scores]] = {}

    def number_of(self, machine: str, section: str, domain: str | None, name: str) -> int:
        """Where a test clip stands among them."""
        return self._number[machine, section, domain, name]

    def vectors_of(self, number: int) -> dict[ModelKey, np.ndarray]:
        """A test clip's pieces as the evaluation has kept them: (p, d) by model."""
        return {key: self._rows(self.fleet.kept[key.line].test, key.variant, number) for key in self.keys}

    def score(self, clip: Clip, vectors: Vectors) -> np.ndarray:
        """The headline system's score of pieces of a clip, (q,): the mean over models, whose mean over a clip's pieces
        is the clip's score where clips are pooled by the mean."""
        scores = self._scores_for(clip)
        return np.mean([scores[key](of_model) for key, of_model in vectors.items()], axis=0)

    def nearest(self, number: int) -> tuple[int, float]:
        """The training clip, of those that a test clip is held against, of nearest mean embedding; and the cosine of
        the two, the mean over models."""
        members = self._bank_for(self.test_clips[number])
        cosines = np.zeros(len(members))
        for line, variant in self.keys:
            kept = self.fleet.kept[line]
            cosines += clip_means(kept.bank, variant, members) @ clip_means(kept.test, variant, [number])[0]
        best = int(np.argmax(cosines))
        return members[best], float(cosines[best]) / len(self.keys)

    def _rows(self, part: Embedded, variant: str, number: int) -> np.ndarray:
        return np.asarray(part.pieces.vectors[variant][part.pieces.clip == number])

    def _bank_for(self, clip: Clip) -> list[int]:
        return grouped(self.bank_clips, self.config.evaluate.bank)[self._group(clip)]

    def _group(self, clip: Clip) -> tuple[str | None, ...]:
        return next(iter(grouped([clip], self.config.evaluate.bank)))

    def _scores_for(self, clip: Clip) -> dict[ModelKey, Scores]:
        group = self._group(clip)
        if group not in self._scores:
            members = self._bank_for(clip)
            self._scores[group] = {key: self._model_scores(key, clip.machine, members) for key in self.keys}
        return self._scores[group]

    def _model_scores(self, key: ModelKey, machine: str, members: Sequence[int]) -> Scores:
        kept = self.fleet.kept[key.line]
        distance = scorer_of(bank_of(kept.bank.clips, members, kept.bank.pieces, key.variant), Scoring.of(self.config))
        how = self.config.evaluate.ensemble if len(self.keys) > 1 else "score"
        scale = SCALES[how](kept.scores_of(key.variant, machine))
        return lambda vectors: scale(distance(vectors).astype(np.float64))


def clip_means(part: Embedded, variant: str, numbers: Sequence[int]) -> np.ndarray:
    """The mean embedding of each of some clips' pieces, at unit length: (n, d)."""
    begins, ends = (np.searchsorted(part.pieces.clip, numbers, side) for side in ("left", "right"))
    vectors = part.pieces.vectors[variant]
    means = np.stack([vectors[begin:end].mean(axis=0) for begin, end in zip(begins, ends, strict=True)])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny)
