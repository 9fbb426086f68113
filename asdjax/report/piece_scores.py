"""Scores of single pieces by the headline system, and the nearest normal clip of a test clip.

Letters: n clips, p pieces, q queries, d embedding.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.evaluation.clip_table import ClipRow
from asdjax.inference import ensembles
from asdjax.inference.bank import make_bank_key
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.combination import Combination, make_combination
from asdjax.inference.loaded_evaluation import Member
from asdjax.inference.stored_embeddings import Checkpointed, Embedded
from asdjax.report.report_inputs import ReportedRun


class ModelKey(NamedTuple):
    """One model of a fleet: its checkpoint line and its variant."""

    line: str
    variant: str


#: Embeddings of the same pieces by each model, (q, d) each.
Embeddings = Mapping[ModelKey, np.ndarray]


class Models:
    """Models of one fleet, all of which the headline system averages."""

    def __init__(self, fleet: ReportedRun, config: Config) -> None:
        self.fleet, self.config = fleet, config
        self.keys = [
            ModelKey(line, variant) for line, checkpoint in fleet.checkpoints.items() for variant in checkpoint.variants
        ]
        self._first = fleet.checkpoints[self.keys[0].line]
        self.bank_clips, self.test_clips = self._first.kept.bank.clips, self._first.kept.test.clips
        self.digests = {
            clip: sha256 for part in self._first.kept for clip, sha256 in zip(part.clips, part.digests, strict=True)
        }
        self._numbers = {
            (clip.machine, clip.section, clip.domain, clip.name): i for i, clip in enumerate(self.test_clips)
        }
        self._members: dict[tuple[str | None, ...], dict[ModelKey, Member]] = {}
        self._combinations: dict[tuple[str, str], Combination] = {}

    def find_number(self, row: ClipRow) -> int:
        """Return the index of a row's clip in `test_clips`."""
        clip = row.clip
        return self._numbers[clip.machine, clip.section, clip.domain, clip.name]

    def read_embeddings(self, number: int) -> dict[ModelKey, np.ndarray]:
        """Return the stored embeddings of a test clip's pieces, (p, d) by model."""
        return {key: self._rows(self.stored(key).test, key.variant, number) for key in self.keys}

    def stored(self, key: ModelKey) -> Checkpointed:
        """Return the embeddings that the evaluation stored for a model's checkpoint."""
        return self.fleet.checkpoints[key.line].kept

    def score(self, clip: Clip, embeddings: Embeddings) -> np.ndarray:
        """Return the headline system's score of each piece of a test clip, (q,) float64.

        It is the mean over models; the simple detectors, if they are in the system, have the same score for each piece.
        If clips are pooled by the mean, the mean over a clip's pieces is the clip's score.
        """
        members = self._members_for(clip)
        average = np.mean(
            [members[key].normalise(members[key].scorer(vectors)) for key, vectors in embeddings.items()], axis=0
        )
        if not self.fleet.simple:
            return average
        simple = self._simple_scores(clip.machine)
        return self._find_combination(clip)([average, *(scores.test[clip] for scores in simple)])

    def _simple_scores(self, machine: str) -> list[ClipScores]:
        return [self.fleet.statistics[machine].scores_of(name, machine) for name in self.fleet.simple]

    def _find_combination(self, clip: Clip) -> Combination:
        """Return the combination for clips of a clip's machine type and section."""
        place = clip.machine, clip.section
        if place not in self._combinations:
            models = [self.stored(key).scores_of(key.variant, clip.machine) for key in self.keys]
            average = ensembles.average(models, ensembles.choose_normaliser(self.config, len(models)))
            self._combinations[place] = make_combination([average, *self._simple_scores(clip.machine)], clip.section)
        return self._combinations[place]

    def find_nearest(self, number: int) -> tuple[int, float]:
        """Return the index in `bank_clips` of a test clip's nearest training clip, and their cosine.

        The cosine is that of the clips' mean embeddings, averaged over models. Only the test clip's bank is searched.
        """
        bank = self._first.bank_for(self.test_clips[number])
        cosines = np.zeros(len(bank))
        for key in self.keys:
            stored = self.stored(key)
            test_mean = compute_clip_means(stored.test, key.variant, [number])[0]
            cosines += compute_clip_means(stored.bank, key.variant, bank) @ test_mean
        best = int(np.argmax(np.nan_to_num(cosines, nan=-np.inf)))
        return bank[best], float(cosines[best]) / len(self.keys)

    def _rows(self, part: Embedded, variant: str, number: int) -> np.ndarray:
        return np.asarray(part.pieces.vectors[variant][part.pieces.clip == number])

    def _members_for(self, clip: Clip) -> dict[ModelKey, Member]:
        group = make_bank_key(clip, self.config.evaluate.bank)
        if group not in self._members:
            ensemble = ensembles.choose_normaliser(self.config, len(self.keys))
            self._members[group] = {
                ModelKey(line, member.variant): member
                for line, checkpoint in self.fleet.checkpoints.items()
                for member in checkpoint.members(clip, ensemble)
            }
        return self._members[group]


def compute_clip_means(part: Embedded, variant: str, numbers: Sequence[int]) -> np.ndarray:
    """Return the mean embedding of each clip's pieces, scaled to unit length: (n, d)."""
    begins, ends = (np.searchsorted(part.pieces.clip, numbers, side) for side in ("left", "right"))
    vectors = part.pieces.vectors[variant]
    means = np.stack([vectors[begin:end].mean(axis=0) for begin, end in zip(begins, ends, strict=True)])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny)
