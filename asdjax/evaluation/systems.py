"""Systems: single models, ensembles and baselines, each with thresholds, decisions and metrics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation.metrics import Metrics, compute_machine_means, compute_metrics
from asdjax.fleet.runs import add_seed
from asdjax.inference import ensembles, stored_results, thresholds
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.scored_clip import ScoredClip
from asdjax.inference.thresholds import EMPIRICAL, Threshold, ThresholdRule, Thresholds
from asdjax.runtime.progress import log

#: Clip scores by machine type, then by model.
ModelScores = dict[str, dict[str, ClipScores]]

#: Loss on held-out normal clips by machine type, then by model; None if it was not finite.
Losses = Mapping[str, Mapping[str, float | None]]

#: The averaged models by machine type.
Members = dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class System:
    """A system's scored test clips with their metrics, its thresholds, and the training scores they were fitted to.

    `selection` is "none", "held-out normals" or "labelled test": the data that selected its models. For "labelled test"
    these are the labelled test clips of the development set: the evaluated clips of the split `dev`, but not of `eval`.
    `unscored` counts by machine type the training clips without a score, which thresholds ignore. `members` are the
    averaged models, or the one baseline; `baselines` those that are averaged with models.
    """

    selection: str
    clips: tuple[ScoredClip, ...]
    metrics: Metrics
    thresholds: Thresholds
    training: dict[Clip, float]
    unscored: dict[str, int]
    members: Members
    baselines: tuple[str, ...] = ()


class _Definition(NamedTuple):
    """The models of a system and how they were selected."""

    selection: str
    members: Members


def build_systems(
    config: Config, year: int, models: ModelScores, test_clips: Sequence[Clip], held_out: Losses
) -> dict[str, System]:
    """Build the systems of a seed by name.

    These are the single models that every machine type has, the report's ensembles, and the ensembles selected by
    held-out clips if there are any. Models are ranked on the labelled test clips of the development set, for either
    split. A ranked ensemble is left out, and this is logged, if a machine type has no such clips, or if training logged
    no held-out loss. A model with a held-out loss that is not finite is never selected by it.

    Clips that a model did not score enter no threshold of an ensemble and no ranking; their number is logged. Raises
    InputError if any model lacks a score for one of `test_clips`.
    """
    _require_scores(models, test_clips)
    _log_missing_scores(models)
    definitions = {
        name: _Definition(stored_results.NO_SELECTION, dict.fromkeys(models, (name,)))
        for name in _list_common_models(models)
    }
    ranking = {machine: _rank_by_metrics(year, by_model) for machine, by_model in models.items()}
    if unranked := sorted(machine for machine, ranked in ranking.items() if not ranked):
        log(f"{', '.join(ensembles.TOP)}: left out, {', '.join(unranked)} has no labelled test clips to rank models by")
    else:
        definitions |= _define_best(ranking, ensembles.TOP, stored_results.LABELLED_TEST)
    missing = [machine for machine, names in models.items() if not names.keys() <= held_out.get(machine, {}).keys()]
    if missing and (any(held_out.values()) or config.train.holdout_fraction > 0):
        log(
            f"{', '.join(ensembles.TOP_HELD_OUT)}: left out, {', '.join(missing)} has no loss on held-out clips at the "
            "evaluated checkpoints; asdjax train computes it"
        )
    elif not missing:
        definitions |= _define_best_held_out(models, held_out)
    everything: Members = {machine: tuple(names) for machine, names in models.items()}
    definitions[ensembles.ALL] = _Definition(stored_results.NO_SELECTION, everything)
    systems = {
        name: _build(config, year, _average(config, models, one), test_clips, one) for name, one in definitions.items()
    }
    if config.evaluate.ensemble == "score":  # z-scores and ranks never follow a gamma distribution
        _log_empirical(systems[ensembles.ALL].thresholds)
    return systems


def build_baselines(config: Config, year: int, baselines: ModelScores, test_clips: Sequence[Clip]) -> dict[str, System]:
    """Build a system for each baseline.

    A baseline that cannot score a clip, or has no training score for a threshold, is left out and logged. The results
    of the fleet do not depend on it.
    """
    systems = {}
    for name in _list_common_models(baselines):
        alone: ModelScores = {machine: {name: by_model[name]} for machine, by_model in baselines.items()}
        definition = _Definition(stored_results.NO_SELECTION, dict.fromkeys(alone, (name,)))
        try:
            _require_scores(alone, test_clips)
            systems[name] = _build(config, year, _average(config, alone, definition), test_clips, definition)
        except InputError as error:
            log(f"{name}: left out, {error}")
    return systems


def build_joint_systems(
    config: Config, year: int, by_seed: Mapping[int, ModelScores], test_clips: Sequence[Clip]
) -> dict[str, System]:
    """Build the ensemble of all models of all seeds. A single seed has none."""
    if len(by_seed) < 2:
        return {}
    models: ModelScores = {}
    for seed, by_machine in by_seed.items():
        for machine, by_model in by_machine.items():
            models.setdefault(machine, {}).update(
                {add_seed(name, seed, by_seed): scores for name, scores in by_model.items()}
            )
    _require_scores(models, test_clips)
    _log_missing_scores(models)
    members: Members = {machine: tuple(names) for machine, names in models.items()}
    definition = _Definition(stored_results.NO_SELECTION, members)
    scores = _average(config, models, definition)
    return {ensembles.ALL_SEEDS: _build(config, year, scores, test_clips, definition)}


def build_combined(
    config: Config, year: int, models: ModelScores, baselines: ModelScores, test_clips: Sequence[Clip]
) -> dict[str, System]:
    """Build the system of all models of a seed together with the given baselines: see `ensembles.combine`.

    It is left out, and this is logged, if a baseline cannot score a clip, or if a section has too few training scores.
    """
    definition = _Definition(stored_results.NO_SELECTION, {machine: tuple(models[machine]) for machine in models})
    fleet = _average(config, models, definition)
    try:
        _require_scores(baselines, test_clips)
        scores = {machine: ensembles.combine([fleet[machine], *baselines[machine].values()]) for machine in models}
        system = _build(config, year, scores, test_clips, definition)
    except InputError as error:
        log(f"{ensembles.COMBINED}: left out, {error}")
        return {}
    return {ensembles.COMBINED: replace(system, baselines=tuple(_list_common_models(baselines)))}


def compute_machine_figures(metrics: Metrics) -> dict[str, tuple[float | None, float | None]]:
    """Return by machine type the harmonic means of AUC and pAUC over its cells, the entries of the report's Table 2."""
    means = compute_machine_means(metrics)
    return {machine: (mean.harmonic.auc, mean.harmonic.pauc) for machine, mean in means.items()}


