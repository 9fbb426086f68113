"""What needs no trained fleet, side by side: both baselines on one machine type's clips, from the same frames."""

from pathlib import Path
from typing import Any

from asdjax.config import Config
from asdjax.corpus.access import Recorded
from asdjax.evaluation.baselines import autoencoder, kept, mean_log_mel
from asdjax.evaluation.baselines.autoencoder import Training
from asdjax.evaluation.baselines.log_mel import log_mels
from asdjax.evaluation.scores import ClipScores

TRAINING_SCORES = {
    autoencoder.NAME: "by the model that was trained on these clips, as in the official baseline",
    mean_log_mel.NAME: "cross-fitted, by fits that never saw the clip",
}
"""What the thresholds of each are fitted to."""


def score_machine(config: Config, machine: str, train: Recorded, test: Recorded, folder: Path) -> dict[str, ClipScores]:
    """Each baseline's scores of one machine type's clips; the auto-encoder is kept in a folder, see `kept.trained`."""
    rate = config.signal.sample_rate_hz
    heard = log_mels(train.samples, rate, f"{machine} log-mel bank")
    asked = log_mels(test.samples, rate, f"{machine} log-mel test")
    settings = config.baselines
    training = Training(settings.epochs, settings.batch_size, settings.learning_rate, config.seed[0], machine, rate)
    learned = kept.trained(folder, heard, training, [recording.sha256 for recording in train.recordings])
    return {
        autoencoder.NAME: autoencoder.score_clips(learned, train.clips, heard, test.clips, asked),
        mean_log_mel.NAME: mean_log_mel.score_clips(train.clips, heard, test.clips, asked),
    }


def described(config: Config) -> dict[str, Any]:
    """What results.json tells of them."""
    return {**config.baselines.to_dict(), "seed": config.seed[0], "training_scores": TRAINING_SCORES}
