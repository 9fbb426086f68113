"""Scores of single pieces by the headline system, and the nearest normal clip of a test clip.

Letters: n clips, p pieces, q queries, d embedding.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asdjax import features
from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.evaluation.clip_table import ClipRow
from asdjax.inference import ensembles, log_mel_statistics
from asdjax.inference.anomalous_seconds import TimedPieces, time_pieces, time_whole_clip
from asdjax.inference.bank import make_bank_key
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.combination import Combination, make_combination
from asdjax.inference.loaded_evaluation import Member
from asdjax.inference.log_mel_statistics import SimpleDetectors
from asdjax.inference.stored_embeddings import STATISTICS, Checkpointed, Embedded
from asdjax.report.report_inputs import ReportedRun


class ModelKey(NamedTuple):
    """A model of a fleet by its checkpoint line and its variant, or a simple detector by `statistics` and its name."""

    line: str
    variant: str


#: Embeddings of the same pieces by each model, (q, d) each.
Embeddings = Mapping[ModelKey, np.ndarray]


class ExplainedDetectors(ABC):
    """The parts of the headline system that embed the clips of one fleet, by their keys."""

    def __init__(self, config: Config, keys: Sequence[ModelKey], first: Checkpointed) -> None:
        self.config, self.keys = config, keys
        self.bank_clips, self.test_clips = first.bank.clips, first.test.clips
        self.digests = {clip: sha256 for part in first for clip, sha256 in zip(part.clips, part.digests, strict=True)}
        self._numbers = {
            (clip.machine, clip.section, clip.domain, clip.name): i for i, clip in enumerate(self.test_clips)
        }

    @abstractmethod
    def stored(self, key: ModelKey) -> Checkpointed:
        """Return the embeddings that the evaluation stored for a key."""

    @abstractmethod
    def score(self, clip: Clip, embeddings: Embeddings) -> np.ndarray:
        """Return the headline system's score of each piece of a test clip, (q,) float64."""

    @abstractmethod
    def time(self, samples: int, score: np.ndarray) -> TimedPieces:
        """Add begin and end times to the piece scores (p,) of a clip of `samples` samples."""

    @abstractmethod
    def _list_bank(self, clip: Clip) -> list[int]:
        """Return the numbers of the training clips that a clip is compared with."""

    @abstractmethod
    def compute_clip_vectors(self, part: Embedded, key: ModelKey, numbers: Sequence[int]) -> np.ndarray:
        """Return a unit vector for each clip, (n, d), by which clips are compared."""

    def find_number(self, row: ClipRow) -> int:
        """Return the index of a row's clip in `test_clips`."""
        clip = row.clip
        return self._numbers[clip.machine, clip.section, clip.domain, clip.name]

    def read_embeddings(self, number: int) -> dict[ModelKey, np.ndarray]:
        """Return the stored embeddings of a test clip's pieces, (p, d) by key."""
        return {key: self._rows(self.stored(key).test, key.variant, number) for key in self.keys}

    def read_bank_embeddings(self, number: int) -> dict[ModelKey, np.ndarray]:
        """Return the stored embeddings of a training clip's pieces, (p, d) by key."""
        return {key: self._rows(self.stored(key).bank, key.variant, number) for key in self.keys}

    def find_nearest(self, number: int) -> tuple[int, float]:
        """Return the index in `bank_clips` of a test clip's nearest training clip, and their cosine.

        The cosine is averaged over keys. Only the test clip's bank is searched.
        """
        bank = self._list_bank(self.test_clips[number])
        cosines = np.zeros(len(bank))
        for key in self.keys:
            stored = self.stored(key)
            test_mean = self.compute_clip_vectors(stored.test, key, [number])[0]
            cosines += self.compute_clip_vectors(stored.bank, key, bank) @ test_mean
        best = int(np.argmax(np.nan_to_num(cosines, nan=-np.inf)))
        return bank[best], float(cosines[best]) / len(self.keys)

    def _rows(self, part: Embedded, variant: str, number: int) -> np.ndarray:
        return np.asarray(part.pieces.vectors[variant][part.pieces.clip == number])


