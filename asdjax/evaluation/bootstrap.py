"""How sure an official score is: the bootstrap over test clips (Efron and Tibshirani, 1993, percentile interval).

A resample draws each machine type's, section's, domain's and label's test clips with replacement, as many as there
are: what the year laid down stays, which clips were recorded varies. Resamples are weights of clips, so that one
pass over the sorted scores gives the figure of all of them.

Letters: r resamples, n clips.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asdjax.data.official_files import find_rules
from asdjax.evaluation.metrics import FLOOR, MAX_FALSE_POSITIVE_RATE, ScoredClip, judgeable, split_parts

RESAMPLES = 1000
CONFIDENCE = 0.95
CELLS_AT_ONCE = 1 << 20
"""Resamples times clips that are looked at together, 8 MB: memory stays bounded however many clips there are."""

Interval = tuple[float, float]
"""Lower and upper end of the 95 % interval of a figure, as fractions."""


def interval(year: int, of_seeds: Sequence[Sequence[ScoredClip]]) -> Interval | None:
    """The 95 % interval of the official score, the mean over the seeds; None where that is undefined.

    Every seed's clips are resampled alike. What differs from seed to seed, training's own randomness, is not in it.
    The same clips give the same interval, in any order.
    """
    officials = [_official(year, clips) for clips in of_seeds]
    if any(official is None for official in officials):
        return None
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.mean(np.array(officials), axis=0), [outside, 1 - outside])
    return float(low), float(high)


def _official(year: int, clips: Sequence[ScoredClip]) -> np.ndarray | None:
    """The official score of each resample: (r,), over the cells that are defined; None where none is."""
    parts = list(split_parts(year, clips))
    together = [part.jointly for part in parts]
    if find_rules(year) == 2022:  # the joint pAUC counts once per section
        together = list({(clips[0].machine, clips[0].section): clips for clips in together}.values())
    number = {clip: i for i, clip in enumerate(clips)}
    cells = [_cell(part.ranked, number, None) for part in parts if judgeable(part.ranked)]
    cells += [_cell(clips, number, MAX_FALSE_POSITIVE_RATE) for clips in together if judgeable(clips)]
    if not cells:
        return None
    return np.concatenate([_mean(year, cells, counts) for counts in _counts(clips)])


class _Cell(NamedTuple):
    """The clips that a figure goes by, given by number, their scores, which are anomalies, and the figure: all (n,)."""

    numbers: np.ndarray
    scores: np.ndarray
    anomalous: np.ndarray
    max_fpr: float | None


def _cell(clips: Sequence[ScoredClip], number: Mapping[ScoredClip, int], max_fpr: float | None) -> _Cell:
    return _Cell(
        np.array([number[clip] for clip in clips]),
        np.array([clip.score for clip in clips]),
        np.array([clip.label == "anomaly" for clip in clips]),
        max_fpr,
    )


def _mean(year: int, cells: Sequence[_Cell], counts: np.ndarray) -> np.ndarray:
    """The year's mean over cells of some resamples: counts (r, n) -> (r,)."""
    values = np.stack([roc_areas(cell.scores, cell.anomalous, counts[:, cell.numbers], cell.max_fpr) for cell in cells])
    return np.mean(values, axis=0) if find_rules(year) == 2020 else 1 / np.mean(1 / np.maximum(values, FLOOR), axis=0)


def _counts(clips: Sequence[ScoredClip]) -> Iterator[np.ndarray]:
    """How often each resample drew each clip: (r, n) whole numbers, some resamples at a time, from a stream for each
    stratum, which its names choose."""
    strata: dict[str, list[int]] = {}
    for i in sorted(range(len(clips)), key=lambda i: clips[i].name):
        clip = clips[i]
        strata.setdefault(repr((clip.machine, clip.section, clip.domain, clip.label)), []).append(i)
    seeds = [np.frombuffer(hashlib.sha256(names.encode()).digest(), np.uint32) for names in strata]
    streams = [np.random.default_rng(seed) for seed in seeds]
    at_once = max(CELLS_AT_ONCE // max(len(clips), 1), 1)
    for begin in range(0, RESAMPLES, at_once):
        counts = np.zeros((min(at_once, RESAMPLES - begin), len(clips)), np.int64)
        for rng, members in zip(streams, strata.values(), strict=True):
            even = np.full(len(members), 1 / len(members))
            counts[:, members] = rng.multinomial(len(members), even, len(counts))
        yield counts


def roc_areas(scores: np.ndarray, anomalous: np.ndarray, counts: np.ndarray, max_fpr: float | None) -> np.ndarray:
    """AUC of each weighting of the clips: scores (n,), anomalous (n,) bool, counts (r, n) -> (r,).

    With `max_fpr` the partial AUC, standardised as McClish (1989) does. Each row of `counts` weighs both classes.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)  # clips of one score are one step of the curve
    true, false = (_rates(counts[:, order] * of_class[order], ends) for of_class in (anomalous, ~anomalous))
    limit = 1.0 if max_fpr is None else max_fpr
    width, height = np.diff(false), np.diff(true)
    within = np.clip(np.divide(limit - false[:, :-1], width, where=width > 0, out=np.zeros_like(width)), 0, 1)
    area = np.sum(within * width * (true[:, :-1] + within * height / 2), axis=1)
    if max_fpr is None:
        return area
    chance = limit**2 / 2
    return 0.5 * (1 + (area - chance) / (limit - chance))


def _rates(weights: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The share of a class at or above each score, from none to all: (r, steps + 1)."""
    rates = np.cumsum(weights, axis=1)[:, ends] / np.sum(weights, axis=1, keepdims=True)
    return np.concatenate([np.zeros((len(rates), 1)), rates], axis=1)
