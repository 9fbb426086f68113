"""SMOTE: number, position and parents of synthetic pieces, and exclusion of those made from a clip itself. Cores."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from asdjax.inference.backends import CROSS_FOLDS, make_scorer, score_left_out
from asdjax.inference.bank import SMOTE_NEIGHBOURS, Bank, Scoring, choose_core, oversample

D = 12


def bank_of(source: int, target: int, seed: int = 0, pieces: int = 2) -> Bank:
    """Make a bank with `source` and `target` pieces, `pieces` per clip, in random order of domains."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(source + target, D))
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    is_target = rng.permutation(np.arange(source + target) < target)
    clip = np.where(is_target, 100 + np.cumsum(is_target) // pieces, np.cumsum(~is_target) // pieces)
    return Bank(vectors, np.stack([clip, clip], axis=1), is_target)


def synthetic(bank: Bank, ratio: float) -> Bank:
    return Bank(*(field[len(bank) :] for field in oversample(bank, ratio)))


@pytest.mark.parametrize(
    ("source", "target", "ratio", "added"),
    [(20, 4, 1.0, 16), (20, 4, 0.5, 6), (20, 4, 0.25, 1), (20, 4, 0.2, 0), (20, 4, 0.0, 0), (7, 3, 0.5, 0)]
    + [(9, 3, 0.5, 1), (5, 2, 4.0, 18), (0, 4, 1.0, 0), (20, 0, 1.0, 0), (20, 1, 1.0, 0), (0, 0, 1.0, 0)],
)
def test_as_many_are_added_as_the_ratio_lacks(source: int, target: int, ratio: float, added: int):
    bank = bank_of(source, target)
    grown = oversample(bank, ratio)
    assert len(grown) == source + target + added
    for old, new in zip(bank, grown, strict=True):
        np.testing.assert_array_equal(new[: len(bank)], old)  # real pieces are unchanged
        assert new.dtype == old.dtype
    assert grown.target[len(bank) :].all()


@pytest.mark.parametrize("target", [2, 3, 5, 9, 14])
def test_each_lies_between_two_target_pieces_that_are_neighbours(target: int):
    """Find t of x = a + t (b - a), scaled to unit length, by least squares in float64."""
    bank = bank_of(40, target, seed=target, pieces=1)
    real = bank.vectors[bank.target].astype(np.float64)
    clip_of = bank.clips[bank.target, 0]
    apart = np.linalg.norm(real[:, None] - real[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    shares = []
    made = synthetic(bank, 1.0)
    for vector, (first, second) in zip(made.vectors.astype(np.float64), made.clips, strict=True):
        a, b = np.flatnonzero(clip_of == first)[0], np.flatnonzero(clip_of == second)[0]
        assert b in np.argsort(apart[a])[:SMOTE_NEIGHBOURS]
        weights, residual, *_ = np.linalg.lstsq(np.stack([real[a], real[b]], axis=1), vector, rcond=None)
        assert residual[0] < 1e-12
        assert weights.min() > -1e-6
        shares.append(weights[1] / weights.sum())
    assert np.linalg.norm(made.vectors, axis=1) == pytest.approx(1, abs=1e-6)
    assert len(np.unique(np.round(shares, 6))) > 0.8 * len(shares)  # almost all differ
    assert 0.3 < np.mean(shares) < 0.7


def test_every_target_piece_is_a_parent_equally_often():
    made = synthetic(bank_of(43, 5, pieces=1), 1.0)
    times = np.unique(made.clips[:, 0], return_counts=True)[1]
    assert (len(times), times.min(), times.max()) == (5, 7, 8)


def test_parents_may_be_pieces_of_one_clip():
    bank = bank_of(30, 6, pieces=6)
    made = synthetic(bank, 1.0)
    assert set(made.clips.ravel()) <= set(bank.clips[bank.target].ravel())


def test_the_same_bank_gives_the_same_pieces_and_another_one_others():
    bank, other = bank_of(20, 4), bank_of(20, 4, seed=1)
    first, again = synthetic(bank, 1.0), synthetic(Bank(*(field.copy() for field in bank)), 1.0)
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.isclose(first.vectors, synthetic(other, 1.0).vectors).all(axis=1).any()


def test_a_point_between_opposite_or_zero_pieces_is_a_number():
    zeros = bank_of(20, 4)
    zeros.vectors[zeros.target] = 0
    assert np.isfinite(oversample(zeros, 1.0).vectors).all()


def test_without_clips_means_without_what_was_made_of_them():
    bank = oversample(bank_of(20, 6, pieces=1), 1.0)
    clip = bank.clips[-1, 1]
    rest = bank.without([clip])
    made_of_it = (bank.clips == clip).any(axis=1)
    assert np.any((bank.clips[:, 1] == clip) & (bank.clips[:, 0] != clip))  # pieces with the clip as second parent only
    assert clip not in rest.clips
    assert len(rest) == len(bank) - made_of_it.sum()


def test_of_domain_parts_a_bank():
    bank = bank_of(20, 6)
    for target, number in ((True, 6), (False, 20)):
        part = bank.select_domain(target=target)
        assert len(part) == number
        assert (part.target == target).all()
        np.testing.assert_array_equal(part.vectors, bank.vectors[bank.target == target])


def test_within_a_bank_nobody_meets_a_piece_that_either_parent_made():
    """Compare with knn in float64 over the grown bank, without pieces made from the clip."""
    bank = bank_of(24, 6, seed=3, pieces=1)
    grown = oversample(bank, 1.0)
    how = Scoring(k=3, smote_ratio=1.0)
    distance = 1 - bank.vectors.astype(np.float64) @ grown.vectors.T.astype(np.float64)
    own = (bank.clips[:, :1, None] == grown.clips[None]).any(axis=2)
    expected = np.sort(np.where(own, np.inf, distance), axis=1)[:, :3].mean(axis=1)
    np.testing.assert_allclose(score_left_out(bank, bank, how), expected, rtol=1e-4, atol=1e-6)
    by_first_only = bank.clips[:, :1] == grown.clips[None, :, 0]
    met = np.sort(np.where(by_first_only, np.inf, distance), axis=1)[:, :3].mean(axis=1)
    assert not np.allclose(met, expected, rtol=1e-4)  # otherwise the test would not distinguish them


def test_the_core_of_a_bank_covers_it():
    """Greedy k-centre is at most twice as far from any piece as the best choice (Gonzalez 1985)."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 4))
    vectors = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    bank = Bank(vectors, np.stack([np.arange(9)] * 2, axis=1), np.arange(9) == 8)

    def radius(rows: Sequence[int]) -> float:
        distances = np.linalg.norm(vectors[:, None] - vectors[list(rows)][None], axis=2)
        return float(distances.min(axis=1).max())

    for pieces in (1, 2, 3, 5):
        core = choose_core(bank, pieces)
        rows = core.clips[:, 0]
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert len(core) == pieces
        np.testing.assert_array_equal(core.vectors, vectors[rows])
        best = min(radius(choice) for choice in itertools.combinations(range(9), pieces))
        assert radius(rows) <= 2 * best + 1e-6
    assert choose_core(bank, 0) is choose_core(bank, 9) is bank


def test_a_few_pieces_far_from_the_others_stay_in_the_core():
    rng = np.random.default_rng(1)
    angles = np.concatenate([0.01 * rng.normal(size=500), [1.5, 1.51]])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    bank = Bank(vectors, np.stack([np.arange(502)] * 2, axis=1), angles > 1)
    assert choose_core(bank, 5).target.any()


def test_equal_pieces_give_a_core_of_distinct_ones():
    bank = Bank(np.ones((9, 1), np.float32), np.stack([np.arange(9)] * 2, axis=1), np.zeros(9, bool))
    assert len(set(choose_core(bank, 4).clips[:, 0].tolist())) == 4


@pytest.mark.parametrize("backend", ["knn", "knn_density"])
def test_a_clip_is_scored_by_a_core_without_it(backend: str):
    bank, scoring = bank_of(60, 6), Scoring(backend=backend, k=3, density_k=3, bank_pieces=12)
    scores, clips = score_left_out(bank, bank, scoring), np.unique(bank.clips[:, 0])
    for fold in range(CROSS_FOLDS):
        left_out = clips[fold::CROSS_FOLDS]
        core = choose_core(bank.without(left_out), 12)
        rows = np.isin(bank.clips[:, 0], left_out)
        expected = make_scorer(core, replace(scoring, bank_pieces=0))(bank.vectors[rows])
        np.testing.assert_allclose(scores[rows], expected, rtol=1e-6)
    assert len(make_scorer(bank, scoring).distances[0].vectors) == 12  # pyright: ignore[reportAttributeAccessIssue]
