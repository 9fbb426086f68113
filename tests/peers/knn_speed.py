"""How fast nearest neighbours are found, against scikit-learn and faiss in one run; a bank of 5 GB in how much memory.

    uv run --with faiss-cpu python tests/peers/knn_speed.py [PIECES]        PIECES of the large bank, 10,000,000

Without `--with faiss-cpu` that line is left out. Writes the large bank to a temporary folder, which needs 512 bytes a
piece there, and removes it. Every way runs five times, in turn with the others, on all cores; the median counts. Each
must agree with asdjax's distances.
"""

import importlib.util
import os
import resource
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import numpy as np
from sklearn.neighbors import NearestNeighbors

from asdjax.evaluation import knn

QUERIES, BANK, DIMENSIONS, K = 2_000, 54_000, 128, 10
LARGE_QUERIES, LARGE_BANK, WRITTEN_AT_ONCE = 1_000, 10_000_000, 100_000
REPEATS = 5

Way = Callable[[np.ndarray], np.ndarray]
"""Queries (q, d) -> mean cosine distances (q,) to the k nearest pieces of a bank that it holds already."""


def units(number: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((number, DIMENSIONS), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_asdjax(bank: np.ndarray) -> Way:
    return lambda queries: knn.mean_distance(queries, bank, K)


def by_asdjax_without_own_clips(bank: np.ndarray) -> Way:
    """As training clips are scored: nine pieces a clip, and the queries are of none of them."""
    clips = np.repeat(np.arange(-(-len(bank) // 9)), 9)[: len(bank)]
    own = np.full((QUERIES, 2), clips[-1] + 1)
    pairs = np.stack([clips, clips], axis=1)
    return lambda queries: knn.mean_distance(queries, bank, K, query_clips=own[: len(queries)], bank_clips=pairs)


def by_sklearn_cosine(bank: np.ndarray) -> Way:
    nearest = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute", n_jobs=-1).fit(bank)
    return lambda queries: nearest.kneighbors(queries)[0].mean(axis=1)


def by_sklearn_euclidean(bank: np.ndarray) -> Way:
    """Its faster path; of unit vectors half the squared distance is the cosine distance."""
    nearest = NearestNeighbors(n_neighbors=K, metric="sqeuclidean", algorithm="brute", n_jobs=-1).fit(bank)
    return lambda queries: nearest.kneighbors(queries)[0].mean(axis=1) / 2


def by_faiss(bank: np.ndarray) -> Way:
    faiss = importlib.import_module("faiss")
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(bank)
    return lambda queries: 1 - index.search(queries, K)[0].mean(axis=1)


def peers() -> dict[str, Callable[[np.ndarray], Way]]:
    ways = {
        "asdjax": by_asdjax,
        "asdjax, own clips left out": by_asdjax_without_own_clips,
        "scikit-learn, cosine": by_sklearn_cosine,
        "scikit-learn, sqeuclidean": by_sklearn_euclidean,
    }
    if importlib.util.find_spec("faiss") is None:
        print("faiss IndexFlatIP: left out, not installed; uv run --with faiss-cpu")
        return ways
    return ways | {"faiss IndexFlatIP": by_faiss}


def compare() -> None:
    queries, bank = units(QUERIES, 0), units(BANK, 1)
    ways = {name: build(bank) for name, build in peers().items()}
    answers = {name: way(queries) for name, way in ways.items()}  # compiles too
    for name, answer in answers.items():
        np.testing.assert_allclose(answer, answers["asdjax"], atol=5e-6, err_msg=name)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            begun = perf_counter()
            way(queries)
            times[name].append(perf_counter() - begun)
    print(
        f"{QUERIES:,} queries x {BANK:,} x {DIMENSIONS}, k = {K}: queries a second, median (least to most) of {REPEATS}"
    )
    for name, of_way in times.items():
        least, most = QUERIES / max(of_way), QUERIES / min(of_way)
        print(f"  {name:28}{QUERIES / median(of_way):8,.0f}  ({least:,.0f} to {most:,.0f})")


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


def large(folder: Path, pieces: int) -> None:
    path = folder / "bank.f32"
    with path.open("wb") as file:
        for begin in range(0, pieces, WRITTEN_AT_ONCE):
            file.write(units(min(WRITTEN_AT_ONCE, pieces - begin), 1 + begin).data)
    bank = np.memmap(path, np.float32, "r", shape=(pieces, DIMENSIONS))
    queries = units(LARGE_QUERIES, 0)
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
        f"{LARGE_QUERIES:,} queries x {pieces:,} x {DIMENSIONS} mapped from a file, compiling included: {taken:.1f} s, "
        f"{LARGE_QUERIES / taken:.0f} queries a second\n"
        f"  anonymous memory {before:,.0f} MiB before, at most {max(samples):,.0f} MiB; ru_maxrss, which counts the "
        f"mapped file's pages, {mapped:,.0f} MiB"
    )


def main() -> None:
    pieces = int(sys.argv[1]) if len(sys.argv) > 1 else LARGE_BANK
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start")
    with tempfile.TemporaryDirectory() as folder:
        if shutil.disk_usage(folder).free < 1.2 * pieces * 4 * DIMENSIONS:
            sys.exit(f"{folder}: needs {pieces * 4 * DIMENSIONS / 2**30:.1f} GiB; set TMPDIR, or give fewer PIECES")
        large(Path(folder), pieces)
    compare()
    print(f"load {os.getloadavg()[0]:.2f} at the end")


if __name__ == "__main__":
    main()
