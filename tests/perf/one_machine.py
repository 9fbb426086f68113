"""Measure a fleet on a machine alone, of one section without attributes: which pseudo-classes help?

    uv run python tests/perf/one_machine.py --out DIR --seeds 0,1,2 FOLDER/MACHINE:SECTION [...]

FOLDER/MACHINE is in the layout of DCASE 2021. Of the section, the source domain alone is used. A fleet needs two
classes, so DIR gets a corpus for each kind of pseudo-class, with a manifest:

- copies: the clips played slower, faster, backwards, darker and brighter are five more classes;
- clusters: five k-means clusters of mean and deviation of the log-mel frames, as attributes;
- others: a synthetic machine of each of the seven types.

Training is that of `real_sound.py`, phase 1 alone. Printed is the harmonic mean of AUC and pAUC in %, mean over seeds
and, after ±, half the distance between the highest and the lowest seed.
"""

import argparse
import csv
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import harmonic_mean, mean

import librosa
import numpy as np
import soundfile
from real_sound import SMALL
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

import asdjax
from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.inference.log_mel_statistics import compute_statistics
from asdjax.runtime.text_table import format_table

RATE_HZ, CLUSTERS = 16_000, 5
HEADER = ("path", "machine", "section", "domain", "split", "label", "attributes")
CLASSES = {"copies": "section", "clusters": "machine_section_attributes", "others": "machine_section"}
SYSTEMS = ("all_mean", "combined", "mean_log_mel", "mean_std_log_mel")

Row = list[str]


def _resample(samples: np.ndarray, speed: float) -> np.ndarray:
    changed = librosa.resample(samples, orig_sr=RATE_HZ, target_sr=round(RATE_HZ / speed))
    return np.resize(changed, len(samples))


def _tilt(samples: np.ndarray, db_per_octave: float) -> np.ndarray:
    frequency_hz = np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE_HZ), 50)
    gain = 10 ** (db_per_octave * np.log2(frequency_hz / 1000) / 20)
    tilted = np.fft.irfft(np.fft.rfft(samples) * gain, len(samples))
    return tilted * np.sqrt(np.mean(samples**2) / np.mean(tilted**2))


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "slow": lambda samples: _resample(samples, 0.92),
    "fast": lambda samples: _resample(samples, 1.08),
    "dark": lambda samples: _tilt(samples, -3),
    "bright": lambda samples: _tilt(samples, 3),
    "backwards": lambda samples: samples[::-1],
}


class Alone:
    """The recordings of one machine and section: training clips and test clips of the source domain."""

    def __init__(self, place: str) -> None:
        folder, _, self.section = place.rpartition(":")
        self.machine = Path(folder).name
        self.train, self.test = (
            sorted(Path(folder, split).glob(f"section_{self.section}_source_*.wav"))
            for split in ("train", "source_test")
        )
        self.name = f"{Path(folder).parent.name}.{self.section}"

    def build(self, kind: str, folder: Path) -> None:
        """Write the corpus with one kind of pseudo-class into a new folder."""
        folder.mkdir(parents=True)
        clusters = self._find_clusters() if kind == "clusters" else [""] * len(self.train)
        rows = [self._copy(path, folder, "train", cluster) for path, cluster in zip(self.train, clusters, strict=True)]
        rows += [self._copy(path, folder, "test", "") for path in self.test]
        if kind == "copies":
            rows += [self._change(path, folder, name) for name in COPIES for path in self.train]
        if kind == "others":
            rows += self._synthesize(folder)
        with (folder / "manifest.csv").open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])

    def _copy(self, path: Path, folder: Path, split: str, attributes: str) -> Row:
        shutil.copy(path, folder / path.name)
        label = "anomaly" if "anomaly" in path.name else "normal"
        return [path.name, self.machine, self.section, "source", split, label, attributes]

    def _change(self, path: Path, folder: Path, name: str) -> Row:
        changed = COPIES[name](soundfile.read(path, dtype="float32")[0])
        soundfile.write(folder / f"{name}_{path.name}", np.clip(changed, -1, 0.9999), RATE_HZ, subtype="PCM_16")
        return [f"{name}_{path.name}", self.machine, name, "source", "train", "normal", ""]

    def _find_clusters(self) -> list[str]:
        clips = [soundfile.read(path, dtype="int16")[0] for path in self.train]
        vectors = np.array([compute_statistics(clip, RATE_HZ).ravel() for clip in clips])
        reduced = PCA(8, whiten=True).fit_transform((vectors - vectors.mean(0)) / (vectors.std(0) + 1e-6))
        return [f"cluster={label}" for label in KMeans(CLUSTERS, n_init=10, random_state=0).fit(reduced).labels_]

    def _synthesize(self, folder: Path) -> list[Row]:
        seconds = soundfile.info(self.train[0]).duration
        recipe = Recipe(source_clips=50, target_clips=1, test_clips=1, sections=1, seed=1, seconds=seconds)
        synthesize(folder / "synthetic", recipe)
        clips = sorted((folder / "synthetic").glob("*/train/*source*.wav"))
        return [
            [str(path.relative_to(folder)), path.parts[-3], "00", "source", "train", "normal", ""] for path in clips
        ]


def measure(alone: Alone, kind: str, seed: int, out: Path) -> dict[str, float]:
    """Train and evaluate; return the harmonic mean of AUC and pAUC by system, in %."""
    corpus, workdir = out / f"{alone.name}.{kind}", out / f"run.{alone.name}.{kind}.{seed}"
    if not (corpus / "manifest.csv").exists():
        alone.build(kind, corpus)
    overrides = {**SMALL, "data.root": str(corpus), "data.classes": CLASSES[kind], "seed": seed}
    asdjax.train("own_machines", workdir=workdir, overrides=overrides)
    systems = asdjax.evaluate(workdir).systems
    figures = {}
    for name in SYSTEMS:
        (cell,) = [one for one in systems[name].cells if one["machine"] == alone.machine]
        figures[name] = 100 * harmonic_mean([cell["auc"], cell["pauc"]])
    return figures


def tabulate(places: Sequence[Alone], seeds: Sequence[int], out: Path) -> str:
    """Measure everything and return the table."""
    rows = [("machine alone", "pseudo-classes", *SYSTEMS)]
    for alone in places:
        for kind in CLASSES:
            figures = [measure(alone, kind, seed, out) for seed in seeds]
            values = [[one[name] for one in figures] for name in SYSTEMS]
            cells = [f"{mean(of):.1f} ± {(max(of) - min(of)) / 2:.1f}" for of in values]
            rows.append((alone.name, kind, *cells))
    return format_table(rows, 120, left=2)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    sys.stdout.write(tabulate([Alone(place) for place in options.places], seeds, options.out) + "\n")


if __name__ == "__main__":
    main()
