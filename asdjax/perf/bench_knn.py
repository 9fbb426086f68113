"""`asdjax bench knn`: nearest neighbours, compared with scikit-learn and, where it is installed, faiss."""

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
from asdjax.perf.measure import compute_rate, compute_ratio, time_calls, time_in_turns
from asdjax.runtime.progress import log

OURS = "asdjax"
PIECES_PER_CLIP = 9

# Mean distances may differ by this much, because float32 sums depend on their order.
TOLERANCE = 5e-6

#: Queries (q, d) -> mean cosine distances (q,) to the k nearest pieces of a bank that it already holds.
Search = Callable[[np.ndarray], np.ndarray]


class KnnSize(NamedTuple):
    """Number of queries, of pieces in the bank, and of neighbours averaged."""

    queries: int = 2_000
    bank: int = 54_000
    k: int = 10


FULL = KnnSize()


def bench(repeats: int | None, size: KnnSize = FULL) -> dict[str, Any]:
    """Return the benchmark result: queries per second of each way, and the ratio of ours to it.

    Raises InputError if one of them finds other distances than ours.
    """
    log(f"{size.queries:,} queries x {size.bank:,} x {EMBEDDING}, k = {size.k}")
    queries, bank = _draw_unit_vectors(size.queries, 0), _draw_unit_vectors(size.bank, 1)
    searches = {name: build(bank, size) for name, build in _list_builders().items()}
    record = BenchRecord()
    _require_agreement({name: search(queries) for name, search in searches.items()})
    runs = {name: time_calls(lambda search=search: search(queries)) for name, search in searches.items()}
    times = time_in_turns(runs, repeats)
    record["size"] = size._asdict()
    record["ways"] = {
        name: {**compute_rate(timing, size.queries), "ratio": compute_ratio(times[OURS], timing)}
        for name, timing in times.items()
    }
    return record.refresh()


def _draw_unit_vectors(number: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((number, EMBEDDING), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _list_builders() -> dict[str, Callable[[np.ndarray, KnnSize], Search]]:
    builders = {
        OURS: _build_asdjax,
        "asdjax, own clips left out": _build_asdjax_without_own_clips,
        "scikit-learn, cosine": _build_sklearn_cosine,
        "scikit-learn, sqeuclidean": _build_sklearn_euclidean,
    }
    if importlib.util.find_spec("faiss") is None:
        log("faiss is left out: it is not installed (uv run --with faiss-cpu asdjax bench knn)")
        return builders
    return builders | {"faiss IndexFlatIP": _build_faiss}


def _build_asdjax(bank: np.ndarray, size: KnnSize) -> Search:
    return lambda queries: knn.mean_distance(queries, bank, size.k)


def _build_asdjax_without_own_clips(bank: np.ndarray, size: KnnSize) -> Search:
    """Build the search for training clips.

    The queries belong to no clip of the bank, so that it finds the same neighbours as the rivals.
    """
    clips = np.repeat(np.arange(-(-len(bank) // PIECES_PER_CLIP)), PIECES_PER_CLIP)[: len(bank)]
    own = np.full((size.queries, 2), clips[-1] + 1)
    pairs = np.stack([clips, clips], axis=1)
    return lambda queries: knn.mean_distance(queries, bank, size.k, query_clips=own, bank_clips=pairs)


def _build_sklearn_cosine(bank: np.ndarray, size: KnnSize) -> Search:
    nearest = NearestNeighbors(n_neighbors=size.k, metric="cosine", algorithm="brute", n_jobs=-1).fit(bank)
    return lambda queries: nearest.kneighbors(queries)[0].mean(axis=1)


def _build_sklearn_euclidean(bank: np.ndarray, size: KnnSize) -> Search:
    """Build scikit-learn's faster search: half the squared distance of unit vectors is the cosine distance."""
    nearest = NearestNeighbors(n_neighbors=size.k, metric="sqeuclidean", algorithm="brute", n_jobs=-1).fit(bank)
    return lambda queries: nearest.kneighbors(queries)[0].mean(axis=1) / 2


def _build_faiss(bank: np.ndarray, size: KnnSize) -> Search:
    index = importlib.import_module("faiss").IndexFlatIP(EMBEDDING)
    index.add(bank)
    return lambda queries: 1 - index.search(queries, size.k)[0].mean(axis=1)


def _require_agreement(distances: dict[str, np.ndarray]) -> None:
    for name, found in distances.items():
        worst = float(np.max(np.abs(found - distances[OURS])))
        if not worst <= TOLERANCE:
            raise InputError(
                f"{name}: expected the distances of asdjax within {TOLERANCE:g}, got a difference of {worst:.2g}; "
                "install another version of it, or none"
            )
