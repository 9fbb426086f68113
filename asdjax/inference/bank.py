"""Banks of normal training pieces, to which the pieces of a clip are compared.

Letters: n bank pieces, d embedding.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.fleet.embed import Embeddings

#: Nearest target pieces among which SMOTE draws a second parent (Chawla et al. 2002, section 4).
SMOTE_NEIGHBOURS = 5

#: Key of clips that share a bank: machine type, section and, if banks depend on it, domain.
BankGroup = tuple[str, str, str | None]


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Scoring options: the fields of `config.evaluate` with these names."""

    backend: str = "knn"
    k: int = 10
    density_k: int = 16
    prototypes: int = 16
    bank: str = "section"
    bank_pieces: int = 0
    smote_ratio: float = 0.0
    pooling: str = "mean"
    top_pieces: int = 3

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Return the scoring options of a configuration."""
        return cls(**{field: config.evaluate[field] for field in cls.__dataclass_fields__})


class Bank(NamedTuple):
    """A bank: unit embeddings `vectors` (n, d) float32, their clips and domains.

    `clips` (n, 2) holds the numbers of the clips that each piece was made from: twice the same number, except for a
    synthetic piece. `target` (n,) bool marks pieces of the target domain.
    """

    vectors: np.ndarray
    clips: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def without(self, clips: Iterable[int]) -> "Bank":
        """Return the bank without the pieces made from any of `clips`."""
        return self.take(~np.isin(self.clips, list(clips)).any(axis=1))

    def select_domain(self, *, target: bool) -> "Bank":
        """Return the pieces of one domain."""
        return self.take(self.target == target)

    def take(self, rows: np.ndarray) -> "Bank":
        """Return the pieces with some numbers, or where a mask is true."""
        return Bank(*(field[rows] for field in self))


def choose_core(bank: Bank, pieces: int) -> Bank:
    """Return at most `pieces` pieces of a bank that cover it, or all of them for 0.

    The first is nearest to the bank's mean, and each further one is the farthest from those before it (greedy k-centre;
    Sener and Savarese 2018, algorithm 1), so the few pieces of a target domain stay. Equal banks give equal pieces.
    """
    if not 0 < pieces < len(bank):
        return bank
    vectors = np.asarray(bank.vectors)
    chosen = [int(np.argmax(vectors @ vectors.mean(axis=0)))]
    nearest = np.full(len(bank), -np.inf, np.float32)  # the largest cosine with any chosen piece
    while len(chosen) < pieces:
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
        nearest[chosen[-1]] = np.inf
        chosen.append(int(np.argmin(nearest)))
    return bank.take(np.sort(chosen))


def make_bank(clips: Sequence[Clip], members: Sequence[int], embedded: Embeddings, variant: str) -> Bank:
    """Make the bank of one variant's embeddings of the clips with the numbers `members`."""
    rows = np.flatnonzero(np.isin(embedded.clip, members))
    clip = embedded.clip[rows]
    is_target = np.array([one.domain == "target" for one in clips], bool)
    return Bank(np.asarray(embedded.vectors[variant][rows]), np.stack([clip, clip], axis=1), is_target[clip])


def make_bank_key(clip: Clip, bank: str) -> BankGroup:
    """Return the key of the bank for a clip. It holds the domain only if `bank` is "same_domain"."""
    return (clip.machine, clip.section, clip.domain if bank == "same_domain" else None)


def group_clips(clips: Sequence[Clip], bank: str) -> dict[BankGroup, list[int]]:
    """Group the numbers of clips by `make_bank_key`."""
    groups: dict[BankGroup, list[int]] = {}
    for number, clip in enumerate(clips):
        groups.setdefault(make_bank_key(clip, bank), []).append(number)
    return groups


def choose_grouping(bank: str) -> str:
    """Return the `bank` for `group_clips` by which the domains of an "either_domain" bank are groups of their own."""
    return "same_domain" if bank == "either_domain" else bank


def oversample(bank: Bank, ratio: float) -> Bank:
    """Add synthetic target pieces by SMOTE until there are `ratio` target pieces per source piece.

    A synthetic piece is a random point between a target piece and one of its nearest others, scaled to unit length
    (Chawla et al. 2002). A bank of fewer than two target pieces is returned unchanged. Equal banks get equal pieces.
    """
    real = np.flatnonzero(bank.target)
    number = int(ratio * np.sum(~bank.target) + 1e-9) - len(real)  # 0.29 * 100 is 28.999...
    if number <= 0 or len(real) < 2:
        return bank
    from sklearn.neighbors import NearestNeighbors  # late, as in backends.py

    targets = bank.vectors[real]
    rng = np.random.default_rng(np.frombuffer(hashlib.sha256(targets.tobytes()).digest(), np.uint32))
    near = NearestNeighbors(n_neighbors=min(SMOTE_NEIGHBOURS, len(real) - 1)).fit(targets).kneighbors()[1]
    first = rng.permutation(np.resize(np.arange(len(real)), number))
    second = near[first, rng.integers(0, near.shape[1], number)]
    between = targets[first] + rng.random((number, 1), np.float32) * (targets[second] - targets[first])
    unit = between / np.maximum(np.linalg.norm(between, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    parents = np.stack([bank.clips[real[first], 0], bank.clips[real[second], 0]], axis=1)
    synthetic = Bank(unit.astype(np.float32), parents, np.ones(number, bool))
    return Bank(*(np.concatenate([old, new]) for old, new in zip(bank, synthetic, strict=True)))
