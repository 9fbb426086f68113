"""What the headline system's models say of single pieces, and which normal clips they take a clip for.

Letters: n clips, p pieces, q queries, d embedding.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.inference.bank import bank_group
from asdjax.inference.ensembles import choose_scale
from asdjax.inference.loaded_evaluation import Member
from asdjax.inference.stored_embeddings import Checkpointed, Embedded
from asdjax.report.report_inputs import ReportedFleet


class ModelKey(NamedTuple):
    """One of a fleet's models: its checkpoint line and its variant."""

    line: str
    variant: str


Vectors = Mapping[ModelKey, np.ndarray]
"""The same pieces as each model embeds them: (q, d) each."""


class Models:
    """A fleet's models, all of which the headline system averages."""

    def __init__(self, fleet: ReportedFleet, config: Config) -> None:
        self.fleet, self.config = fleet, config
        self.keys = [
            ModelKey(line, variant) for line, checkpoint in fleet.checkpoints.items() for variant in checkpoint.variants
        ]
        self._first = fleet.checkpoints[self.keys[0].line]
        self.bank_clips, self.test_clips = self._first.kept.bank.clips, self._first.kept.test.clips
        self.digests = {
            clip: sha256 for part in self._first.kept for clip, sha256 in zip(part.clips, part.digests, strict=True)
        }
        self._number = {
            (clip.machine, clip.section, clip.domain, clip.name): i for i, clip in enumerate(self.test_clips)
        }
        self._members: dict[tuple[str | None, ...], dict[ModelKey, Member]] = {}

    def number_of(self, machine: str, section: str, domain: str | None, name: str) -> int:
        """Where a test clip stands among them."""
        return self._number[machine, section, domain, name]

    def vectors_of(self, number: int) -> dict[ModelKey, np.ndarray]:
        """A test clip's pieces as the evaluation has kept them: (p, d) by model."""
        return {key: self._rows(self.kept(key).test, key.variant, number) for key in self.keys}

    def kept(self, key: ModelKey) -> Checkpointed:
        """What the evaluation has kept of a model's checkpoint."""
        return self.fleet.checkpoints[key.line].kept

    def score(self, clip: Clip, vectors: Vectors) -> np.ndarray:
        """The headline system's score of pieces of a clip, (q,): the mean over models, whose mean over a clip's pieces
        is the clip's score where clips are pooled by the mean."""
        members = self._members_for(clip)
        return np.mean([members[key].score(of_model) for key, of_model in vectors.items()], axis=0)

    def nearest(self, number: int) -> tuple[int, float]:
        """The training clip, of those that a test clip is held against, of nearest mean embedding; and the cosine of
        the two, the mean over models."""
        bank = self._first.bank_for(self.test_clips[number])
        cosines = np.zeros(len(bank))
        for key in self.keys:
            kept = self.kept(key)
            cosines += clip_means(kept.bank, key.variant, bank) @ clip_means(kept.test, key.variant, [number])[0]
        best = int(np.argmax(np.nan_to_num(cosines, nan=-np.inf)))
        return bank[best], float(cosines[best]) / len(self.keys)

    def _rows(self, part: Embedded, variant: str, number: int) -> np.ndarray:
        return np.asarray(part.pieces.vectors[variant][part.pieces.clip == number])

    def _members_for(self, clip: Clip) -> dict[ModelKey, Member]:
        group = bank_group(clip, self.config.evaluate.bank)
        if group not in self._members:
            ensemble = choose_scale(self.config, len(self.keys))
            self._members[group] = {
                ModelKey(line, member.variant): member
                for line, checkpoint in self.fleet.checkpoints.items()
                for member in checkpoint.members(clip, ensemble)
            }
        return self._members[group]


def clip_means(part: Embedded, variant: str, numbers: Sequence[int]) -> np.ndarray:
    """The mean embedding of each of some clips' pieces, at unit length: (n, d)."""
    begins, ends = (np.searchsorted(part.pieces.clip, numbers, side) for side in ("left", "right"))
    vectors = part.pieces.vectors[variant]
    means = np.stack([vectors[begin:end].mean(axis=0) for begin, end in zip(begins, ends, strict=True)])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny)
