"""Banks: the normal training pieces that a clip is held against.

Letters: n bank pieces, d embedding.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.fleet.embed import Embeddings

SMOTE_NEIGHBOURS = 5
"""Among how many nearest target pieces a synthetic one's second parent is drawn (Chawla et al. 2002, section 4)."""


class Scoring(NamedTuple):
    """How clips are scored: the fields of `config.evaluate` of these names."""

    backend: str = "knn"
    k: int = 10
    density_k: int = 16
    prototypes: int = 16
    bank: str = "section"
    smote_ratio: float = 0.0
    pooling: str = "mean"
    top_pieces: int = 3

    @classmethod
    def of(cls, config: Config) -> Self:
        """As a configuration has it."""
        return cls(*(config.evaluate[field] for field in cls._fields))


class Bank(NamedTuple):
    """Unit embeddings `vectors` (n, d) float32; `clips` (n, 2), the numbers of the clips that each piece was made of
    (twice the same one, unless it is synthetic); `target` (n,) bool, which are of the target domain."""

    vectors: np.ndarray
    clips: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def without(self, clips: Iterable[int]) -> "Bank":
        """What is left without the pieces that were made of any of some clips."""
        return self._at(~np.isin(self.clips, list(clips)).any(axis=1))

    def of_domain(self, *, target: bool) -> "Bank":
        """The pieces of one domain."""
        return self._at(self.target == target)

    def _at(self, rows: np.ndarray) -> "Bank":
        return Bank(*(field[rows] for field in self))


def make_bank(clips: Sequence[Clip], members: Sequence[int], embedded: Embeddings, variant: str) -> Bank:
    """The pieces of some clips, given by number, as one model embeds them."""
    rows = np.flatnonzero(np.isin(embedded.clip, members))
    clip = embedded.clip[rows]
    is_target = np.array([one.domain == "target" for one in clips], bool)
    return Bank(np.asarray(embedded.vectors[variant][rows]), np.stack([clip, clip], axis=1), is_target[clip])


def bank_group(clip: Clip, bank: str) -> tuple[str | None, ...]:
    """What clips that share a bank have in common: machine type and section; the domain too where `bank` is
    "same_domain"."""
    return (clip.machine, clip.section, clip.domain if bank == "same_domain" else None)


def group_clips(clips: Sequence[Clip], bank: str) -> dict[tuple[str | None, ...], list[int]]:
    """Numbers of the clips that share a bank, by `group_of`."""
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for number, clip in enumerate(clips):
        groups.setdefault(bank_group(clip, bank), []).append(number)
    return groups


def bank_grouping(bank: str) -> str:
    """What to give `grouped` for the banks as they are: "either_domain" has one for each domain."""
    return "same_domain" if bank == "either_domain" else bank


def oversample(bank: Bank, ratio: float) -> Bank:
    """The bank with synthetic target pieces, until there are `ratio` times as many as source pieces: SMOTE.

    Each lies at a random point between a target piece and one of its nearest others, brought back to unit length
    (Chawla et al. 2002). Nothing is added to fewer than two target pieces. The same bank gives the same pieces.
    """
    real = np.flatnonzero(bank.target)
    number = int(ratio * np.sum(~bank.target) + 1e-9) - len(real)  # 0.29 * 100 is 28.999...
    if number <= 0 or len(real) < 2:
        return bank
    from sklearn.neighbors import NearestNeighbors  # late, as in backends.py

    of_target = bank.vectors[real]
    rng = np.random.default_rng(np.frombuffer(hashlib.sha256(of_target.tobytes()).digest(), np.uint32))
    near = NearestNeighbors(n_neighbors=min(SMOTE_NEIGHBOURS, len(real) - 1)).fit(of_target).kneighbors()[1]
    first = rng.permutation(np.resize(np.arange(len(real)), number))
    second = near[first, rng.integers(0, near.shape[1], number)]
    between = of_target[first] + rng.random((number, 1), np.float32) * (of_target[second] - of_target[first])
    unit = between / np.maximum(np.linalg.norm(between, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    parents = np.stack([bank.clips[real[first], 0], bank.clips[real[second], 0]], axis=1)
    made = Bank(unit.astype(np.float32), parents, np.ones(number, bool))
    return Bank(*(np.concatenate([old, new]) for old, new in zip(bank, made, strict=True)))
