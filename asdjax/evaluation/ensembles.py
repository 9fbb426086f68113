"""Averages of models' clip scores, and which models are averaged."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from asdjax.corpus.clips import Clip
from asdjax.evaluation.scores import ClipScores

NO_SELECTION, LABELLED_TEST = "none", "labelled test"

TOP = {"best_single": 1, "top3_mean": 3, "top5_mean": 5}
"""Submissions 1 to 3 of the report: the best so many models of a machine type, ranked on labelled test data."""

ALL = "all_mean"
"""Submission 4: all models; the only one that selects nothing."""


def average(models: Sequence[ClipScores], how: str) -> ClipScores:
    """The mean over models, clip by clip, of what `how` (see SCALES) makes of their scores.

    All models must be of one machine type: ranks and z-scores are taken over its clips.
    """
    scaled = [SCALES[how](model) for model in models]
    train = _mean([model.train for model in scaled])
    return ClipScores(train, _mean([model.test for model in scaled]), models[0].unscored)


def _mean(scores: Sequence[Mapping[Clip, float]]) -> dict[Clip, float]:
    return {clip: float(np.mean([model[clip] for model in scores])) for clip in scores[0]}


def _as_they_are(model: ClipScores) -> ClipScores:
    return model


def _ranks(model: ClipScores) -> ClipScores:
    """Share of all scored clips, training and test, that score no higher: in (0, 1]."""
    values = [*model.train.values(), *model.test.values()]
    ranks = (rankdata(values) / len(values)).tolist()
    return ClipScores(
        dict(zip(model.train, ranks, strict=False)),
        dict(zip(model.test, ranks[len(model.train) :], strict=True)),
    )


def _z_scores(model: ClipScores) -> ClipScores:
    """Standard deviations of the training scores above their mean; the distance itself where these are all equal."""
    training = np.array(list(model.train.values()))
    mean, deviation = training.mean(), training.std() or 1.0
    train, test = ({c: float((s - mean) / deviation) for c, s in part.items()} for part in (model.train, model.test))
    return ClipScores(train, test)


SCALES: dict[str, Callable[[ClipScores], ClipScores]] = {
    "score": _as_they_are,
    "rank": _ranks,
    "zscore": _z_scores,
}
