"""Nearest neighbours compared with scikit-learn's brute force."""

import jax
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from asdjax.inference import knn

CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def units(number: int, seed: int, d: int = 16) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(number, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def expected(queries: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    nearest = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank.astype(np.float64))
    return nearest.kneighbors(queries.astype(np.float64))[0].mean(axis=1)


def twice(clip: np.ndarray) -> np.ndarray:
    return np.stack([clip, clip], axis=1)


@pytest.mark.parametrize("k", [1, 10])
def test_as_scikit_learn(k: int):
    queries, bank = units(37, 0), units(101, 1)
    got = knn.mean_distance(queries, bank, k)
    assert got.shape == (37,)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected(queries, bank, k), **CLOSE)


@pytest.mark.parametrize(("queries", "bank"), [(8, 16), (7, 15), (9, 17), (1, 1), (25, 50)])
def test_chunks_leave_no_trace(queries: int, bank: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(knn, "QUERY_CHUNK", 8)
    monkeypatch.setattr(knn, "BANK_CHUNK", 16)
    k = min(5, bank)
    q, b = units(queries, 2), units(bank, 3)
    np.testing.assert_allclose(knn.mean_distance(q, b, 5), expected(q, b, k), **CLOSE)


def test_more_neighbours_than_a_bank_chunk_holds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(knn, "BANK_CHUNK", 4)
    q, b = units(3, 4), units(11, 5)
    np.testing.assert_allclose(knn.mean_distance(q, b, 9), expected(q, b, 9), **CLOSE)


def test_k_larger_than_the_bank_takes_all_of_it():
    q, b = units(3, 6), units(4, 7)
    np.testing.assert_allclose(knn.mean_distance(q, b, 100), expected(q, b, 4), **CLOSE)


def test_a_query_never_meets_its_own_clip(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(knn, "BANK_CHUNK", 8)
    vectors, clip = units(30, 8), np.repeat(np.arange(10), 3)
    got = knn.mean_distance(vectors, vectors, 4, query_clips=twice(clip), bank_clips=twice(clip))
    for i in range(30):
        others = vectors[clip != clip[i]]
        np.testing.assert_allclose(got[i], expected(vectors[i : i + 1], others, 4)[0], **CLOSE)


def test_what_remains_counts_and_nothing_is_nan():
    vectors, clip = units(5, 9), np.array([0, 0, 0, 0, 1])
    got = knn.mean_distance(vectors, vectors, 3, query_clips=twice(clip), bank_clips=twice(clip))
    np.testing.assert_allclose(got[0], 1 - vectors[0] @ vectors[4], rtol=1e-4)
    assert np.isfinite(got).all()
    alone = knn.mean_distance(vectors[:4], vectors[:4], 3, query_clips=twice(clip[:4]), bank_clips=twice(clip[:4]))
    assert np.isnan(alone).all()
    assert np.isnan(knn.mean_distance(vectors, vectors[:0], 3)).all()
    assert knn.mean_distance(vectors[:0], vectors, 3).shape == (0,)


@pytest.mark.parametrize("k", [1, 4, 9])
def test_blocks_leave_no_trace(k: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(knn, "BLOCK", 8)
    monkeypatch.setattr(knn, "BANK_CHUNK", 64)
    jax.clear_caches()
    q, b = units(5, 10), np.repeat(units(50, 11), 3, axis=0)[:130]  # with equal distances
    np.testing.assert_allclose(knn.mean_distance(q, b, k), expected(q, b, k), **CLOSE)
    jax.clear_caches()


def test_spacing_divides_the_distances():
    q, b = units(7, 12), units(40, 13)
    spacing = np.random.default_rng(14).uniform(0.1, 2, 40).astype(np.float32)
    distance = (1 - q.astype(np.float64) @ b.T.astype(np.float64)) / spacing
    got = knn.mean_distance(q, b, 3, spacing=spacing)
    np.testing.assert_allclose(got, np.sort(distance, axis=1)[:, :3].mean(axis=1), **CLOSE)


def test_a_piece_made_of_two_clips_meets_neither():
    bank, parents = units(4, 15), np.array([[0, 0], [0, 1], [1, 2], [2, 2]])
    got = knn.mean_distance(bank[:1], bank, 4, query_clips=np.array([[0, 0]]), bank_clips=parents)
    np.testing.assert_allclose(got, (1 - bank[2:] @ bank[0]).mean(), rtol=1e-5)
    got = knn.mean_distance(bank[:1], bank, 4, query_clips=np.array([[1, 1]]), bank_clips=parents)
    np.testing.assert_allclose(got, (1 - bank[[0, 3]] @ bank[0]).mean(), rtol=1e-4, atol=1e-6)
