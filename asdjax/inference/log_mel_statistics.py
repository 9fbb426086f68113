"""Simple detectors, which need no trained model: the distance of a clip's log-mel statistics to its section's.

`mean_log_mel` takes the mean of the frames in each band, `mean_std_log_mel` also their standard deviation.

Letters: n clips, s samples, m mel bands, d = m or 2 * m statistics.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asdjax.data.clips import Clip
from asdjax.fleet.embed import Embeddings
from asdjax.inference import clip_scores
from asdjax.inference.backends import Scorer, make_scorer
from asdjax.inference.bank import Scoring, make_bank
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.log_mel import compute_log_mel
from asdjax.inference.stored_embeddings import Checkpointed

MEAN, MEAN_STD = "mean_log_mel", "mean_std_log_mel"
NAMES = (MEAN, MEAN_STD)
SCORING = Scoring(backend="mahalanobis")


def compute_statistics(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return mean and standard deviation over the log-mel frames of a clip int16 (s,), in dB: (2, m) float32."""
    frames = compute_log_mel(samples, sample_rate_hz)
    return np.stack([frames.mean(axis=0), frames.std(axis=0)]).astype(np.float32)


def wrap_statistics(statistics: np.ndarray) -> Embeddings:
    """Wrap the statistics (n, 2, m) of clips as embeddings (n, d) of one piece per clip, by detector.

    The Mahalanobis distance needs no unit length.
    """
    clips, kinds, bands = statistics.shape
    vectors = {MEAN: statistics[:, 0], MEAN_STD: statistics.reshape(clips, kinds * bands)}
    return Embeddings(vectors, np.arange(clips))


def score_clips(
    train_clips: Sequence[Clip], train: Embeddings, test_clips: Sequence[Clip], test: Embeddings
) -> dict[str, ClipScores]:
    """Score clips by each detector: the Mahalanobis distance of their statistics to those of their section.

    The covariance is shrunk as by Ledoit and Wolf (2004). Training clips are scored by cross-fitting, so no clip is
    scored by a fit that included it.
    """
    return {
        name: clip_scores.score_by_banks(train_clips, train, test_clips, test, name, SCORING) for name in train.vectors
    }


class SimpleDetectors(NamedTuple):
    """Detectors by log-mel statistics for the clips of one section: their scorers by name."""

    scorers: dict[str, Scorer]
    sample_rate_hz: int

    def __call__(self, samples: np.ndarray) -> list[float]:
        """Return the score of a clip int16 (s,) by each detector."""
        if not self.scorers:
            return []
        statistics = wrap_statistics(compute_statistics(samples, self.sample_rate_hz)[None])
        return [float(scorer(statistics.vectors[name])[0]) for name, scorer in self.scorers.items()]


def make_detectors(stored: Checkpointed, names: Sequence[str], section: str, sample_rate_hz: int) -> SimpleDetectors:
    """Make the named detectors for a section from the statistics of training clips that an evaluation stored."""
    clips = stored.bank.clips
    numbers = [number for number, clip in enumerate(clips) if clip.section == section]
    banks = {name: make_bank(clips, numbers, stored.bank.pieces, name) for name in names}
    return SimpleDetectors({name: make_scorer(bank, SCORING) for name, bank in banks.items()}, sample_rate_hz)


def select_section(stored: Checkpointed, section: str) -> np.ndarray:
    """Return mean and standard deviation of the log-mel frames of a section's training clips, (n, 2, m) in dB."""
    rows = [number for number, clip in enumerate(stored.bank.clips) if clip.section == section]
    vectors = stored.bank.pieces.vectors[MEAN_STD][rows]
    return vectors.reshape(len(rows), 2, -1)
