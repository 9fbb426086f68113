"""What needs no learning: a clip's distance to the nearest training clip of its section, by mean log-spectrum.

    uv run python tests/peers/mean_log_spectrum.py asdjax-demo/data

Works on any folder in the DCASE 2021 layout and prints AUC/pAUC per machine type and the official score.
"""

import sys
from pathlib import Path

import librosa
import numpy as np
import soundfile

from asdjax.corpus.clips import Clip
from asdjax.corpus.layouts import read_corpus
from asdjax.evaluation.judging import format_table
from asdjax.evaluation.metrics import ScoredClip, judge


def mean_log_spectrum(path: Path) -> np.ndarray:
    """(f,) mean over frames of the log magnitude."""
    samples, _ = soundfile.read(path, dtype="float32")
    magnitude = np.abs(librosa.stft(samples, n_fft=2046, hop_length=512, pad_mode="constant"))
    return np.log(np.maximum(magnitude, 1e-6)).mean(axis=1)


def score(clip: Clip, bank: np.ndarray) -> ScoredClip:
    """The distance to the nearest of the bank's spectra (n, f)."""
    distance = float(np.min(np.linalg.norm(bank - mean_log_spectrum(clip.path), axis=1)))
    return ScoredClip(clip.name, clip.machine, clip.section, clip.domain, clip.label, distance, None)


def main(root: str) -> None:
    corpus = read_corpus([root], "dcase2021")
    scored = []
    for machine, section in sorted({(clip.machine, clip.section) for clip in corpus}):
        train = corpus.select(machine=machine, section=section, split="train")
        bank = np.stack([mean_log_spectrum(clip.path) for clip in train])
        test = corpus.select(machine=machine, section=section, split="test")
        scored += [score(clip, bank) for clip in test if clip.label is not None]
    print(format_table(judge(2021, scored)))


if __name__ == "__main__":
    main(sys.argv[1])
