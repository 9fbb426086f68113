"""How far a piece lies from a bank: nearest neighbours, prototypes, a Gaussian.

A backend is a function from a bank to a distance: either of two kinds, both plain arrays, so that they can be exported.

Letters: q queries, n bank pieces, d embedding.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from asdjax.inference import knn
from asdjax.inference.bank import Bank, Scoring, oversample


class Neighbours(NamedTuple):
    """The mean cosine distance to the k nearest of `vectors` (n, d), each divided by its `spacing` (n,), if there is
    one."""

    vectors: np.ndarray
    k: int
    spacing: np.ndarray | None = None

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        return knn.mean_distance(queries, self.vectors, self.k, spacing=self.spacing)


class Gaussian(NamedTuple):
    """The distance to `mean` (d,) in deviations: Euclidean after `whitening` (d, d)."""

    mean: np.ndarray
    whitening: np.ndarray

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        return np.linalg.norm((queries - self.mean) @ self.whitening, axis=1).astype(np.float32)


class Scorer(NamedTuple):
    """The least of the distances `of` several banks, or of one: unit embeddings (q, d) float32 -> (q,), higher = more
    anomalous; NaN where the banks were empty, and with `knn_density` where none had two clips."""

    of: tuple[Neighbours | Gaussian, ...]

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        return _nearest([distance(queries) for distance in self.of])


Backend = Callable[[Bank, Scoring], Neighbours | Gaussian]

CROSS_FOLDS = 10
"""Parts that a bank's clips are split into where its own pieces are scored by what the others were fitted to."""

_LEAST_DISTANCE = 1e-6
"""Of the mean distance that a density is; float32 cosines of equal vectors are no closer to 1."""

_LEAST_VARIANCE = 1e-7
"""Of a Gaussian in any direction; float32 embeddings of unit length are told apart no better. Without it whatever lies
across the line through two pieces would be no distance away."""


def _knn(bank: Bank, scoring: Scoring) -> Neighbours:
    """The mean cosine distance to the k nearest pieces (the report, 2.5)."""
    return Neighbours(bank.vectors, scoring.k)


def _knn_density(bank: Bank, scoring: Scoring) -> Neighbours:
    """As `knn`, each distance divided by how far the bank piece's own density_k nearest pieces of other clips lie on
    average: where recordings are few, as in the target domain, distances count less (Wilkinghoff et al. 2025, the
    ratio form; with k = 1 their score). One clip alone has no density: NaN, see `_lent`."""
    spacing = knn.mean_distance(
        bank.vectors, bank.vectors, scoring.density_k, query_clips=bank.clips, bank_clips=bank.clips
    )
    known = np.isfinite(spacing) if np.isfinite(spacing).any() else np.ones(len(bank), bool)
    return Neighbours(bank.vectors[known], scoring.k, np.maximum(spacing[known], _LEAST_DISTANCE))


def _kmeans(bank: Bank, scoring: Scoring) -> Neighbours:
    """The cosine distance to the nearest prototype: k-means centres of the source pieces, and every target piece, as
    these are few (Wilkinghoff 2021)."""
    source, target = bank.vectors[~bank.target], bank.vectors[bank.target]
    if len(source) > scoring.prototypes:
        source = _centres(source, scoring.prototypes)
        source = source / np.maximum(np.linalg.norm(source, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    prototypes = np.concatenate([source, target]).astype(np.float32)
    return Neighbours(prototypes, 1)


def _centres(vectors: np.ndarray, number: int) -> np.ndarray:
    """k-means centres (number, d), some of them the same where fewer vectors differ."""
    from sklearn.cluster import KMeans  # late, as scikit-learn takes 2 s to import, which `score` need not wait for
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # tells of the same ones
        return KMeans(number, n_init="auto", random_state=0).fit(vectors).cluster_centers_


def _mahalanobis(bank: Bank, scoring: Scoring) -> Gaussian:
    """The Mahalanobis distance to the bank's mean, its covariance shrunk as Ledoit and Wolf (2004) do."""
    from sklearn.covariance import LedoitWolf  # late, as above

    d = bank.vectors.shape[1]
    if len(bank) == 0:
        return Gaussian(np.full(d, np.nan), np.eye(d))
    vectors = np.resize(bank.vectors.astype(np.float64), (max(len(bank), 2), d))  # one: twice
    gaussian = LedoitWolf().fit(vectors)
    variances, axes = np.linalg.eigh(gaussian.covariance_)
    whitening = axes / np.sqrt(np.maximum(variances, _LEAST_VARIANCE))
    return Gaussian(gaussian.location_, whitening)


BACKENDS: dict[str, Backend] = {
    "knn": _knn,
    "knn_density": _knn_density,
    "kmeans": _kmeans,
    "mahalanobis": _mahalanobis,
}


def make_scorer(bank: Bank, scoring: Scoring) -> Scorer:
    """What scores pieces that the bank does not hold, as the settings say."""
    of = [BACKENDS[scoring.backend](part, scoring) for part in _parts(bank, scoring)]
    return Scorer(tuple(_lent(of) if scoring.backend == "knn_density" else of))


def _lent(of: Sequence[Neighbours | Gaussian]) -> list[Neighbours | Gaussian]:
    """Where one of two domains has a single clip, and so no density of its own, it is taken to be as dense as the other
    on average, so that distances to both are of one scale; where neither has any, nothing is near."""
    spacings = [one.spacing for one in of if isinstance(one, Neighbours) and one.spacing is not None]
    known = np.concatenate([spacing[np.isfinite(spacing)] for spacing in spacings])
    if not len(known):
        return [Neighbours(one.vectors[:0], one.k) if isinstance(one, Neighbours) else one for one in of]
    lent = known.mean(dtype=np.float32)
    return [
        one._replace(spacing=np.where(np.isfinite(one.spacing), one.spacing, lent))
        if isinstance(one, Neighbours) and one.spacing is not None
        else one
        for one in of
    ]


def scores_within(bank: Bank, scoring: Scoring) -> np.ndarray:
    """Distances (n,) of a bank's own pieces, none of which ever meets a piece of its own clip.

    With `knn` each clip is left out by itself; what is fitted is fitted once for each of CROSS_FOLDS parts of the
    clips, to the others. NaN where nothing is left.
    """
    if scoring.backend == "knn":
        return _nearest([_knn_within(bank, part, scoring) for part in _parts(bank, scoring)])
    distance = np.full(len(bank), np.nan, np.float32)
    clips = np.unique(bank.clips[:, 0])
    for fold in range(min(CROSS_FOLDS, len(clips))):
        left_out = clips[fold::CROSS_FOLDS]
        rows = np.isin(bank.clips[:, 0], left_out)
        distance[rows] = make_scorer(bank.without(left_out), scoring)(bank.vectors[rows])
    return distance


def _knn_within(queries: Bank, part: Bank, scoring: Scoring) -> np.ndarray:
    return knn.mean_distance(queries.vectors, part.vectors, scoring.k, query_clips=queries.clips, bank_clips=part.clips)


def _parts(bank: Bank, scoring: Scoring) -> Sequence[Bank]:
    """The banks of which the nearest counts: one, or one a domain; with synthetic pieces, if any are asked for."""
    filled = oversample(bank, scoring.smote_ratio)
    if scoring.bank != "either_domain":
        return (filled,)
    return tuple(filled.of_domain(target=target) for target in (False, True))


def _nearest(distances: Sequence[np.ndarray]) -> np.ndarray:
    """The least of several, whichever are there: (q,) each -> (q,)."""
    return np.fmin.reduce(distances)
