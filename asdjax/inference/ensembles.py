"""Averages of the clip scores of several models, and the names of the averaged systems."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.inference.clip_scores import ClipScores

#: Submissions 1 to 3 of the report: the best models of a machine type, ranked on labelled test data, and their number.
TOP = {"best_single": 1, "top3_mean": 3, "top5_mean": 5}

#: The same without any anomaly label: ranked by the loss on held-out normal clips.
TOP_HELD_OUT = {"best_held_out": 1, "top3_held_out": 3}

#: Submission 4: all models, without selection.
ALL = "all_mean"

#: All models of all seeds.
ALL_SEEDS = "all_seeds_mean"

#: The average of all models, as one detector, together with the detectors by log-mel statistics.
COMBINED = "combined"

#: The same with all models of all seeds.
COMBINED_SEEDS = "combined_seeds"

#: The system of all seeds for a system of one.
OF_ALL_SEEDS = {ALL: ALL_SEEDS, COMBINED: COMBINED_SEEDS}

#: Function from a model's scores (n,) to the values (n,) that an ensemble averages.
Normaliser = Callable[[np.ndarray], np.ndarray]


def choose_normaliser(config: Config, models: int) -> str:
    """Return the key of NORMALISERS for an ensemble of `models` models. A single model keeps its scores."""
    return config.evaluate.ensemble if models > 1 else "score"


def average(models: Sequence[ClipScores], normaliser: str) -> ClipScores:
    """Average the normalised scores of models, clip by clip, over the clips that all of them scored.

    `normaliser` is a key of NORMALISERS. A training clip that any model lacks is `unscored`. All models must be of one
    machine type, because ranks and z-scores refer to each model's training scores.
    """
    normalisers = [NORMALISERS[normaliser](model) for model in models]
    train = _mean([_apply(own, model.train) for model, own in zip(models, normalisers, strict=True)])
    test = _mean([_apply(own, model.test) for model, own in zip(models, normalisers, strict=True)])
    known = dict.fromkeys(clip for model in models for clip in (*model.train, *model.unscored))
    return ClipScores(train, test, tuple(clip for clip in known if clip not in train))


class Linear(NamedTuple):
    """A linear normaliser: (score - origin) / unit."""

    origin: float
    unit: float

    def __call__(self, scores: Any) -> Any:
        """Normalise scores of any shape, arrays of numpy or JAX."""
        return (scores - self.origin) / self.unit


def _apply(normaliser: Normaliser, scores: Mapping[Clip, float]) -> dict[Clip, float]:
    return dict(zip(scores, normaliser(np.array(list(scores.values()), np.float64)).tolist(), strict=True))


def _mean(scores: Sequence[Mapping[Clip, float]]) -> dict[Clip, float]:
    common = [clip for clip in scores[0] if all(clip in model for model in scores)]
    return {clip: float(np.mean([model[clip] for model in scores])) for clip in common}


def _make_identity(model: ClipScores) -> Normaliser:
    return Linear(0.0, 1.0)


def _make_ranks(model: ClipScores) -> Normaliser:
    """Return the normaliser to mid-ranks among the training scores, as fractions.

    The rank of a test clip does not depend on other test clips. Scores outside the range of the training scores
    continue linearly, in units of that range, so that they keep their order.
    """
    reference = np.sort(list(model.train.values()) or [0.0])
    low, high = reference[0], reference[-1]
    width = float(high - low) or 1.0

    def rank(scores: np.ndarray) -> np.ndarray:
        below, up_to = (np.searchsorted(reference, scores, side) for side in ("left", "right"))
        return (below + (up_to - below + 1) / 2) / len(reference) + (scores - np.clip(scores, low, high)) / width

    return rank


def _make_z_scores(model: ClipScores) -> Normaliser:
    """Return the normaliser to z-scores of the training scores. If these are all equal, the unit is 1."""
    training = np.array(list(model.train.values()) or [0.0])
    return Linear(float(training.mean()), float(training.std()) or 1.0)


NORMALISERS: dict[str, Callable[[ClipScores], Normaliser]] = {
    "score": _make_identity,
    "rank": _make_ranks,
    "zscore": _make_z_scores,
}
