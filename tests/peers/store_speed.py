"""How fast a store is built, read and opened, against librosa and soundfile on the same files.

    uv run python tests/peers/store_speed.py

Writes 1,000 clips of 10 s to a temporary folder. Every way runs three times; the median counts.
"""

import json
import os
import resource
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from statistics import median
from time import perf_counter

import librosa
import numpy as np
import soundfile

from asdjax import signal
from asdjax.corpus.clips import Clip
from asdjax.corpus.layouts import read_corpus
from asdjax.corpus.store import INDEX, WaveStore, open_store

CLIPS, SECONDS, RATE_HZ = 1_000, 10, 16_000
LISTED = 60_000
CROP_SAMPLES = 17_918
CROPS = 20_000


def write_corpus(root: Path, clips: int, samples: int) -> None:
    """One machine type in the layout of 2021."""
    folder = root / "fan" / "train"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(-3000, 3000, samples + clips, dtype=np.int16)
    for i in range(clips):
        name = f"section_{i % 6:02d}_source_train_normal_{i:05d}_v_1.wav"
        soundfile.write(folder / name, noise[i : i + samples], RATE_HZ)


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        begun = perf_counter()
        run()
        times.append(perf_counter() - begun)
    return median(times)


def opened(folder: Path, clips: tuple[Clip, ...]) -> WaveStore:
    return open_store(folder, "fan", clips, sample_rate_hz=RATE_HZ, on_mismatch="error")


def build(root: Path, clips: tuple[Clip, ...]) -> WaveStore:
    """Into a new folder each time."""
    return opened(Path(tempfile.mkdtemp(dir=root)), clips)


def crop_rate(store: WaveStore) -> float:
    """Crops a second from the memory map by all cores, each copied into a batch."""
    rng = np.random.default_rng(0)
    clip = rng.integers(len(store), size=CROPS).tolist()
    start = rng.integers(-1023, SECONDS * RATE_HZ - CROP_SAMPLES, size=CROPS).tolist()
    samples = [store.samples(i) for i in range(len(store))]
    workers = os.cpu_count() or 1

    def cut(worker: int) -> None:
        out = np.empty((48, CROP_SAMPLES), np.int16)
        for i in range(worker, CROPS, workers):
            out[i % 48] = signal.crop(samples[clip[i]], start[i], CROP_SAMPLES)

    def run() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(cut, range(workers)))

    return CROPS / seconds(run)


def list_and_open(root: Path) -> dict[str, float]:
    """A corpus of many very short clips: seconds to list it, and to open its store once built; peak memory."""
    write_corpus(root / "many", LISTED, 32)
    listing = seconds(lambda: read_corpus([root / "many"]), 1)
    clips = read_corpus([root / "many"]).clips
    opened(root / "many store", clips)
    index_mb = (root / "many store" / "fan" / INDEX).stat().st_size / 2**20
    opening = seconds(lambda: opened(root / "many store", clips))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"list_s": listing, "open_s": opening, "index_mb": index_mb, "peak_memory_mb": peak_mb}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):  # progress is not measured
        root = Path(folder)
        write_corpus(root / "corpus", CLIPS, SECONDS * RATE_HZ)
        clips = read_corpus([root / "corpus"]).clips
        paths = [clip.path for clip in clips]
        store = build(root, clips)
        times = {
            "store build": seconds(lambda: build(root, clips)),
            "librosa.load": seconds(lambda: [librosa.load(path, sr=None) for path in paths], 1),
            "soundfile.read": seconds(lambda: [soundfile.read(path, dtype="int16") for path in paths]),
            "reading the bytes": seconds(lambda: [path.read_bytes() for path in paths]),
            "store opened again": seconds(lambda: opened(store.home.parent, clips)),
        }
        rates = {f"{what}, clips a second": round(CLIPS / time) for what, time in times.items()}
        rates["crops a second"] = round(crop_rate(store))
        many = {f"{LISTED} clips, {what}": round(value, 2) for what, value in list_and_open(root).items()}
        print(json.dumps(rates | many, indent=1))


if __name__ == "__main__":
    main()
