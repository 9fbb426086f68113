"""Measure nearest neighbours in a bank of 5 GB: time and memory. `asdjax bench knn` compares with other libraries.

    uv run python tests/perf/knn_speed.py [PIECES]        PIECES of the bank, 10,000,000

Writes the bank to a temporary folder, which needs 512 bytes a piece, and removes it. The distances are compared with
plain numpy's.
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
from asdjax.runtime.threads import count_cores

DIMENSIONS, K = 128, 10
QUERIES, PIECES, WRITTEN_AT_ONCE = 1_000, 10_000_000, 100_000


def draw_unit_vectors(number: int, seed: int) -> np.ndarray:
    """Return float32 (number, DIMENSIONS) of length 1."""
    rows = np.random.default_rng(seed).standard_normal((number, DIMENSIONS), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def read_anonymous_mib() -> float:
    """Return the memory of this process without mapped files."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


@contextmanager
def sample_memory(samples: list[float]) -> Iterator[None]:
    """Append the anonymous memory (MiB) every 10 ms."""
    ended = threading.Event()

    def sample() -> None:
        while not ended.is_set():
            samples.append(read_anonymous_mib())
            sleep(0.01)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def measure_search(folder: Path, pieces: int) -> None:
    """Write a bank to the folder, search it, compare with numpy and print time and memory."""
    path = folder / "bank.f32"
    with path.open("wb") as file:
        for begin in range(0, pieces, WRITTEN_AT_ONCE):
            file.write(draw_unit_vectors(min(WRITTEN_AT_ONCE, pieces - begin), 1 + begin).data)
    bank = np.memmap(path, np.float32, "r", shape=(pieces, DIMENSIONS))
    queries = draw_unit_vectors(QUERIES, 0)
    knn.mean_distance(queries[:1], bank[:1], K)  # initialises JAX
    before, samples = read_anonymous_mib(), []
    with sample_memory(samples):
        begun = perf_counter()
        found = knn.mean_distance(queries, bank, K)
        seconds = perf_counter() - begun
    max_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.testing.assert_allclose(found[:3], compute_reference(queries[:3], bank), atol=5e-6)
    print(
        f"{QUERIES:,} queries x {pieces:,} x {DIMENSIONS} mapped from a file, compiling included: {seconds:.1f} s, "
        f"{QUERIES / seconds:.0f} queries a second\n"
        f"  anonymous memory {before:,.0f} MiB before, at most {max(samples):,.0f} MiB; ru_maxrss, which counts the "
        f"mapped file's pages, {max_rss:,.0f} MiB"
    )


def compute_reference(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Return mean distances (q,) by numpy, a part of the bank at a time."""
    parts = [
        np.sort(1 - queries @ bank[begin : begin + WRITTEN_AT_ONCE].T, axis=1)[:, :K]
        for begin in range(0, len(bank), WRITTEN_AT_ONCE)
    ]
    return np.sort(np.concatenate(parts, axis=1), axis=1)[:, :K].mean(axis=1)


def main() -> None:
    """Measure with as many pieces as the command line says."""
    pieces = int(sys.argv[1]) if len(sys.argv) > 1 else PIECES
    print(f"{count_cores()} cores, load {os.getloadavg()[0]:.2f} at the start")
    with tempfile.TemporaryDirectory() as folder:
        if shutil.disk_usage(folder).free < 1.2 * pieces * 4 * DIMENSIONS:
            sys.exit(f"{folder}: needs {pieces * 4 * DIMENSIONS / 2**30:.1f} GiB; set TMPDIR, or give fewer PIECES")
        measure_search(Path(folder), pieces)
    print(f"load {os.getloadavg()[0]:.2f} at the end")


if __name__ == "__main__":
    main()
