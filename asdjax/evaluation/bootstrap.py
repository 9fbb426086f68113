"""How sure an official score is: the bootstrap over test clips (Efron and Tibshirani, 1993, percentile interval).

A resample draws each machine type's, section's, domain's and label's test clips with replacement, as many as there
are: what the year laid down stays, which clips were recorded varies. Resamples are weights of clips, so that one
pass over the sorted scores gives the figure of all of them.

Letters: r resamples, n clips.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from asdjax.corpus.official import rules_of
from asdjax.evaluation.metrics import FLOOR, MAX_FALSE_POSITIVE_RATE, ScoredClip, judgeable, parts_of

RESAMPLES = 1000
CONFIDENCE = 0.95

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
    counts = _counts(clips)
    columns = []
    parts = list(parts_of(year, clips))
    columns += [_areas(part.judged, counts) for part in parts if judgeable(part.judged)]
    together = [part.jointly for part in parts]
    if rules_of(year) == 2022:  # the joint pAUC counts once per section
        together = list({(clips[0].machine, clips[0].section): clips for clips in together}.values())
    columns += [_areas(clips, counts, MAX_FALSE_POSITIVE_RATE) for clips in together if judgeable(clips)]
    if not columns:
        return None
    values = np.stack(columns)
    return np.mean(values, axis=0) if rules_of(year) == 2020 else 1 / np.mean(1 / np.maximum(values, FLOOR), axis=0)


def _counts(clips: Sequence[ScoredClip]) -> dict[ScoredClip, np.ndarray]:
    """How often each resample drew a clip: (r,) whole numbers, from a stream that the stratum's names choose."""
    strata: dict[str, list[ScoredClip]] = {}
    for clip in sorted(clips, key=lambda clip: clip.name):
        strata.setdefault(repr((clip.machine, clip.section, clip.domain, clip.label)), []).append(clip)
    counts = {}
    for names, members in strata.items():
        rng = np.random.default_rng(np.frombuffer(hashlib.sha256(names.encode()).digest(), np.uint32))
        drawn = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), RESAMPLES)
        counts.update(zip(members, drawn.T, strict=True))
    return counts


def _areas(
    clips: Sequence[ScoredClip], counts: dict[ScoredClip, np.ndarray], max_fpr: float | None = None
) -> np.ndarray:
    of_clips = np.stack([counts[clip] for clip in clips], axis=1)
    scores = np.array([clip.score for clip in clips])
    return roc_areas(scores, np.array([clip.label == "anomaly" for clip in clips]), of_clips, max_fpr)


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
