"""The mean log-mel baseline: what a clip sounds like on average, against the training clips of its section.

Letters: n clips, s samples, m mel bands.
"""

from collections.abc import Sequence

import numpy as np

from asdjax.data.clips import Clip
from asdjax.evaluation.baselines.log_mel import log_mel
from asdjax.fleet.embed import Embeddings
from asdjax.inference import clip_scores
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import ClipScores

NAME = "mean_log_mel"
SCORING = Scoring(backend="mahalanobis")


def mean_frame(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return the mean log-mel frame of a clip int16 (s,), in dB: (m,) float32."""
    return log_mel(samples, sample_rate_hz).mean(axis=0).astype(np.float32)


def score_clips(
    train_clips: Sequence[Clip], train: np.ndarray, test_clips: Sequence[Clip], test: np.ndarray
) -> ClipScores:
    """Score clips by the Mahalanobis distance of their mean frames (n, m) to those of machine type and section.

    The covariance is shrunk as Ledoit and Wolf (2004) do. Training clips are scored by cross-fitting, never by a fit
    that saw them.
    """
    return clip_scores.score_clips(train_clips, _as_pieces(train), test_clips, _as_pieces(test), NAME, SCORING)


def _as_pieces(means: np.ndarray) -> Embeddings:
    """Make one piece of each clip; not of unit length, which the Mahalanobis distance does not need."""
    return Embeddings({NAME: means}, np.arange(len(means)))
