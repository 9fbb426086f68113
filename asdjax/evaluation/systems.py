"""Systems: single models and ensembles, each with thresholds, decisions and figures."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from asdjax.config import Config
from asdjax.corpus.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation import ensembles, thresholds
from asdjax.evaluation.metrics import Judgement, ScoredClip, judge, machine_means
from asdjax.evaluation.scores import ClipScores
from asdjax.evaluation.thresholds import Threshold
from asdjax.progress import say

Models = dict[str, dict[str, ClipScores]]
"""Clip scores by machine type, then by model."""


class System(NamedTuple):
    """What a system said and what it is worth.

    `selection`: "none", or "labelled test" where its models were chosen by labels of the clips it is judged on.
    By machine type: `thresholds`; how many training clips are `unscored` and thus did not enter them; `members`,
    the models that it averages.
    """

    selection: str
    clips: tuple[ScoredClip, ...]
    judgement: Judgement
    thresholds: dict[str, Threshold]
    unscored: dict[str, int]
    members: dict[str, tuple[str, ...]]


def judge_all(config: Config, year: int, models: Models, judged: Sequence[Clip]) -> dict[str, System]:
    """Every system by name: the single models that every machine type has, then the report's ensembles.

    The ranking of models goes by the development set's test clips, whichever clips are judged; ensembles that need
    one are left out, and it is said, where a machine type has none.
    """
    everywhere = set.intersection(*(set(of_machine) for of_machine in models.values()))
    names = [name for name in next(iter(models.values())) if name in everywhere]
    chosen: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
        name: (ensembles.NO_SELECTION, dict.fromkeys(models, (name,))) for name in names
    }
    ranking = {machine: _ranked(config, year, of_machine) for machine, of_machine in models.items()}
    unranked = sorted(machine for machine, ranked in ranking.items() if not ranked)
    if unranked:
        say(f"{', '.join(ensembles.TOP)}: left out, {', '.join(unranked)} cannot be ranked by labelled test clips")
    else:
        for name, number in ensembles.TOP.items():
            members = {machine: tuple(ranked[:number]) for machine, ranked in ranking.items()}
            chosen[name] = (ensembles.LABELLED_TEST, members)
    chosen[ensembles.ALL] = (
        ensembles.NO_SELECTION,
        {machine: tuple(of_machine) for machine, of_machine in models.items()},
    )
    return {name: _system(config, year, models, judged, *choice) for name, choice in chosen.items()}


def _ranked(config: Config, year: int, models: Mapping[str, ClipScores]) -> list[str]:
    """A machine type's models, best first, by the harmonic mean of its AUC and pAUC cells; [] without any."""
    official = {}
    for name, scores in models.items():
        labelled = [clip for clip in scores.test if clip.label is not None and not clip.blind]
        official[name] = judge(year, _scored_clips(scores, labelled, None)).official
    if any(value is None for value in official.values()):
        return []
    return sorted(official, key=lambda name: -official[name])


def _system(
    config: Config,
    year: int,
    models: Models,
    judged: Sequence[Clip],
    selection: str,
    members: dict[str, tuple[str, ...]],
) -> System:
    clips: list[ScoredClip] = []
    limits: dict[str, Threshold] = {}
    unscored: dict[str, int] = {}
    for machine, names in members.items():
        members_scores = [models[machine][name] for name in names]
        scores = ensembles.average(members_scores, config.evaluate.ensemble if len(names) > 1 else "score")
        limits[machine] = _threshold(config, machine, scores)
        unscored[machine] = len(scores.unscored)
        of_machine = [clip for clip in judged if clip.machine == machine]
        clips += _scored_clips(scores, of_machine, limits[machine])
    return System(selection, tuple(clips), judge(year, clips), limits, unscored, members)


def _threshold(config: Config, machine: str, scores: ClipScores) -> Threshold:
    if not scores.train:
        raise InputError(
            f"{machine}: no training clip has another one to be scored against, so no threshold can be fitted; "
            "add training clips"
        )
    return thresholds.fit(list(scores.train.values()), config.evaluate.threshold_percentile)


def _scored_clips(scores: ClipScores, clips: Sequence[Clip], threshold: Threshold | None) -> list[ScoredClip]:
    return [
        ScoredClip(
            clip.name,
            clip.machine,
            clip.section,
            clip.domain,
            clip.label,
            scores.test[clip],
            None if threshold is None else scores.test[clip] > threshold.value,
        )
        for clip in clips
    ]


def machine_figures(judgement: Judgement) -> dict[str, tuple[float | None, float | None]]:
    """Machine type -> harmonic means of its AUC and pAUC cells, the entries of the report's Table 2."""
    means = machine_means(judgement)
    return {machine: (mean.harmonic.auc, mean.harmonic.pauc) for machine, mean in means.items()}
