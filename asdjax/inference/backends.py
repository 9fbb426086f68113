"""Distances from a piece to a bank: nearest neighbours, prototypes, a Gaussian.

A backend is a function from a bank to a distance. The two kinds of distance hold plain arrays, so they can be exported.

Letters: q queries, n bank pieces, d embedding.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from asdjax.inference import knn
from asdjax.inference.bank import Bank, Scoring, choose_core, oversample

#: Folds of a bank's clips when its own pieces are scored by a backend that is fitted.
CROSS_FOLDS = 10

#: Fewest clips of a bank with a density: when one of them is scored, two are left that give each other's spacing.
FEWEST_WITH_DENSITY = 3

# Smallest mean distance used as a density: float32 cosines of equal vectors are this close to 1.
_LEAST_DISTANCE = 1e-6

# Smallest variance of a Gaussian in any direction, the resolution of float32 unit embeddings. Without it, every point
# perpendicular to the line through two pieces would have distance 0.
_LEAST_VARIANCE = 1e-7


class Neighbours(NamedTuple):
    """A mean cosine distance to the k nearest of `vectors` (n, d).

    With `spacing` (n,), the distance to each vector is divided by its spacing.
    """

    vectors: np.ndarray
    k: int
    spacing: np.ndarray | None = None

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        return knn.mean_distance(queries, self.vectors, self.k, spacing=self.spacing)


class Gaussian(NamedTuple):
    """A distance to `mean` (d,) in standard deviations: Euclidean after `whitening` (d, d)."""

    mean: np.ndarray
    whitening: np.ndarray

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        return np.linalg.norm((queries - self.mean) @ self.whitening, axis=1).astype(np.float32)


class Scorer(NamedTuple):
    """The smallest of the distances to one or more banks: unit embeddings (q, d) float32 -> scores (q,).

    A higher score is more anomalous. The score is NaN if all banks are empty.
    """

    distances: tuple[Neighbours | Gaussian, ...]

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        return _minimum([distance(queries) for distance in self.distances])


Backend = Callable[[Bank, Scoring], Neighbours | Gaussian]


def _knn(bank: Bank, scoring: Scoring) -> Neighbours:
    """Return the mean cosine distance to the k nearest pieces (the report, 2.5)."""
    return Neighbours(bank.vectors, scoring.k)


def _knn_density(bank: Bank, scoring: Scoring) -> Neighbours:
    """Return the `knn` distance with each bank piece's distance divided by the local spacing of the bank.

    The spacing of a bank piece is its mean distance to its density_k nearest pieces of other clips. Distances thus
    count less where recordings are few, as in the target domain (Wilkinghoff et al. 2025, ratio form; k = 1 gives
    their score). The spacing of a single clip is NaN; `_share_spacing` replaces it.
    """
    spacing = knn.mean_distance(
        bank.vectors, bank.vectors, scoring.density_k, query_clips=bank.clips, bank_clips=bank.clips
    )
    known = np.isfinite(spacing) if np.isfinite(spacing).any() else np.ones(len(bank), bool)
    return Neighbours(bank.vectors[known], scoring.k, np.maximum(spacing[known], _LEAST_DISTANCE))


def _kmeans(bank: Bank, scoring: Scoring) -> Neighbours:
    """Return the cosine distance to the nearest prototype (Wilkinghoff 2021).

    Prototypes are k-means centres of the source pieces, and every target piece, because these are few.
    """
    source, target = bank.vectors[~bank.target], bank.vectors[bank.target]
    if len(source) > scoring.prototypes:
        source = _find_centres(source, scoring.prototypes)
        source = source / np.maximum(np.linalg.norm(source, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    prototypes = np.concatenate([source, target]).astype(np.float32)
    return Neighbours(prototypes, 1)


def _find_centres(vectors: np.ndarray, number: int) -> np.ndarray:
    """Return k-means centres (number, d). Some are equal if fewer vectors differ."""
    from sklearn.cluster import KMeans  # late: slow to import, and `score` with knn does not need it
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # raised for equal centres
        return KMeans(number, n_init="auto", random_state=0).fit(vectors).cluster_centers_


def _mahalanobis(bank: Bank, scoring: Scoring) -> Gaussian:
    """Return the Mahalanobis distance to the bank's mean, with Ledoit and Wolf's (2004) shrunk covariance."""
    from sklearn.covariance import LedoitWolf  # late, as above

    d = bank.vectors.shape[1]
    if len(bank) == 0:
        return Gaussian(np.full(d, np.nan), np.eye(d))
    vectors = np.resize(bank.vectors.astype(np.float64), (max(len(bank), 2), d))  # repeats a single vector
    with _find_blas().limit(limits=1, user_api="blas"):
        gaussian = LedoitWolf().fit(vectors)
        variances, axes = np.linalg.eigh(gaussian.covariance_)
    whitening = axes / np.sqrt(np.maximum(variances, _LEAST_VARIANCE))
    return Gaussian(gaussian.location_, whitening)


@functools.cache
def _find_blas() -> ThreadpoolController:
    """Return the control of linear algebra's threads.

    With one thread the bits of a small fit do not depend on the number of cores, and the threads of two processes do
    not wait for each other's cores (tests/perf/README.md).
    """
    return ThreadpoolController()


BACKENDS: dict[str, Backend] = {
    "knn": _knn,
    "knn_density": _knn_density,
    "kmeans": _kmeans,
    "mahalanobis": _mahalanobis,
}


def make_scorer(bank: Bank, scoring: Scoring) -> Scorer:
    """Fit the configured backend to a bank, for pieces that are not in the bank."""
    return _fit(bank, choose_scoring(bank, scoring))


def choose_scoring(bank: Bank, scoring: Scoring) -> Scoring:
    """Return the scoring for a bank: `knn` instead of `knn_density` if it has fewer than FEWEST_WITH_DENSITY clips."""
    if scoring.backend == "knn_density" and len(np.unique(bank.clips)) < FEWEST_WITH_DENSITY:
        return replace(scoring, backend="knn")
    return scoring


def _fit(bank: Bank, scoring: Scoring) -> Scorer:
    distances = [BACKENDS[scoring.backend](part, scoring) for part in _split_bank(bank, scoring)]
    return Scorer(tuple(_share_spacing(distances) if scoring.backend == "knn_density" else distances))


def _share_spacing(distances: Sequence[Neighbours | Gaussian]) -> list[Neighbours | Gaussian]:
    """Give a domain of a single clip, whose spacing is NaN, the mean spacing of the other domain.

    Distances to both domains then have one scale. If neither domain has a spacing, both banks become empty.
    """
    spacings = [one.spacing for one in distances if isinstance(one, Neighbours) and one.spacing is not None]
    known = np.concatenate([spacing[np.isfinite(spacing)] for spacing in spacings])
    if not len(known):
        return [Neighbours(one.vectors[:0], one.k) if isinstance(one, Neighbours) else one for one in distances]
    mean = known.mean(dtype=np.float32)
    return [
        one._replace(spacing=np.where(np.isfinite(one.spacing), one.spacing, mean))
        if isinstance(one, Neighbours) and one.spacing is not None
        else one
        for one in distances
    ]


def score_left_out(queries: Bank, bank: Bank, scoring: Scoring) -> np.ndarray:
    """Score pieces (q,) of clips of a bank, such as its own, each without the pieces of its clip.

    With `knn` and all pieces of the bank every clip is left out separately. Other scorers are fitted once per fold: to
    the clips outside one of CROSS_FOLDS parts. The score is NaN where no piece is left.
    """
    scoring = choose_scoring(bank, scoring)
    if scoring.backend == "knn" and not scoring.bank_pieces:
        return _minimum([_knn_left_out(queries, part, scoring) for part in _split_bank(bank, scoring)])
    distances = np.full(len(queries), np.nan, np.float32)
    clips = np.unique(bank.clips[:, 0])
    for fold in range(min(CROSS_FOLDS, len(clips))):
        left_out = clips[fold::CROSS_FOLDS]
        rows = np.isin(queries.clips[:, 0], left_out)
        if rows.any():
            distances[rows] = _fit(bank.without(left_out), scoring)(queries.vectors[rows])
    return distances


def _knn_left_out(queries: Bank, part: Bank, scoring: Scoring) -> np.ndarray:
    return knn.mean_distance(queries.vectors, part.vectors, scoring.k, query_clips=queries.clips, bank_clips=part.clips)


def _split_bank(bank: Bank, scoring: Scoring) -> Sequence[Bank]:
    """Add the configured synthetic pieces, choose a core, and split the bank by domain if the nearer domain decides."""
    filled = choose_core(oversample(bank, scoring.smote_ratio), scoring.bank_pieces)
    if scoring.bank != "either_domain":
        return (filled,)
    return tuple(filled.select_domain(target=target) for target in (False, True))


def _minimum(distances: Sequence[np.ndarray]) -> np.ndarray:
    """Return the elementwise minimum, ignoring NaN: (q,) each -> (q,)."""
    return np.fmin.reduce(distances)
