"""Systems: single models, ensembles and baselines, each with thresholds, decisions and figures."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation.metrics import Metrics, ScoredClip, compute_metrics, machine_means
from asdjax.inference import ensembles, thresholds
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.thresholds import EMPIRICAL, Thresholds
from asdjax.runtime.progress import log

Models = dict[str, dict[str, ClipScores]]
"""Clip scores by machine type, then by model."""

Losses = Mapping[str, Mapping[str, float | None]]
"""By machine type, then by model: the loss on normal clips that were never trained on; None where it was not finite."""

Members = dict[str, tuple[str, ...]]
"""By machine type the models that a system averages."""


class System(NamedTuple):
    """What a system said and what it is worth.

    `selection`: "none", "held-out normals", or "labelled test" where its models were chosen by labels of the
    development set's test clips: of the split `dev` the clips that it is judged on, of `eval` others. `training`: the
    training clips' scores; by machine type how many of them are `unscored` and thus did not enter the thresholds, and
    the `members`, the models that it averages.
    """

    selection: str
    clips: tuple[ScoredClip, ...]
    judgement: Metrics
    thresholds: Thresholds
    training: dict[Clip, float]
    unscored: dict[str, int]
    members: Members


def build_systems(
    config: Config, year: int, models: Models, judged: Sequence[Clip], held_out: Losses
) -> dict[str, System]:
    """Every system of a seed by name: the single models that every machine type has, the report's ensembles, those
    chosen by held-out clips where there are any.

    The ranking of models goes by the development set's test clips, whichever clips are judged; ensembles that need
    one are left out, and it is said, where a machine type has none; so are those that go by held-out clips, where
    training has some but logged nothing of them. A model whose held-out loss is not finite is never chosen by it.

    Clips without a finite score by every model enter no threshold of an ensemble and no ranking; the log counts them.
    Raises InputError for a clip to judge that any model lacks.
    """
    _require_scores(models, judged)
    _log_lacking(models)
    chosen: dict[str, tuple[str, Members]] = {
        name: (ensembles.NO_SELECTION, dict.fromkeys(models, (name,))) for name in _everywhere(models)
    }
    ranking = {machine: _ranked(config, year, of_machine) for machine, of_machine in models.items()}
    if unranked := sorted(machine for machine, ranked in ranking.items() if not ranked):
        log(f"{', '.join(ensembles.TOP)}: left out, {', '.join(unranked)} cannot be ranked by labelled test clips")
    else:
        chosen |= _best(ranking, ensembles.TOP, ensembles.LABELLED_TEST)
    untold = [machine for machine, names in models.items() if not names.keys() <= held_out.get(machine, {}).keys()]
    if untold and (any(held_out.values()) or config.train.holdout_fraction > 0):
        log(
            f"{', '.join(ensembles.TOP_HELD_OUT)}: left out, of {', '.join(untold)} nothing was told of held-out clips "
            "at the judged checkpoints; asdjax train makes up for it"
        )
    elif not untold:
        chosen |= _best_held_out(models, held_out)
    chosen[ensembles.ALL] = (ensembles.NO_SELECTION, {machine: tuple(names) for machine, names in models.items()})
    judgements = {name: _system(config, year, models, judged, *choice) for name, choice in chosen.items()}
    if config.evaluate.ensemble == "score":  # z-scores and ranks are no gamma distribution's
        _tell_of_empirical(judgements[ensembles.ALL].thresholds)
    return judgements


def _tell_of_empirical(limits: Thresholds) -> None:
    """Say which thresholds are not the gamma rule's."""
    places = sorted(" ".join(filter(None, place)) for place, limit in limits.items() if limit.rule == EMPIRICAL)
    if places:
        log(
            f"threshold of {', '.join(places)}: a percentile of the training scores themselves, as no gamma "
            "distribution fits them; they hardly differ, or one is zero, as of a clip that is there twice (see asdjax "
            "check)"
        )


def build_baselines(config: Config, year: int, baselines: Models, judged: Sequence[Clip]) -> dict[str, System]:
    """Make each baseline a system of its own; they enter no ensemble.

    One that cannot score a clip, or has no training score for a threshold, is left out with a line: the results of
    the fleet do not depend on it.
    """
    judgements = {}
    for name in _everywhere(baselines):
        alone: Models = {machine: {name: of_machine[name]} for machine, of_machine in baselines.items()}
        try:
            _require_scores(alone, judged)
            members = dict.fromkeys(alone, (name,))
            judgements[name] = _system(config, year, alone, judged, ensembles.NO_SELECTION, members)
        except InputError as error:
            log(f"{name}: left out, {error}")
    return judgements


def build_joint_systems(
    config: Config, year: int, by_seed: Mapping[int, Models], judged: Sequence[Clip]
) -> dict[str, System]:
    """The ensemble over all models of all seeds; none of one seed only."""
    if len(by_seed) < 2:
        return {}
    models: Models = {}
    for seed, of_seed in by_seed.items():
        for machine, of_machine in of_seed.items():
            models.setdefault(machine, {}).update({f"{name}@{seed}": scores for name, scores in of_machine.items()})
    _require_scores(models, judged)
    _log_lacking(models)
    members = {machine: tuple(names) for machine, names in models.items()}
    return {ensembles.ALL_SEEDS: _system(config, year, models, judged, ensembles.NO_SELECTION, members)}


def _everywhere(models: Models) -> list[str]:
    """The models that every machine type has, in their order."""
    common = set.intersection(*(set(of_machine) for of_machine in models.values()))
    return [name for name in next(iter(models.values())) if name in common]


