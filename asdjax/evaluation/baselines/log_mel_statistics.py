"""Baselines on a clip's log-mel statistics: its distance to those of its section's training clips.

`mean_log_mel` takes the mean of the frames in each band, `mean_std_log_mel` also their standard deviation.

Letters: n clips, s samples, m mel bands, d = m or 2 * m statistics.
"""

from collections.abc import Sequence

import numpy as np

from asdjax.data.clips import Clip
from asdjax.evaluation.baselines.log_mel import compute_log_mel
from asdjax.fleet.embed import Embeddings
from asdjax.inference import clip_scores
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import ClipScores

MEAN, MEAN_STD = "mean_log_mel", "mean_std_log_mel"
NAMES = (MEAN, MEAN_STD)
SCORING = Scoring(backend="mahalanobis")


def compute_statistics(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return mean and standard deviation over the log-mel frames of a clip int16 (s,), in dB: (2, m) float32."""
    frames = compute_log_mel(samples, sample_rate_hz)
    return np.stack([frames.mean(axis=0), frames.std(axis=0)]).astype(np.float32)


def score_clips(
    name: str, train_clips: Sequence[Clip], train: np.ndarray, test_clips: Sequence[Clip], test: np.ndarray
) -> ClipScores:
    """Score clips by one of NAMES: the Mahalanobis distance of their statistics (n, 2, m) to those of their section.

    The covariance is shrunk as by Ledoit and Wolf (2004). Training clips are scored by cross-fitting, so no clip is
    scored by a fit that included it.
    """
    train_vectors, test_vectors = (_wrap(name, statistics) for statistics in (train, test))
    return clip_scores.score_by_banks(train_clips, train_vectors, test_clips, test_vectors, name, SCORING)


def _wrap(name: str, statistics: np.ndarray) -> Embeddings:
    """Wrap statistics as embeddings (n, d) of one piece per clip. The Mahalanobis distance needs no unit length."""
    used = statistics[:, : 1 if name == MEAN else 2]
    clips, kinds, bands = used.shape
    return Embeddings({name: used.reshape(clips, kinds * bands)}, np.arange(clips))
