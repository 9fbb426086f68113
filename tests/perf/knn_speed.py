"""Nearest neighbours in a bank of 5 GB: how fast, and in how much memory (`asdjax bench knn` has the rivals).

    uv run python tests/perf/knn_speed.py [PIECES]        PIECES of the bank, 10,000,000

Writes the bank to a temporary folder, which needs 512 bytes a piece there, and removes it. The distances must agree
with plain numpy's.
"""

import os
import resource
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from asdjax.inference import knn
from asdjax.runtime.threads import cores

DIMENSIONS, K = 128, 10
QUERIES, PIECES, WRITTEN_AT_ONCE = 1_000, 10_000_000, 100_000


def units(number: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((number, DIMENSIONS), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def anonymous_mib() -> float:
    """Memory of this process that is no file's."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


@contextmanager
def sampled(peak: list[float]) -> Iterator[None]:
    """Append the anonymous memory every 10 ms."""
    ended = threading.Event()

    def sample() -> None:
        while not ended.is_set():
            peak.append(anonymous_mib())
            sleep(0.01)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def search(folder: Path, pieces: int) -> None:
    path = folder / "bank.f32"
    with path.open("wb") as file:
        for begin in range(0, pieces, WRITTEN_AT_ONCE):
            file.write(units(min(WRITTEN_AT_ONCE, pieces - begin), 1 + begin).data)
    bank = np.memmap(path, np.float32, "r", shape=(pieces, DIMENSIONS))
    queries = units(QUERIES, 0)
    knn.mean_distance(queries[:1], bank[:1], K)  # wakes JAX up
    before, samples = anonymous_mib(), []
    with sampled(samples):
        begun = perf_counter()
        got = knn.mean_distance(queries, bank, K)
        taken = perf_counter() - begun
    mapped = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    few = np.sort(np.concatenate([
        np.sort(1 - queries[:3] @ bank[i : i + WRITTEN_AT_ONCE].T, axis=1)[:, :K]
        for i in range(0, pieces, WRITTEN_AT_ONCE)
    ], axis=1), axis=1)[:, :K].mean(axis=1)  # fmt: skip
    np.testing.assert_allclose(got[:3], few, atol=5e-6)
    print(
        f"{QUERIES:,} queries x {pieces:,} x {DIMENSIONS} mapped from a file, compiling included: {taken:.1f} s, "
        f"{QUERIES / taken:.0f} queries a second\n"
        f"  anonymous memory {before:,.0f} MiB before, at most {max(samples):,.0f} MiB; ru_maxrss, which counts the "
        f"mapped file's pages, {mapped:,.0f} MiB"
    )


def main() -> None:
    pieces = int(sys.argv[1]) if len(sys.argv) > 1 else PIECES
    print(f"{cores()} cores, load {os.getloadavg()[0]:.2f} at the start")
    with tempfile.TemporaryDirectory() as folder:
        if shutil.disk_usage(folder).free < 1.2 * pieces * 4 * DIMENSIONS:
            sys.exit(f"{folder}: needs {pieces * 4 * DIMENSIONS / 2**30:.1f} GiB; set TMPDIR, or give fewer PIECES")
        search(Path(folder), pieces)
    print(f"load {os.getloadavg()[0]:.2f} at the end")


if __name__ == "__main__":
    main()