def _best_held_out(models: Models, held_out: Losses) -> dict[str, tuple[str, Members]]:
    """Return the ensembles by held-out loss, of models whose loss is finite; none where a machine type has no such."""
    by_loss: dict[str, list[str]] = {}
    for machine, names in models.items():
        of_machine = {name: held_out[machine][name] for name in names}
        losses = {name: loss for name, loss in of_machine.items() if loss is not None and math.isfinite(loss)}
        by_loss[machine] = sorted(losses, key=losses.__getitem__)
        if len(losses) < len(names):
            others = ", ".join(name for name in names if name not in losses)
            log(
                f"{', '.join(ensembles.TOP_HELD_OUT)}: {len(names) - len(losses)} of {len(names)} models of {machine} "
                f"not considered, as their loss on held-out clips is not finite: {others}"
            )
    if empty := [machine for machine, ranked in by_loss.items() if not ranked]:
        log(f"{', '.join(ensembles.TOP_HELD_OUT)}: left out, no model of {', '.join(empty)} has a finite held-out loss")
        return {}
    return _best(by_loss, ensembles.TOP_HELD_OUT, ensembles.HELD_OUT)


def _best(
    ranking: Mapping[str, Sequence[str]], numbers: Mapping[str, int], selection: str
) -> dict[str, tuple[str, Members]]:
    return {
        name: (selection, {machine: tuple(ranked[:number]) for machine, ranked in ranking.items()})
        for name, number in numbers.items()
    }


def _ranked(config: Config, year: int, models: Mapping[str, ClipScores]) -> list[str]:
    """A machine type's models, best first, by the harmonic mean of its AUC and pAUC cells; [] without any.

    All are ranked on the same clips, those that every one of them has scored.
    """
    official = {}
    common = _common(of.test for of in models.values())
    labelled = [clip for clip in common if clip.label is not None and not clip.blind]
    for name, scores in models.items():
        official[name] = compute_metrics(year, _scored_clips(scores, labelled, [None] * len(labelled))).official
    if any(value is None for value in official.values()):
        return []
    return sorted(official, key=lambda name: -official[name])


def _system(
    config: Config, year: int, models: Models, judged: Sequence[Clip], selection: str, members: Members
) -> System:
    rule = thresholds.ThresholdRule.of(config)
    clips: list[ScoredClip] = []
    limits: dict[thresholds.Group, thresholds.Threshold] = {}
    training: dict[Clip, float] = {}
    unscored: dict[str, int] = {}
    for machine, names in members.items():
        scores = ensembles.average([models[machine][name] for name in names], ensembles.averaged(config, len(names)))
        limits |= thresholds.fit_all(scores.train, rule)
        training |= scores.train
        unscored[machine] = len(scores.unscored)
        of_machine = [clip for clip in judged if clip.machine == machine]
        values = [thresholds.find_threshold(clip, limits, rule.per).value for clip in of_machine]
        clips += _scored_clips(
            scores,
            of_machine,
            [scores.test[clip] > value for clip, value in zip(of_machine, values, strict=True)],
        )
    return System(selection, tuple(clips), compute_metrics(year, clips), limits, training, unscored, members)


def _common(of_models: Iterable[Mapping[Clip, float]]) -> list[Clip]:
    """Return the clips that all models have a score of, in the order of the first."""
    first, *others = of_models
    return [clip for clip in first if all(clip in other for other in others)]


def _require_scores(models: Models, clips: Sequence[Clip]) -> None:
    """Raise InputError where a clip has no finite score by one of its machine type's models, whichever that is: a
    submission has a row for each."""
    missing = {
        clip: lacking
        for clip in clips
        if (lacking := [name for name, scores in models.get(clip.machine, {}).items() if clip not in scores.test])
    }
    if missing:
        clip, lacking = next(iter(missing.items()))
        raise InputError(
            f"{clip.place}: expected a score, got none that is finite by {', '.join(lacking)} (as {len(missing)} clips "
            "in all); judge another checkpoint, or add training clips of its section"
        )


def _log_lacking(models: Models) -> None:
    """Log how many clips some models of a machine type have scored and others have not."""
    for machine, of_machine in models.items():
        named = of_machine.items()
        _log_lacking_of(
            machine, "training clips enter no threshold of an ensemble", {name: scores.train for name, scores in named}
        )
        _log_lacking_of(machine, "test clips rank no models", {name: scores.test for name, scores in named})


def _log_lacking_of(machine: str, what: str, scored: Mapping[str, Mapping[Clip, float]]) -> None:
    everywhere = {clip for of_model in scored.values() for clip in of_model}
    if number := len(everywhere) - len(_common(scored.values())):
        lacking = ", ".join(name for name, of_model in scored.items() if len(of_model) < len(everywhere))
        log(f"{machine}: {number} {what}, as they have no finite score by {lacking}")


def _scored_clips(scores: ClipScores, clips: Sequence[Clip], decisions: Sequence[bool | None]) -> list[ScoredClip]:
    return [
        ScoredClip(clip.name, clip.machine, clip.section, clip.domain, clip.label, scores.test[clip], decision)
        for clip, decision in zip(clips, decisions, strict=True)
    ]


def machine_figures(judgement: Metrics) -> dict[str, tuple[float | None, float | None]]:
    """Machine type -> harmonic means of its AUC and pAUC cells, the entries of the report's Table 2."""
    means = machine_means(judgement)
    return {machine: (mean.harmonic.auc, mean.harmonic.pauc) for machine, mean in means.items()}
