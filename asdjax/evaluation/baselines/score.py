"""What needs no trained fleet, side by side: both baselines on one machine type's clips, from the same frames."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from asdjax.config import Config
from asdjax.corpus.clips import Clip
from asdjax.evaluation.baselines import autoencoder, mean_log_spectrum
from asdjax.evaluation.baselines.autoencoder import Training
from asdjax.evaluation.baselines.log_mel import log_mels
from asdjax.evaluation.scores import ClipScores

TRAINING_SCORES = {
    autoencoder.NAME: "by the model that was trained on these clips, as in the official baseline",
    mean_log_spectrum.NAME: "cross-fitted, by fits that never saw the clip",
}
"""What the thresholds of each are fitted to."""


class Sounds(NamedTuple):
    """Clips and their samples, int16 (s,)."""

    clips: Sequence[Clip]
    samples: Sequence[np.ndarray]


def score_machine(config: Config, machine: str, train: Sounds, test: Sounds) -> dict[str, ClipScores]:
    """Each baseline's scores of one machine type's clips."""
    rate = config.signal.sample_rate_hz
    heard = log_mels(train.samples, rate, f"{machine} log-mel bank")
    asked = log_mels(test.samples, rate, f"{machine} log-mel test")
    settings = config.baselines
    training = Training(settings.epochs, settings.batch_size, settings.learning_rate, config.seed[0], machine)
    return {
        autoencoder.NAME: autoencoder.score_clips(train.clips, heard, test.clips, asked, training),
        mean_log_spectrum.NAME: mean_log_spectrum.score_clips(train.clips, heard, test.clips, asked),
    }


def described(config: Config) -> dict[str, Any]:
    """What results.json tells of them."""
    return {**config.baselines.to_dict(), "seed": config.seed[0], "training_scores": TRAINING_SCORES}
