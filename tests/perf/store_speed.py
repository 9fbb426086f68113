"""How fast a large corpus is listed and its store opened (`asdjax bench store` has decoding and cutting).

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
LISTED = 60_000


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
    return open_store(folder, "fan", clips, Decoding(RATE_HZ))


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
        many = {f"{LISTED} clips, {what}": round(value, 2) for what, value in list_and_open(Path(folder)).items()}
        print(json.dumps(many, indent=1))


if __name__ == "__main__":
    main()