class AveragedModels(ExplainedDetectors):
    """Models of one fleet, all of which the headline system averages. Clips are compared by their mean embeddings."""

    def __init__(self, fleet: ReportedRun, config: Config) -> None:
        keys = [
            ModelKey(line, variant) for line, checkpoint in fleet.checkpoints.items() for variant in checkpoint.variants
        ]
        self.fleet, self._first = fleet, fleet.checkpoints[keys[0].line]
        super().__init__(config, keys, self._first.kept)
        self._members: dict[tuple[str | None, ...], dict[ModelKey, Member]] = {}
        self._combinations: dict[tuple[str, str], Combination] = {}

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

    def time(self, samples: int, score: np.ndarray) -> TimedPieces:
        """Add begin and end times to the scores (p,) of a clip's pieces."""
        spectrogram = features.make_spectrogram(self.config)
        return time_pieces(samples, score, spectrogram, self.config.evaluate.stride_frames)

    def _list_bank(self, clip: Clip) -> list[int]:
        return self._first.bank_for(clip)

    def compute_clip_vectors(self, part: Embedded, key: ModelKey, numbers: Sequence[int]) -> np.ndarray:
        """Return the mean embedding of each clip's pieces, scaled to unit length: (n, d)."""
        begins, ends = (np.searchsorted(part.pieces.clip, numbers, side) for side in ("left", "right"))
        vectors = part.pieces.vectors[key.variant]
        means = np.stack([vectors[begin:end].mean(axis=0) for begin, end in zip(begins, ends, strict=True)])
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny)

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


class ExplainedStatistics(ExplainedDetectors):
    """The simple detectors of a machine type without models, which are all of the headline system.

    A clip is one piece, and its embedding its statistics. Clips are compared by their statistics without the level.
    """

    def __init__(self, fleet: ReportedRun, config: Config) -> None:
        (self._statistics,) = fleet.statistics.values()
        keys = [ModelKey(STATISTICS, name) for name in fleet.simple]
        super().__init__(config, keys, self._statistics)
        self._detectors: dict[str, tuple[SimpleDetectors, Combination]] = {}

    def stored(self, key: ModelKey) -> Checkpointed:
        """Return the statistics that the evaluation stored."""
        return self._statistics

    def score(self, clip: Clip, embeddings: Embeddings) -> np.ndarray:
        """Return the headline system's score of each of a clip's statistics, (q,) float64."""
        detectors, combination = self._find_detectors(clip)
        scores = [detectors.scorers[key.variant](vectors).astype(np.float64) for key, vectors in embeddings.items()]
        return np.asarray(combination(scores))

    def time(self, samples: int, score: np.ndarray) -> TimedPieces:
        """Return the clip as one piece with its score (1,)."""
        return time_whole_clip(samples, score, features.make_spectrogram(self.config))

    def _list_bank(self, clip: Clip) -> list[int]:
        return [number for number, known in enumerate(self.bank_clips) if known.section == clip.section]

    def compute_clip_vectors(self, part: Embedded, key: ModelKey, numbers: Sequence[int]) -> np.ndarray:
        """Return the statistics of each clip without their mean, scaled to unit length: (n, d)."""
        vectors = np.asarray(part.pieces.vectors[key.variant][numbers], np.float64)
        shapes = vectors - vectors.mean(axis=1, keepdims=True)
        return shapes / np.maximum(np.linalg.norm(shapes, axis=1, keepdims=True), np.finfo(np.float64).tiny)

    def _find_detectors(self, clip: Clip) -> tuple[SimpleDetectors, Combination]:
        """Return the detectors for clips of a section, and their combination."""
        if clip.section not in self._detectors:
            names = [key.variant for key in self.keys]
            rate = self.config.signal.sample_rate_hz
            scores = [self._statistics.scores_of(name, clip.machine) for name in names]
            self._detectors[clip.section] = (
                log_mel_statistics.make_detectors(self._statistics, names, clip.section, rate),
                make_combination(scores, clip.section),
            )
        return self._detectors[clip.section]


def open_detectors(fleet: ReportedRun, config: Config) -> ExplainedDetectors:
    """Return the models of a fleet, or its simple detectors if it has no models."""
    return AveragedModels(fleet, config) if fleet.checkpoints else ExplainedStatistics(fleet, config)