def _list_common_models(models: ModelScores) -> list[str]:
    """Return the models that every machine type has, in the order of the first."""
    common = set.intersection(*(set(by_model) for by_model in models.values()))
    return [name for name in next(iter(models.values())) if name in common]


def _define_best_held_out(models: ModelScores, held_out: Losses) -> dict[str, _Definition]:
    """Define the ensembles of models with the lowest finite held-out loss; none if a machine type has no such model."""
    by_loss: dict[str, list[str]] = {}
    for machine, names in models.items():
        machine_losses = {name: held_out[machine][name] for name in names}
        losses = {name: loss for name, loss in machine_losses.items() if loss is not None and math.isfinite(loss)}
        by_loss[machine] = sorted(losses, key=losses.__getitem__)
        if len(losses) < len(names):
            others = ", ".join(name for name in names if name not in losses)
            log(
                f"{', '.join(ensembles.TOP_HELD_OUT)}: {len(names) - len(losses)} of {len(names)} models of {machine} "
                f"not considered, because their loss on held-out clips is not finite: {others}"
            )
    if empty := [machine for machine, ranked in by_loss.items() if not ranked]:
        log(f"{', '.join(ensembles.TOP_HELD_OUT)}: left out, no model of {', '.join(empty)} has a finite held-out loss")
        return {}
    return _define_best(by_loss, ensembles.TOP_HELD_OUT, stored_results.HELD_OUT)


def _define_best(
    ranking: Mapping[str, Sequence[str]], numbers: Mapping[str, int], selection: str
) -> dict[str, _Definition]:
    return {
        name: _Definition(selection, {machine: tuple(ranked[:number]) for machine, ranked in ranking.items()})
        for name, number in numbers.items()
    }


