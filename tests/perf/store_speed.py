"""Measure how fast a large corpus is listed and its store opened. `asdjax bench store` measures decoding and cutting.

    uv run python tests/perf/store_speed.py

Writes 60,000 very short clips to a temporary folder.
"""

import json
import resource
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import soundfile

from asdjax.data.audio import Decoding
from asdjax.data.clips import Clip
from asdjax.data.layouts import read_corpus
from asdjax.data.store import WaveStore, open_store
from asdjax.data.store_index import INDEX

RATE_HZ = 16_000
CLIPS, CLIP_SAMPLES = 60_000, 32


def write_corpus(root: Path) -> None:
    """Write one machine type in the layout of 2021."""
    folder = root / "fan" / "train"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(-3000, 3000, CLIP_SAMPLES + CLIPS, dtype=np.int16)
    for i in range(CLIPS):
        name = f"section_{i % 6:02d}_source_train_normal_{i:05d}_v_1.wav"
        soundfile.write(folder / name, noise[i : i + CLIP_SAMPLES], RATE_HZ)


def time_median(run: Callable[[], object], repeats: int = 3) -> float:
    """Return the median of the seconds that `run` takes."""
    times = []
    for _ in range(repeats):
        begun = perf_counter()
        run()
        times.append(perf_counter() - begun)
    return median(times)


def open_clips(folder: Path, clips: tuple[Clip, ...]) -> WaveStore:
    """Open the store of the clips, building it the first time."""
    return open_store(folder, "fan", clips, Decoding(RATE_HZ))


def measure(root: Path) -> dict[str, float]:
    """Return the seconds to list a corpus and to open its built store, the index's size and the peak of memory."""
    corpus, store = root / "many", root / "many store"
    write_corpus(corpus)
    listing = time_median(lambda: read_corpus([corpus]), 1)
    clips = read_corpus([corpus]).clips
    open_clips(store, clips)
    index_mb = (store / "fan" / INDEX).stat().st_size / 2**20
    opening = time_median(lambda: open_clips(store, clips))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"list_s": listing, "open_s": opening, "index_mb": index_mb, "peak_memory_mb": peak_mb}


def main() -> None:
    """Measure in a temporary folder and print the figures as JSON."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):  # progress is not measured
        figures = {f"{CLIPS} clips, {name}": round(value, 2) for name, value in measure(Path(folder)).items()}
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
