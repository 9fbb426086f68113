"""The mean log-mel baseline: what a clip sounds like on average, against the training clips of its section."""

from collections.abc import Sequence

import numpy as np

from asdjax.corpus.clips import Clip
from asdjax.evaluation import scores
from asdjax.evaluation.bank import Scoring
from asdjax.evaluation.baselines.log_mel import LogMels
from asdjax.evaluation.scores import ClipScores
from asdjax.training.embed import Embeddings

NAME = "mean_log_mel"
SCORING = Scoring(backend="mahalanobis")


def score_clips(train_clips: Sequence[Clip], train: LogMels, test_clips: Sequence[Clip], test: LogMels) -> ClipScores:
    """The Mahalanobis distance of a clip's mean log-mel frame to those of its machine type and section, with a Ledoit
    and Wolf (2004) covariance; training clips are scored by cross-fitting, never by a fit that saw them."""
    return scores.score_clips(train_clips, _means(train), test_clips, _means(test), NAME, SCORING)


def _means(log_mels: LogMels) -> Embeddings:
    """One piece a clip, its mean frame; not of unit length, which the Mahalanobis distance does not need."""
    means = [of_clip.mean(axis=0, dtype=np.float64) for of_clip in log_mels.of_clips()]
    return Embeddings({NAME: np.array(means, np.float32)}, np.arange(len(means)))
