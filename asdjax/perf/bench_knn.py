"""`asdjax bench knn`: nearest neighbours against scikit-learn, and faiss where it is installed."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors

from asdjax.errors import InputError
from asdjax.inference import knn
from asdjax.models.layers import EMBEDDING
from asdjax.perf.bench_record import BenchRecord
from asdjax.perf.measure import clocked, in_turn, rate, ratio
from asdjax.runtime.progress import log

OURS = "asdjax"
PIECES_OF_CLIP = 9
TOLERANCE = 5e-6
"""Of a mean distance: what float32 sums in another order may differ by."""

Search = Callable[[np.ndarray], np.ndarray]
"""Queries (q, d) -> mean cosine distances (q,) to the k nearest pieces of a bank that it holds already."""


class KnnSize(NamedTuple):
    """Queries, pieces of the bank, and how many of the nearest are averaged."""

    queries: int = 2_000
    bank: int = 54_000
    k: int = 10


FULL = KnnSize()


def bench(repeats: int | None, size: KnnSize = FULL) -> dict[str, Any]:
    """Everything that the JSON holds: queries a second of each way, and ours over it.

    Raises InputError where one of them does not find what ours does.
    """
    log(f"{size.queries:,} queries x {size.bank:,} x {EMBEDDING}, k = {size.k}")
    queries, bank = _units(size.queries, 0), _units(size.bank, 1)
    ways = {name: build(bank, size) for name, build in _rivals().items()}
    record = BenchRecord()
    _require_agreement({name: way(queries) for name, way in ways.items()})
    times = in_turn({name: clocked(lambda way=way: way(queries)) for name, way in ways.items()}, repeats)
    record["size"] = size._asdict()
    record["ways"] = {
        name: {**rate(timing, size.queries), "ratio": ratio(times[OURS], timing)} for name, timing in times.items()
    }
    return record.so_far()


def _units(number: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((number, EMBEDDING), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _rivals() -> dict[str, Callable[[np.ndarray, KnnSize], Search]]:
    ways = {
        OURS: _by_asdjax,
        "asdjax, own clips left out": _by_asdjax_without_own_clips,
        "scikit-learn, cosine": _by_sklearn_cosine,
        "scikit-learn, sqeuclidean": _by_sklearn_euclidean,
    }
    if importlib.util.find_spec("faiss") is None:
        log("faiss is left out: it is not installed (uv run --with faiss-cpu asdjax bench knn)")
        return ways
    return ways | {"faiss IndexFlatIP": _by_faiss}


def _by_asdjax(bank: np.ndarray, size: KnnSize) -> Search:
    return lambda queries: knn.mean_distance(queries, bank, size.k)


def _by_asdjax_without_own_clips(bank: np.ndarray, size: KnnSize) -> Search:
    """As training clips are scored; the queries are of no clip of the bank, so that all ways find the same."""
    clips = np.repeat(np.arange(-(-len(bank) // PIECES_OF_CLIP)), PIECES_OF_CLIP)[: len(bank)]
    own = np.full((size.queries, 2), clips[-1] + 1)
    pairs = np.stack([clips, clips], axis=1)
    return lambda queries: knn.mean_distance(queries, bank, size.k, query_clips=own, bank_clips=pairs)


def _by_sklearn_cosine(bank: np.ndarray, size: KnnSize) -> Search:
    nearest = NearestNeighbors(n_neighbors=size.k, metric="cosine", algorithm="brute", n_jobs=-1).fit(bank)
    return lambda queries: nearest.kneighbors(queries)[0].mean(axis=1)


def _by_sklearn_euclidean(bank: np.ndarray, size: KnnSize) -> Search:
    """Its faster path; of unit vectors half the squared distance is the cosine distance."""
    nearest = NearestNeighbors(n_neighbors=size.k, metric="sqeuclidean", algorithm="brute", n_jobs=-1).fit(bank)
    return lambda queries: nearest.kneighbors(queries)[0].mean(axis=1) / 2


def _by_faiss(bank: np.ndarray, size: KnnSize) -> Search:
    index = importlib.import_module("faiss").IndexFlatIP(EMBEDDING)
    index.add(bank)
    return lambda queries: 1 - index.search(queries, size.k)[0].mean(axis=1)


def _require_agreement(answers: dict[str, np.ndarray]) -> None:
    for name, answer in answers.items():
        worst = float(np.max(np.abs(answer - answers[OURS])))
        if not worst <= TOLERANCE:
            raise InputError(
                f"{name}: expected the distances that asdjax finds to {TOLERANCE:g}, differs by {worst:.2g}; install "
                "another version of it, or none"
            )
