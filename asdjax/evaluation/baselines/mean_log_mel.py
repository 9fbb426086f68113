"""The mean log-mel baseline: the distance of a clip's mean log-mel frame to those of its section's training clips.

Letters: n clips, s samples, m mel bands.
"""

from collections.abc import Sequence

import numpy as np

from asdjax.data.clips import Clip
from asdjax.evaluation.baselines.log_mel import compute_log_mel
from asdjax.fleet.embed import Embeddings
from asdjax.inference import clip_scores
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import ClipScores

NAME = "mean_log_mel"
SCORING = Scoring(backend="mahalanobis")


def mean_frame(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return the mean log-mel frame of a clip int16 (s,), in dB: (m,) float32."""
    return compute_log_mel(samples, sample_rate_hz).mean(axis=0).astype(np.float32)


def score_clips(
    train_clips: Sequence[Clip], train: np.ndarray, test_clips: Sequence[Clip], test: np.ndarray
) -> ClipScores:
    """Score clips by the Mahalanobis distance of their mean frames (n, m) to the training clips of the same section.

    The covariance is shrunk as by Ledoit and Wolf (2004). Training clips are scored by cross-fitting, so no clip is
    scored by a fit that included it.
    """
    return clip_scores.score_by_banks(train_clips, _wrap(train), test_clips, _wrap(test), NAME, SCORING)


def _wrap(means: np.ndarray) -> Embeddings:
    """Wrap mean frames as embeddings of one piece per clip. They need no unit length for the Mahalanobis distance."""
    return Embeddings({NAME: means}, np.arange(len(means)))
