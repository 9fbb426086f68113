"""Baseline detectors, which need no trained fleet, for the clips of one machine type."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.access import RecordedClips
from asdjax.evaluation.baselines import autoencoder, stored_autoencoders
from asdjax.evaluation.baselines.autoencoder import AutoencoderTraining
from asdjax.evaluation.baselines.stored_statistics import load_statistics
from asdjax.inference import log_mel_statistics, stored_embeddings
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.log_mel import compute_log_mels

#: Baselines that take seconds, and those that train for minutes.
ALWAYS, ON_REQUEST = log_mel_statistics.NAMES, (autoencoder.NAME,)

#: Origin of the training scores to which the thresholds of each baseline are fitted.
TRAINING_SCORES = {
    **dict.fromkeys(log_mel_statistics.NAMES, "cross-fitted, by fits without the clip"),
    autoencoder.NAME: "by the model that was trained on these clips, as in the official baseline",
}


def score_machine(
    config: Config,
    machine: str,
    recorded: Mapping[str, RecordedClips],
    computed: Path,
    names: Sequence[str],
    folder: Path | None,
) -> dict[str, ClipScores]:
    """Score a machine type's clips, "bank" and "test", by the baselines ALWAYS and the others that are named.

    What is computed from recordings is kept in `computed` for later evaluations. Statistics and scores of the simple
    detectors are stored in the new folder `folder`, if one is given.
    """
    rate, what = config.signal.sample_rate_hz, f"{machine} log-mel statistics"
    recordings = [recording for part in recorded.values() for recording in part.recordings]
    statistics = load_statistics(computed, recordings, rate, what)
    pieces = {
        part: log_mel_statistics.wrap_statistics(of_part)
        for part, of_part in zip(recorded, np.split(statistics, [len(recorded["bank"].clips)]), strict=True)
    }
    bank, test = recorded["bank"], recorded["test"]
    scores = log_mel_statistics.score_clips(bank.clips, pieces["bank"], test.clips, pieces["test"])
    if folder:
        stored_embeddings.save(folder, recorded, pieces, scores)
    if autoencoder.NAME in names:
        scores[autoencoder.NAME] = _score_autoencoder(config, machine, bank, test, computed)
    return scores


def select_always(scores: Mapping[str, Mapping[str, ClipScores]]) -> dict[str, dict[str, ClipScores]]:
    """Return the scores of the baselines that take seconds, by machine type.

    Only these score their training clips by fits without them, as a combination with the fleet needs.
    """
    return {machine: {name: by_name[name] for name in ALWAYS} for machine, by_name in scores.items()}


def _score_autoencoder(
    config: Config, machine: str, train: RecordedClips, test: RecordedClips, folder: Path
) -> ClipScores:
    rate = config.signal.sample_rate_hz
    train_mels = compute_log_mels(train.samples, rate, f"{machine} log-mel bank")
    test_mels = compute_log_mels(test.samples, rate, f"{machine} log-mel test")
    settings = config.baselines
    training = AutoencoderTraining(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=config.seed[0],
        machine=machine,
        sample_rate_hz=rate,
    )
    digests = [recording.sha256 for recording in train.recordings]
    learned = stored_autoencoders.load_or_fit(folder, train_mels, training, digests)
    return autoencoder.score_clips(learned, train.clips, train_mels, test.clips, test_mels)


def describe_baselines(config: Config, names: Sequence[str]) -> dict[str, Any]:
    """Return the entry of results.json on the named baselines."""
    settings = {**config.baselines.to_dict(), "seed": config.seed[0]} if autoencoder.NAME in names else {}
    return {**settings, "training_scores": {name: TRAINING_SCORES[name] for name in names}}
