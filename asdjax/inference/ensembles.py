"""Averages of models' clip scores, and which models are averaged."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.inference.clip_scores import ClipScores

NO_SELECTION, LABELLED_TEST, HELD_OUT = "none", "labelled test", "held-out normals"

TOP = {"best_single": 1, "top3_mean": 3, "top5_mean": 5}
"""Submissions 1 to 3 of the report: the best so many models of a machine type, ranked on labelled test data."""

TOP_HELD_OUT = {"best_held_out": 1, "top3_held_out": 3}
"""The same without any label of a fault: ranked by the loss on held-out normal clips."""

ALL = "all_mean"
"""Submission 4: all models; it selects nothing."""

ALL_SEEDS = "all_seeds_mean"
"""All models of all seeds."""

Scale = Callable[[np.ndarray], np.ndarray]
"""A model's scores (n,) -> what is averaged of them (n,)."""


def averaged(config: Config, models: int) -> str:
    """What is averaged (see SCALES) of so many models: of a single one its scores as they are."""
    return config.evaluate.ensemble if models > 1 else "score"


def average(models: Sequence[ClipScores], how: str) -> ClipScores:
    """Average over models, clip by clip, what `how` (see SCALES) makes of their scores; only of clips that all have.

    A training clip that any model lacks is `unscored`, whichever model that is. All models must be of one machine type:
    ranks and z-scores are taken over each model's own scores of its training clips.
    """
    scales = [SCALES[how](model) for model in models]
    train = _mean([_scaled(model.train, scale) for model, scale in zip(models, scales, strict=True)])
    test = _mean([_scaled(model.test, scale) for model, scale in zip(models, scales, strict=True)])
    known = dict.fromkeys(clip for model in models for clip in (*model.train, *model.unscored))
    return ClipScores(train, test, tuple(clip for clip in known if clip not in train))


def _scaled(scores: Mapping[Clip, float], scale: Scale) -> dict[Clip, float]:
    return dict(zip(scores, scale(np.array(list(scores.values()), np.float64)).tolist(), strict=True))


def _mean(scores: Sequence[Mapping[Clip, float]]) -> dict[Clip, float]:
    common = [clip for clip in scores[0] if all(clip in model for model in scores)]
    return {clip: float(np.mean([model[clip] for model in scores])) for clip in common}


class Linear(NamedTuple):
    """A scale that is a straight line: how many units a score lies above an origin."""

    origin: float
    unit: float

    def __call__(self, scores: Any) -> Any:
        """Scores of any shape, numpy's or JAX's -> the same shape."""
        return (scores - self.origin) / self.unit


def _as_they_are(model: ClipScores) -> Scale:
    return Linear(0.0, 1.0)


def _ranks(model: ClipScores) -> Scale:
    """Mid-rank among the training clips' scores, as a share of them: no test clip's score hangs on others.
    Above the highest and below the lowest it goes on by the share of the range from one to the other, so that what lies
    there keeps its order."""
    reference = np.sort(list(model.train.values()) or [0.0])
    low, high = reference[0], reference[-1]
    reach = float(high - low) or 1.0

    def rank(scores: np.ndarray) -> np.ndarray:
        below, up_to = (np.searchsorted(reference, scores, side) for side in ("left", "right"))
        return (below + (up_to - below + 1) / 2) / len(reference) + (scores - np.clip(scores, low, high)) / reach

    return rank


def _z_scores(model: ClipScores) -> Scale:
    """Standard deviations of the training scores above their mean; the distance itself where these are all equal."""
    training = np.array(list(model.train.values()) or [0.0])
    return Linear(float(training.mean()), float(training.std()) or 1.0)


SCALES: dict[str, Callable[[ClipScores], Scale]] = {
    "score": _as_they_are,
    "rank": _ranks,
    "zscore": _z_scores,
}