def _rank_by_metrics(year: int, models: Mapping[str, ClipScores]) -> list[str]:
    """Rank a machine type's models by the harmonic mean of its AUC and pAUC cells, best first; [] if it is undefined.

    All models are ranked on the labelled test clips that every one of them scored.
    """
    official = {}
    common = _list_common_clips(scores.test for scores in models.values())
    labelled = [clip for clip in common if clip.label is not None and not clip.blind]
    for name, scores in models.items():
        official[name] = compute_metrics(year, _make_scored_clips(scores, labelled, [None] * len(labelled))).official
    if any(value is None for value in official.values()):
        return []
    return sorted(official, key=lambda name: -official[name])


def _average(config: Config, models: ModelScores, definition: _Definition) -> dict[str, ClipScores]:
    """Return the averaged scores of a system's models by machine type."""
    return {
        machine: ensembles.average(
            [models[machine][name] for name in names], ensembles.choose_normaliser(config, len(names))
        )
        for machine, names in definition.members.items()
    }


def _build(
    config: Config, year: int, scored: Mapping[str, ClipScores], test_clips: Sequence[Clip], definition: _Definition
) -> System:
    rule = ThresholdRule.from_config(config)
    clips: list[ScoredClip] = []
    limits: dict[thresholds.Group, Threshold] = {}
    training: dict[Clip, float] = {}
    unscored: dict[str, int] = {}
    for machine, scores in scored.items():
        limits |= thresholds.fit_all(scores.train, rule)
        training |= scores.train
        unscored[machine] = len(scores.unscored)
        machine_clips = [clip for clip in test_clips if clip.machine == machine]
        values = [thresholds.find_threshold(clip, limits, rule.per).value for clip in machine_clips]
        decisions = [scores.test[clip] > value for clip, value in zip(machine_clips, values, strict=True)]
        clips += _make_scored_clips(scores, machine_clips, decisions)
    return System(
        selection=definition.selection,
        clips=tuple(clips),
        metrics=compute_metrics(year, clips),
        thresholds=limits,
        training=training,
        unscored=unscored,
        members=definition.members,
    )


def _list_common_clips(scores: Iterable[Mapping[Clip, float]]) -> list[Clip]:
    """Return the clips that all models scored, in the order of the first model."""
    first, *others = scores
    return [clip for clip in first if all(clip in other for other in others)]


def _require_scores(models: ModelScores, clips: Sequence[Clip]) -> None:
    """Raise InputError if a clip has no finite score by a model of its machine type: a submission needs every row."""
    missing = {
        clip: lacking
        for clip in clips
        if (lacking := [name for name, scores in models.get(clip.machine, {}).items() if clip not in scores.test])
    }
    if missing:
        clip, lacking = next(iter(missing.items()))
        raise InputError(
            f"{clip.place}: expected a score, got none that is finite by {', '.join(lacking)} ({len(missing)} clips in "
            "all); evaluate another checkpoint, or add training clips of its section"
        )


def _log_missing_scores(models: ModelScores) -> None:
    """Log by machine type the number of clips that some models scored and others did not."""
    for machine, by_model in models.items():
        train = {name: scores.train for name, scores in by_model.items()}
        test = {name: scores.test for name, scores in by_model.items()}
        _log_missing(machine, "training clips enter no threshold of an ensemble", train)
        _log_missing(machine, "test clips rank no models", test)


def _log_missing(machine: str, effect: str, scores: Mapping[str, Mapping[Clip, float]]) -> None:
    every_clip = {clip for by_clip in scores.values() for clip in by_clip}
    if number := len(every_clip) - len(_list_common_clips(scores.values())):
        lacking = ", ".join(name for name, by_clip in scores.items() if len(by_clip) < len(every_clip))
        log(f"{machine}: {number} {effect}, because they have no finite score by {lacking}")


def _log_empirical(limits: Thresholds) -> None:
    """Log the thresholds that do not follow the gamma rule."""
    places = sorted(" ".join(filter(None, place)) for place, limit in limits.items() if limit.rule == EMPIRICAL)
    if places:
        log(
            f"threshold of {', '.join(places)}: a percentile of the training scores, because no gamma distribution "
            "fits them: they are almost equal, or one is zero, for example of a duplicate clip (see asdjax check)"
        )


def _make_scored_clips(scores: ClipScores, clips: Sequence[Clip], decisions: Sequence[bool | None]) -> list[ScoredClip]:
    return [
        ScoredClip(clip.name, clip.machine, clip.section, clip.domain, clip.label, scores.test[clip], decision)
        for clip, decision in zip(clips, decisions, strict=True)
    ]
