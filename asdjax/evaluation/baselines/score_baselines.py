"""Detectors that need no trained fleet, on one machine type's clips."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asdjax.config.fields import Config
from asdjax.data.access import RecordedClips
from asdjax.evaluation.baselines import autoencoder, mean_log_mel, stored_autoencoders
from asdjax.evaluation.baselines.autoencoder import Training
from asdjax.evaluation.baselines.log_mel import log_mels
from asdjax.evaluation.baselines.mean_frames import mean_frames
from asdjax.inference.clip_scores import ClipScores

#: Those that take seconds, and those that are trained for minutes.
ALWAYS, ON_REQUEST = (mean_log_mel.NAME,), (autoencoder.NAME,)

TRAINING_SCORES = {
    mean_log_mel.NAME: "cross-fitted, by fits that never saw the clip",
    autoencoder.NAME: "by the model that was trained on these clips, as in the official baseline",
}
"""What the thresholds of each are fitted to."""


def score_machine(
    config: Config, machine: str, train: RecordedClips, test: RecordedClips, folder: Path, names: Sequence[str]
) -> dict[str, ClipScores]:
    """Score one machine type's clips by each of the named baselines; their models are stored in a folder."""
    score = {mean_log_mel.NAME: _mean_log_mel, autoencoder.NAME: _autoencoder}
    return {name: score[name](config, machine, train, test, folder) for name in names}


def _mean_log_mel(config: Config, machine: str, train: RecordedClips, test: RecordedClips, folder: Path) -> ClipScores:
    means = mean_frames(
        folder, [*train.recordings, *test.recordings], config.signal.sample_rate_hz, f"{machine} {mean_log_mel.NAME}"
    )
    number = len(train.recordings)
    return mean_log_mel.score_clips(train.clips, means[:number], test.clips, means[number:])


def _autoencoder(config: Config, machine: str, train: RecordedClips, test: RecordedClips, folder: Path) -> ClipScores:
    """See `kept.trained`."""
    rate = config.signal.sample_rate_hz
    heard = log_mels(train.samples, rate, f"{machine} log-mel bank")
    asked = log_mels(test.samples, rate, f"{machine} log-mel test")
    settings = config.baselines
    training = Training(settings.epochs, settings.batch_size, settings.learning_rate, config.seed[0], machine, rate)
    learned = stored_autoencoders.trained(folder, heard, training, [recording.sha256 for recording in train.recordings])
    return autoencoder.score_clips(learned, train.clips, heard, test.clips, asked)


def describe_baselines(config: Config, names: Sequence[str]) -> dict[str, Any]:
    """Return the entry of results.json on the named baselines."""
    trained = {**config.baselines.to_dict(), "seed": config.seed[0]} if autoencoder.NAME in names else {}
    return {**trained, "training_scores": {name: TRAINING_SCORES[name] for name in names}}
