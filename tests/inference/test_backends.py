"""Backends compared with float64 numpy and scikit-learn, exclusion of own clips, and degenerate banks."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from asdjax.inference.backends import BACKENDS, CROSS_FOLDS, make_scorer, score_left_out
from asdjax.inference.bank import Bank, Scoring, oversample

D = 16
CLOSE = {"rtol": 2e-4, "atol": 2e-6}
EVERY = pytest.mark.parametrize("backend", BACKENDS)
BANKS = pytest.mark.parametrize("bank", ["section", "either_domain"])


def units(number: int, seed: int, d: int = D, centre: Sequence[float] | np.ndarray = (0.0,)) -> np.ndarray:
    """Draw vectors of unit length around a centre."""
    rows = np.random.default_rng(seed).normal(size=(number, d)) + np.asarray(centre)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def bank_of(vectors: np.ndarray, pieces: int, target_clips: int = 0) -> Bank:
    """Make a bank of clips of `pieces` pieces each; the last clips are of the target domain."""
    clip = np.arange(len(vectors)) // pieces
    return Bank(vectors, np.stack([clip, clip], axis=1), clip >= clip.max(initial=-1) + 1 - target_clips)


def usual(seed: int = 0, clips: int = 12, pieces: int = 3, target_clips: int = 3) -> Bank:
    return bank_of(units(clips * pieces, seed, centre=np.eye(D)[0] * 3), pieces, target_clips)


QUERIES = units(23, 99, centre=np.eye(D)[0] * 2)


def settings(backend: str, **changes: Any) -> Scoring:
    return Scoring(backend=backend, **{"k": 4, "density_k": 5, "prototypes": 6, **changes})


def nearest_cosine(queries: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    nearest = NearestNeighbors(n_neighbors=min(k, len(bank)), metric="cosine", algorithm="brute")
    return nearest.fit(bank.astype(np.float64)).kneighbors(queries.astype(np.float64))[0].mean(axis=1)


def ratio_to_density(queries: np.ndarray, bank: Bank, k: int, density_k: int) -> np.ndarray:
    """Return the mean of the k smallest D(x, y) / mean_j D(y, y_j); the y_j share no clip with y.

    Wilkinghoff et al. (2025) take the smallest one.
    """
    vectors = bank.vectors.astype(np.float64)
    density = np.full(len(bank), np.nan)
    for i, vector in enumerate(vectors):
        others = vectors[~np.isin(bank.clips, bank.clips[i]).any(axis=1)]
        if len(others):
            density[i] = np.sort(1 - others @ vector)[:density_k].mean()
    ratios = (1 - queries.astype(np.float64) @ vectors.T) / density
    return np.sort(ratios, axis=1)[:, : min(k, np.isfinite(density).sum())].mean(axis=1)  # NaN sorts last


def nearest_prototype(queries: np.ndarray, bank: Bank, prototypes: int) -> np.ndarray:
    source, target = bank.vectors[~bank.target], bank.vectors[bank.target]
    if len(source) > prototypes:
        source = KMeans(prototypes, n_init="auto", random_state=0).fit(source).cluster_centers_
    every = np.concatenate([source, target]).astype(np.float64)
    return (1 - queries @ (every / np.linalg.norm(every, axis=1, keepdims=True)).T).min(axis=1)


def mahalanobis(queries: np.ndarray, bank: Bank) -> np.ndarray:
    vectors = bank.vectors.astype(np.float64)
    inverse = np.linalg.inv(LedoitWolf().fit(vectors).covariance_)
    apart = queries - vectors.mean(axis=0)
    return np.array([np.sqrt(row @ inverse @ row) for row in apart])


ORACLES: dict[str, Callable[[np.ndarray, Bank, Scoring], np.ndarray]] = {
    "knn": lambda queries, bank, how: nearest_cosine(queries, bank.vectors, how.k),
    "knn_density": lambda queries, bank, how: ratio_to_density(queries, bank, how.k, how.density_k),
    "kmeans": lambda queries, bank, how: nearest_prototype(queries, bank, how.prototypes),
    "mahalanobis": lambda queries, bank, how: mahalanobis(queries, bank),
}


def test_every_backend_has_an_oracle():
    assert ORACLES.keys() == BACKENDS.keys()


@EVERY
@pytest.mark.parametrize("seed", [0, 1])
def test_as_its_oracle(backend: str, seed: int):
    how, bank = settings(backend), usual(seed)
    got = make_scorer(bank, how)(QUERIES)
    assert (got.shape, got.dtype) == ((len(QUERIES),), np.float32)
    np.testing.assert_allclose(got, ORACLES[backend](QUERIES, bank, how), **CLOSE)


@pytest.mark.parametrize(("k", "density_k"), [(1, 1), (1, 16), (3, 2), (1000, 1000)])
def test_density_of_any_number_of_neighbours(k: int, density_k: int):
    how, bank = settings("knn_density", k=k, density_k=density_k), usual(2)
    expected = ratio_to_density(QUERIES, bank, k, density_k)
    np.testing.assert_allclose(make_scorer(bank, how)(QUERIES), expected, **CLOSE)


def test_density_of_synthetic_pieces_goes_without_either_parent():
    how = settings("knn_density", smote_ratio=1.0)
    bank = usual(3)
    expected = ratio_to_density(QUERIES, oversample(bank, 1.0), how.k, how.density_k)
    np.testing.assert_allclose(make_scorer(bank, how)(QUERIES), expected, **CLOSE)


def test_where_recordings_are_few_distances_count_less():
    """A query equally far from a dense and a sparse cluster has a lower score near the sparse one."""
    dense = units(30, 4, centre=np.eye(D)[0] * 100)
    sparse = units(30, 5, centre=np.eye(D)[1] * 10)
    from_dense, from_sparse = (units(1, 6, centre=np.eye(D)[i] * 10) for i in (0, 1))
    score = make_scorer(bank_of(np.concatenate([dense, sparse]), 3), settings("knn_density"))
    assert score(from_dense)[0] > 3 * score(from_sparse)[0]


def test_prototypes_are_the_means_of_clusters_and_every_target_piece():
    """Compare with means by hand; the clusters are so far apart that any start of k-means finds them."""
    clusters = [units(9, 10 + i, centre=np.eye(D)[i] * 200) for i in range(4)]
    target = units(5, 20)
    bank = bank_of(np.concatenate([*clusters, target]), 1, target_clips=5)
    means = np.stack([cluster.mean(axis=0) for cluster in clusters])
    for prototype in [*(means / np.linalg.norm(means, axis=1, keepdims=True)), *target]:
        assert abs(make_scorer(bank, settings("kmeans", prototypes=4))(prototype[None].astype(np.float32))[0]) < 2e-6
    np.testing.assert_allclose(
        make_scorer(bank, settings("kmeans", prototypes=4))(QUERIES),
        nearest_cosine(QUERIES, np.concatenate([means, target]), 1),
        **CLOSE,
    )


@pytest.mark.parametrize("prototypes", [27, 28, 1000])
def test_as_many_prototypes_as_source_pieces_are_these_pieces(prototypes: int):
    bank = usual(6)
    got = make_scorer(bank, settings("kmeans", prototypes=prototypes))(QUERIES)
    np.testing.assert_allclose(got, nearest_cosine(QUERIES, bank.vectors, 1), **CLOSE)


@EVERY
def test_of_either_domain_the_nearer_counts(backend: str):
    how, bank = settings(backend, bank="either_domain"), usual(7, clips=20, target_clips=8)
    parts = [Bank(*(field[bank.target == target] for field in bank)) for target in (False, True)]
    part_scores = np.stack([ORACLES[backend](QUERIES, part, how) for part in parts])
    assert 0 < np.sum(part_scores[0] < part_scores[1]) < len(QUERIES)  # each domain is the nearer one for some queries
    np.testing.assert_allclose(make_scorer(bank, how)(QUERIES), part_scores.min(axis=0), **CLOSE)


@EVERY
@pytest.mark.parametrize("target_clips", [0, 12])
def test_of_either_domain_the_one_that_is_there_counts(backend: str, target_clips: int):
    how, bank = settings(backend, bank="either_domain"), usual(8, target_clips=target_clips)
    np.testing.assert_allclose(make_scorer(bank, how)(QUERIES), ORACLES[backend](QUERIES, bank, how), **CLOSE)


def without(bank: Bank, clips: Sequence[int]) -> Bank:
    return Bank(*(field[~np.isin(bank.clips, clips).any(axis=1)] for field in bank))


def nearer_domain(queries: np.ndarray, bank: Bank, how: Scoring) -> np.ndarray:
    parts = [Bank(*(field[bank.target == target] for field in bank)) for target in (False, True)]
    return np.min([ORACLES[how.backend](queries, part, how) for part in parts if len(part)], axis=0)


@BANKS
def test_within_a_bank_each_clip_is_left_out_by_itself(bank: str):
    how, whole = settings("knn", bank=bank), usual(9)
    got = score_left_out(whole, whole, how)
    for clip in np.unique(whole.clips):
        own = whole.clips[:, 0] == clip
        rest = without(whole, [clip])
        by = nearer_domain if bank == "either_domain" else ORACLES["knn"]
        np.testing.assert_allclose(got[own], by(whole.vectors[own], rest, how), **CLOSE)


@BANKS
@pytest.mark.parametrize("backend", sorted(BACKENDS.keys() - {"knn"}))
@pytest.mark.parametrize("clips", [7, 24])
def test_within_a_bank_what_is_fitted_is_fitted_to_other_folds(backend: str, bank: str, clips: int):
    """Compare with a loop over folds. Of fewer clips than folds, each is left out by itself."""
    how, whole = settings(backend, bank=bank), usual(10, clips=clips)
    expected = np.full(len(whole), np.nan)
    for fold in range(CROSS_FOLDS):
        held_out = np.isin(whole.clips[:, 0], [clip for clip in range(clips) if clip % CROSS_FOLDS == fold])
        if held_out.any():
            rest = without(whole, whole.clips[held_out, 0])
            by = nearer_domain if bank == "either_domain" else ORACLES[backend]
            expected[held_out] = by(whole.vectors[held_out], rest, how)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(score_left_out(whole, whole, how), expected, **CLOSE)


def with_a_stranger(domain_clip: int) -> Bank:
    """Make a bank in which the equal pieces of one clip are opposite to all others."""
    bank = usual(11)
    vectors = bank.vectors.copy()
    vectors[bank.clips[:, 0] == domain_clip] = -np.eye(D, dtype=np.float32)[0]
    return Bank(vectors, bank.clips, bank.target)


@EVERY
@BANKS
@pytest.mark.parametrize("smote_ratio", [0.0, 1.0])
@pytest.mark.parametrize("stranger", [2, 10], ids=["source", "target"])
def test_a_clip_far_from_everything_is_far(backend: str, bank: str, smote_ratio: float, stranger: int):
    """If a piece met its own clip, or a synthetic piece made from it, its score would be low."""
    how = settings(backend, bank=bank, smote_ratio=smote_ratio, k=1)
    whole = with_a_stranger(stranger)
    own = whole.clips[:, 0] == stranger
    got = score_left_out(whole, whole, how)
    assert got[own].min() > got[~own].max()
    if backend in ("knn", "kmeans"):
        assert got[own].min() > 1.2  # the cosine distance to the opposite side


@EVERY
@BANKS
@pytest.mark.parametrize("smote_ratio", [0.0, 1.0])
def test_a_piece_is_scored_the_same_whatever_else_its_clip_holds(backend: str, bank: str, smote_ratio: float):
    if smote_ratio and backend == "knn":
        return  # the synthetic pieces of others depend on all pieces of the bank
    how, whole = settings(backend, bank=bank, smote_ratio=smote_ratio), usual(12)
    before = score_left_out(whole, whole, how)
    for clip in (3, 11):
        vectors = whole.vectors.copy()
        first, *others = np.flatnonzero(whole.clips[:, 0] == clip)
        vectors[others] = vectors[first]
        after = score_left_out(*[Bank(vectors, whole.clips, whole.target)] * 2, how)
        np.testing.assert_allclose(after[first], before[first], rtol=1e-6)


@EVERY
@pytest.mark.parametrize(("bank", "smote_ratio"), [("section", 0.0), ("either_domain", 2.0)])
def test_an_empty_bank_gives_nan(backend: str, bank: str, smote_ratio: float):
    how, none = settings(backend, bank=bank, smote_ratio=smote_ratio), usual().take(np.zeros(36, bool))
    got = make_scorer(none, how)(QUERIES)
    assert got.shape == (len(QUERIES),)
    assert np.isnan(got).all()
    assert score_left_out(none, none, how).shape == (0,)
    assert make_scorer(usual(), how)(QUERIES[:0]).shape == (0,)


@EVERY
@pytest.mark.parametrize("pieces", [1, 2, 9])
def test_a_bank_of_one_clip(backend: str, pieces: int):
    """The clip itself has no score. Test clips have scores that grow with distance."""
    one = bank_of(units(pieces, 13, centre=np.eye(D)[0] * 9), pieces)
    how = settings(backend)
    assert np.isnan(score_left_out(one, one, how)).all()
    near, far = one.vectors[:1], -one.vectors[:1]
    got = make_scorer(one, how)(np.concatenate([near, units(1, 14, centre=np.eye(D)[0] * 3), far]))
    assert got[0] < got[1] < got[2]


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_banks_of_one_or_two_clips_have_no_density(clips: int):
    """Their own clips and test clips are scored alike."""
    bank = bank_of(units(3 * clips, 17), 3)
    plain, density = settings("knn"), settings("knn_density")
    same = [
        np.array_equal(make_scorer(bank, plain)(QUERIES), make_scorer(bank, density)(QUERIES)),
        np.array_equal(score_left_out(bank, bank, plain), score_left_out(bank, bank, density), equal_nan=True),
    ]
    assert same == [clips < 3] * 2


@EVERY
def test_a_lone_target_piece_draws_in_what_is_near_it_and_nothing_else(backend: str):
    """A domain of a single piece must not be the nearer one for distant queries."""
    source = units(60, 15, centre=np.eye(D)[0] * 9)
    lone = np.eye(D, dtype=np.float32)[1:2]
    how = settings(backend, bank="either_domain")
    queries = units(20, 16, centre=np.eye(D)[0] * 9)
    alone = make_scorer(bank_of(source, 1), how)(queries)
    both = make_scorer(bank_of(np.concatenate([source, lone]), 1, target_clips=1), how)
    np.testing.assert_allclose(both(queries), alone, **CLOSE)
    assert both(lone)[0] < 1e-3


@EVERY
@BANKS
@pytest.mark.parametrize("kinds", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("noise", "smote_ratio"), [(0.0, 0.0), (0.0, 2.0), (1e-7, 0.0)])
def test_pieces_all_alike(backend: str, bank: str, kinds: int, noise: float, smote_ratio: float):
    """Silent recordings give equal pieces. Equal queries must score lower than all others."""
    vectors = np.tile(units(kinds, 17), (30, 1))[:30]
    vectors = vectors + np.float32(noise) * units(30, 18)
    whole = bank_of(vectors.astype(np.float32), 2, target_clips=4)
    how = settings(backend, bank=bank, smote_ratio=smote_ratio)
    alike, others = make_scorer(whole, how)(vectors), make_scorer(whole, how)(QUERIES)
    assert np.isfinite([*alike, *others]).all()
    assert alike.max() < others.min()
    assert np.isfinite(score_left_out(whole, whole, how)).all()


@EVERY
@pytest.mark.parametrize(("bank", "smote_ratio"), [("section", 0.0), ("either_domain", 2.0)])
@pytest.mark.parametrize("which", ["zeros", "tiny", "some zeros", "opposite"])
def test_extremes_of_float32_are_finite(backend: str, bank: str, smote_ratio: float, which: str):
    """Scores of embeddings that are zero, tiny or opposite are finite."""
    ordinary = units(30, 19)
    vectors = {
        "zeros": np.zeros_like(ordinary),
        "tiny": ordinary * np.finfo(np.float32).tiny,
        "some zeros": np.where(np.arange(30)[:, None] % 3 > 0, ordinary, 0),
        "opposite": np.where(np.arange(30)[:, None] % 2 > 0, ordinary[:1], -ordinary[:1]),
    }[which].astype(np.float32)
    whole = bank_of(vectors, 2, target_clips=4)
    how = settings(backend, bank=bank, smote_ratio=smote_ratio)
    queries = np.concatenate([QUERIES, vectors, np.full((1, D), np.finfo(np.float32).tiny)]).astype(np.float32)
    assert np.isfinite(make_scorer(whole, how)(queries)).all()
    assert np.isfinite(score_left_out(whole, whole, how)).all()


@EVERY
@BANKS
def test_more_neighbours_and_prototypes_than_the_bank_holds(backend: str, bank: str):
    how = settings(backend, bank=bank, k=1000, density_k=1000, prototypes=1000)
    whole = usual(20)
    by = nearer_domain if bank == "either_domain" else ORACLES[backend]
    np.testing.assert_allclose(make_scorer(whole, how)(QUERIES), by(QUERIES, whole, how), **CLOSE)
    assert np.isfinite(score_left_out(whole, whole, how)).all()


@EVERY
@BANKS
def test_two_fits_give_the_same_scores(backend: str, bank: str):
    how, whole = settings(backend, bank=bank, smote_ratio=1.0), usual(21)
    np.testing.assert_array_equal(make_scorer(whole, how)(QUERIES), make_scorer(whole, how)(QUERIES))
    np.testing.assert_array_equal(score_left_out(whole, whole, how), score_left_out(whole, whole, how))


def test_missing_distances_warn_nobody():
    """A domain with a single clip has no pieces left for that clip."""
    whole = usual(22, target_clips=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for backend in BACKENDS:
            assert np.isfinite(score_left_out(whole, whole, settings(backend, bank="either_domain"))).all()
