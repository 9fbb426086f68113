"""Clip scores compared with numpy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asdjax.data.clips import Clip
from asdjax.fleet.embed import Embeddings
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import ClipScores, Copies, score_by_banks, score_changed_copies

K = 3


def clip(number: int, split: str, section: str = "00", domain: str = "source", machine: str = "fan") -> Clip:
    return Clip(Path(f"{machine}_{section}_{split}_{number}.wav"), machine, section, split, domain, "normal")  # pyright: ignore


TRAIN = [
    *(clip(i, "train") for i in range(4)),
    *(clip(i, "train", domain="target") for i in range(4, 6)),
    *(clip(i, "train", section="01") for i in range(6, 9)),
    clip(9, "train", machine="pump"),
]
TEST = [
    clip(0, "test"),
    clip(1, "test", domain="target"),
    clip(2, "test", section="01"),
    clip(3, "test", machine="pump"),
    clip(4, "test", section="07"),
]


def embedded(clips: list[Clip], seed: int) -> Embeddings:
    """Draw embeddings of two or three pieces per clip."""
    rng = np.random.default_rng(seed)
    number = np.concatenate([[i] * (2 + i % 2) for i in range(len(clips))])
    rows = rng.normal(size=(len(number), 8))
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return Embeddings({"a": unit, "b": unit[::-1].copy()}, number)


TRAIN_EMBEDDINGS, TEST_EMBEDDINGS = embedded(TRAIN, 0), embedded(TEST, 1)


def scored(variant: str = "a", **settings: Any) -> ClipScores:
    return score_by_banks(TRAIN, TRAIN_EMBEDDINGS, TEST, TEST_EMBEDDINGS, variant, Scoring(k=K, **settings))


def by_hand(queries: np.ndarray, bank: np.ndarray, pooling: str = "mean") -> float:
    cosines = np.sort(queries.astype(np.float64) @ bank.astype(np.float64).T, axis=1)[:, ::-1][:, :K]
    pieces = 1 - cosines.mean(axis=1)
    return float({"max": np.max, "mean": np.mean, "top": lambda p: np.sort(p)[-2:].mean()}[pooling](pieces))


def rows_of(embeddings: Embeddings, clips: list[Clip], members: list[Clip], variant: str) -> np.ndarray:
    numbers = [clips.index(member) for member in members]
    return embeddings.vectors[variant][np.isin(embeddings.clip, numbers)]


@pytest.mark.parametrize("pooling", ["mean", "max", "top"])
@pytest.mark.parametrize("bank", ["section", "same_domain"])
@pytest.mark.parametrize("variant", ["a", "b"])
def test_test_clips_meet_the_training_pieces_of_their_section(variant: str, bank: str, pooling: str):
    got = scored(variant, bank=bank, pooling=pooling, top_pieces=2).test
    assert set(got) == set(TEST[:4])  # section 07 has no training clips
    for one in TEST[:4]:
        same = [c for c in TRAIN if (c.machine, c.section) == (one.machine, one.section)]
        if bank == "same_domain":
            same = [c for c in same if c.domain == one.domain]
        queries = rows_of(TEST_EMBEDDINGS, TEST, [one], variant)
        expected = by_hand(queries, rows_of(TRAIN_EMBEDDINGS, TRAIN, same, variant), pooling)
        assert got[one] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("bank", ["section", "same_domain"])
def test_a_training_clip_is_scored_without_its_own_pieces(bank: str):
    got = scored(bank=bank).train
    assert set(got) == set(TRAIN[:9])  # the pump has no other clip
    for one in got:
        others = [c for c in TRAIN if (c.machine, c.section) == (one.machine, one.section) and c != one]
        if bank == "same_domain":
            others = [c for c in others if c.domain == one.domain]
        queries = rows_of(TRAIN_EMBEDDINGS, TRAIN, [one], "a")
        assert got[one] == pytest.approx(by_hand(queries, rows_of(TRAIN_EMBEDDINGS, TRAIN, others, "a")), abs=1e-5)


@pytest.mark.parametrize("settings", [{}, {"bank": "either_domain"}, {"backend": "mahalanobis"}, {"backend": "kmeans"}])
def test_an_unchanged_copy_scores_as_its_original_does_without_itself(settings: dict[str, Any]):
    originals = np.array([5, 0, 7, 2])
    copies = [clip(100 + number, "test") for number in originals]
    pieces = [np.flatnonzero(TRAIN_EMBEDDINGS.clip == number) for number in originals]
    embedded = Embeddings(
        {"a": TRAIN_EMBEDDINGS.vectors["a"][np.concatenate(pieces)]},
        np.concatenate([[i] * len(rows) for i, rows in enumerate(pieces)]),
    )
    how = Scoring(k=K, **settings)
    got = score_changed_copies(Copies(copies, embedded, originals), TRAIN, TRAIN_EMBEDDINGS, "a", how)
    expected = scored(**settings).train
    assert got == pytest.approx({copy: expected[TRAIN[i]] for copy, i in zip(copies, originals, strict=True)})
