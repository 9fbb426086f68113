"""Confidence intervals of official scores: the percentile bootstrap over test clips (Efron and Tibshirani, 1993).

A resample draws the test clips of each machine type, section, domain and label with replacement, as many as there are.
Resamples are weights of clips, so one pass over the sorted scores gives the figure of all of them.

Letters: r resamples, n clips.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asdjax.data.official_files import find_rules
from asdjax.evaluation.metrics import FLOOR, MAX_FALSE_POSITIVE_RATE, has_both_classes, split_cells
from asdjax.inference.scored_clip import ScoredClip

RESAMPLES = 1000
CONFIDENCE = 0.95
#: Product of resamples and clips computed at once (8 MB), which bounds memory for any number of clips.
COUNTS_AT_ONCE = 1 << 20

#: Lower and upper end of the 95 % interval of a figure, as fractions.
Interval = tuple[float, float]


def compute_interval(year: int, per_seed: Sequence[Sequence[ScoredClip]]) -> Interval | None:
    """Return the 95 % interval of the official score, averaged over seeds; None if the score is undefined.

    The same resamples are drawn for every seed, so the interval does not include the randomness of training. Equal
    clips give the same interval, in any order.
    """
    officials = [_resample_official(year, clips) for clips in per_seed]
    if any(official is None for official in officials):
        return None
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.mean(np.array(officials), axis=0), [outside, 1 - outside])
    return float(low), float(high)


def _resample_official(year: int, clips: Sequence[ScoredClip]) -> np.ndarray | None:
    """Return the official score of each resample, (r,), over the defined cells; None without any."""
    parts = list(split_cells(year, clips))
    jointly = [part.jointly for part in parts]
    if find_rules(year) == 2022:  # the pAUC of a section counts once
        jointly = list({(clips[0].machine, clips[0].section): clips for clips in jointly}.values())
    number = {clip: i for i, clip in enumerate(clips)}
    cells = [_make_cell(part.ranked, number, None) for part in parts if has_both_classes(part.ranked)]
    cells += [_make_cell(clips, number, MAX_FALSE_POSITIVE_RATE) for clips in jointly if has_both_classes(clips)]
    if not cells:
        return None
    return np.concatenate([_mean(year, cells, counts) for counts in _draw_counts(clips)])


class _FigureClips(NamedTuple):
    """The clips of one AUC or, with `max_fpr`, pAUC: numbers, scores and whether they are anomalies, (n,) each."""

    numbers: np.ndarray
    scores: np.ndarray
    anomalous: np.ndarray
    max_fpr: float | None


def _make_cell(clips: Sequence[ScoredClip], number: Mapping[ScoredClip, int], max_fpr: float | None) -> _FigureClips:
    return _FigureClips(
        np.array([number[clip] for clip in clips]),
        np.array([clip.score for clip in clips]),
        np.array([clip.label == "anomaly" for clip in clips]),
        max_fpr,
    )


def _mean(year: int, cells: Sequence[_FigureClips], counts: np.ndarray) -> np.ndarray:
    """Return the year's mean over cells for each resample: counts (r, n) -> (r,)."""
    values = np.stack([roc_areas(cell.scores, cell.anomalous, counts[:, cell.numbers], cell.max_fpr) for cell in cells])
    return np.mean(values, axis=0) if find_rules(year) == 2020 else 1 / np.mean(1 / np.maximum(values, FLOOR), axis=0)


def _draw_counts(clips: Sequence[ScoredClip]) -> Iterator[np.ndarray]:
    """Yield how often each resample drew each clip, some resamples at a time: (r, n) integers.

    Each stratum has its own random stream, seeded by its names.
    """
    strata: dict[str, list[int]] = {}
    for i in sorted(range(len(clips)), key=lambda i: clips[i].name):
        clip = clips[i]
        strata.setdefault(repr((clip.machine, clip.section, clip.domain, clip.label)), []).append(i)
    seeds = [np.frombuffer(hashlib.sha256(names.encode()).digest(), np.uint32) for names in strata]
    streams = [np.random.default_rng(seed) for seed in seeds]
    at_once = max(COUNTS_AT_ONCE // max(len(clips), 1), 1)
    for begin in range(0, RESAMPLES, at_once):
        counts = np.zeros((min(at_once, RESAMPLES - begin), len(clips)), np.int64)
        for rng, members in zip(streams, strata.values(), strict=True):
            even = np.full(len(members), 1 / len(members))
            counts[:, members] = rng.multinomial(len(members), even, len(counts))
        yield counts


def roc_areas(scores: np.ndarray, anomalous: np.ndarray, counts: np.ndarray, max_fpr: float | None) -> np.ndarray:
    """Return the AUC for each weighting of the clips: scores (n,), anomalous (n,) bool, counts (r, n) -> (r,).

    With `max_fpr` it is the partial AUC, standardised as by McClish (1989). Each row of `counts` has both classes.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)  # clips of equal score are one step of the curve
    true, false = (_compute_rates(counts[:, order] * in_class[order], ends) for in_class in (anomalous, ~anomalous))
    limit = 1.0 if max_fpr is None else max_fpr
    width, height = np.diff(false), np.diff(true)
    within = np.clip(np.divide(limit - false[:, :-1], width, where=width > 0, out=np.zeros_like(width)), 0, 1)
    area = np.sum(within * width * (true[:, :-1] + within * height / 2), axis=1)
    if max_fpr is None:
        return area
    chance = limit**2 / 2
    return 0.5 * (1 + (area - chance) / (limit - chance))


def _compute_rates(weights: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the share of a class at or above each score, from 0 to 1: (r, steps + 1)."""
    rates = np.cumsum(weights, axis=1)[:, ends] / np.sum(weights, axis=1, keepdims=True)
    return np.concatenate([np.zeros((len(rates), 1)), rates], axis=1)
