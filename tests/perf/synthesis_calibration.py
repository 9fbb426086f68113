"""Measure how far simple detectors get on the synthetic machines: level alone, mean_log_mel and the auto-encoder.

    uv run python tests/perf/synthesis_calibration.py [--machines fan,pump] [--seeds 1,2] [--source-clips N]
        [--test-clips N] [--epochs N]

Each line has one machine type and corpus seed. Figures are official scores of 2021 in %. `level` scores a clip by its
level, `level distance` by the distance from its section's median level. The aim for every machine type is what they
reach on the recordings of DCASE 2021: both levels 50 +- 5, mean_log_mel 55 to 66, auto-encoder 52 to 66.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from asdjax.data.clips import Clip
from asdjax.data.layouts import read_corpus
from asdjax.data.synthetic.components import SAMPLE_RATE_HZ
from asdjax.data.synthetic.machines import MACHINES
from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.evaluation.baselines import autoencoder
from asdjax.evaluation.baselines.autoencoder import AutoencoderTraining
from asdjax.evaluation.metrics import ScoredClip, compute_metrics
from asdjax.fleet.embed import Embeddings
from asdjax.inference import log_mel_statistics
from asdjax.inference.log_mel import compute_log_mels

type Recordings = Mapping[Clip, np.ndarray]


def official_scores(machine: str, recipe: Recipe, epochs: int) -> dict[str, float]:
    """Return each simple detector's official score (%) on a corpus made by `recipe`."""
    with tempfile.TemporaryDirectory() as folder:
        synthesize(Path(folder, "data"), recipe, machines=[machine])
        corpus = read_corpus([Path(folder, "data")])
        train, test = ({clip: _samples(clip) for clip in corpus.select(split=split)} for split in ("train", "test"))
    levels = {clip: _level_db(samples) for clip, samples in test.items()}
    scored = {"level": levels, "level distance": _level_distances(train, levels)}
    by_detector = log_mel_statistics.score_clips([*train], _wrap(train), [*test], _wrap(test))
    scored |= {name: scores.test for name, scores in by_detector.items()}
    if epochs:
        train_frames, test_frames = (
            compute_log_mels([*of.values()], SAMPLE_RATE_HZ, "log-mels") for of in (train, test)
        )
        training = AutoencoderTraining(
            epochs=epochs, batch_size=512, learning_rate=1e-3, seed=0, machine=machine, sample_rate_hz=SAMPLE_RATE_HZ
        )
        model = autoencoder.fit(train_frames, training)
        scored["autoencoder"] = autoencoder.score_clips(model, [*train], train_frames, [*test], test_frames).test
    return {name: _official(scores) for name, scores in scored.items()}


def _samples(clip: Clip) -> np.ndarray:
    return soundfile.read(clip.path, dtype="int16")[0]


def _level_db(samples: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-9))


def _level_distances(train: Recordings, levels: Mapping[Clip, float]) -> dict[Clip, float]:
    by_section: dict[str, list[float]] = {}
    for clip, samples in train.items():
        by_section.setdefault(clip.section, []).append(_level_db(samples))
    return {clip: abs(level - float(np.median(by_section[clip.section]))) for clip, level in levels.items()}


def _wrap(recordings: Recordings) -> Embeddings:
    return log_mel_statistics.wrap_statistics(
        np.array([log_mel_statistics.compute_statistics(one, SAMPLE_RATE_HZ) for one in recordings.values()])
    )


def _official(scores: Mapping[Clip, float]) -> float:
    clips = [
        ScoredClip(clip.name, clip.machine, clip.section, clip.domain, clip.label, score, None)
        for clip, score in scores.items()
    ]
    return 100 * (compute_metrics(2021, clips).official or 0.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each machine type and seed as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", default=",".join(MACHINES))
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--source-clips", type=int, default=60)
    parser.add_argument("--test-clips", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--epochs", type=int, default=100, help="of the auto-encoder; 0: leave it out")
    options = parser.parse_args(arguments)
    for machine in options.machines.split(","):
        for seed in map(int, options.seeds.split(",")):
            recipe = Recipe(
                source_clips=options.source_clips, test_clips=options.test_clips, seconds=options.seconds, seed=seed
            )
            figures = official_scores(machine, recipe, options.epochs).items()
            print(f"{machine:9}seed {seed}  " + "  ".join(f"{name} {value:.1f}" for name, value in figures), flush=True)


if __name__ == "__main__":
    main()
