"""Systems: single models, ensembles and baselines, each with thresholds, decisions and metrics."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation.metrics import Metrics, compute_machine_means, compute_metrics
from asdjax.evaluation.model_scores import (
    ModelScores,
    list_common_models,
    log_missing_scores,
    make_scored_clips,
    require_scores,
)
from asdjax.evaluation.system_definitions import Definition, Losses, Members, define_all, define_systems
from asdjax.fleet.runs import add_seed
from asdjax.inference import ensembles, stored_results, thresholds
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.combination import combine
from asdjax.inference.scored_clip import ScoredClip
from asdjax.inference.thresholds import EMPIRICAL, Threshold, ThresholdRule, Thresholds
from asdjax.runtime.progress import log


@dataclass(frozen=True, kw_only=True)
class System:
    """A system's scored test clips with their metrics, its thresholds, and the training scores they were fitted to.

    `selection` is "none", "held-out normals" or "labelled test": the data that selected its models. For "labelled test"
    these are the labelled test clips of the development set: the evaluated clips of the split `dev`, but not of `eval`.
    `unscored` counts by machine type the training clips without a score, which thresholds ignore. `members` are the
    averaged models, and `baselines` those that stand beside them, or alone.
    """

    selection: str
    clips: tuple[ScoredClip, ...]
    metrics: Metrics
    thresholds: Thresholds
    training: dict[Clip, float]
    unscored: dict[str, int]
    members: Members
    baselines: tuple[str, ...]


def build_systems(
    config: Config, year: int, models: ModelScores, test_clips: Sequence[Clip], held_out: Losses
) -> dict[str, System]:
    """Build the systems of a seed by name.

    These are the single models that every machine type has, the report's ensembles, and the ensembles selected by
    held-out clips if there are any. Models are ranked on the labelled test clips of the development set, for either
    split. A ranked ensemble is left out, and this is logged, if a machine type has no such clips, or if training logged
    no held-out loss. A model with a held-out loss that is not finite is never selected by it.

    There are none if a machine type has no models, which is logged.

    Clips that a model did not score enter no threshold of an ensemble and no ranking; their number is logged. Raises
    InputError if any model lacks a score for one of `test_clips`.
    """
    require_scores(models, test_clips)
    log_missing_scores(models)
    if without := _list_without_models(models):
        log(f"single models and their ensembles: left out, as there are no models of {', '.join(without)}")
        return {}
    definitions = define_systems(config, year, models, held_out)
    systems = {name: _build(config, year, models, test_clips, one) for name, one in definitions.items()}
    if config.evaluate.ensemble == "score":  # z-scores and ranks never follow a gamma distribution
        _log_empirical(systems[ensembles.ALL].thresholds)
    return systems


def _list_without_models(models: ModelScores) -> list[str]:
    return sorted(machine for machine, by_model in models.items() if not by_model)


def build_baselines(config: Config, year: int, baselines: ModelScores, test_clips: Sequence[Clip]) -> dict[str, System]:
    """Build a system for each baseline.

    A baseline that cannot score a clip, or has no training score for a threshold, is left out and logged. The results
    of the fleet do not depend on it.
    """
    systems = {}
    for name in list_common_models(baselines):
        alone: ModelScores = {machine: {name: by_model[name]} for machine, by_model in baselines.items()}
        definition = Definition(stored_results.NO_SELECTION, dict.fromkeys(alone, ()), (name,))
        try:
            require_scores(alone, test_clips)
            systems[name] = _build(config, year, alone, test_clips, definition)
        except InputError as error:
            log(f"{name}: left out, {error}")
    return systems


def build_joint_systems(
    config: Config, year: int, by_seed: Mapping[int, ModelScores], baselines: ModelScores, test_clips: Sequence[Clip]
) -> dict[str, System]:
    """Build the systems of all models of all seeds, without and with `baselines`.

    A single seed has none, nor have machine types without models; the first needs models of every machine type.
    """
    if len(by_seed) < 2 or not any(any(scores.values()) for scores in by_seed.values()):
        return {}
    models: ModelScores = {}
    for seed, by_machine in by_seed.items():
        for machine, by_model in by_machine.items():
            models.setdefault(machine, {}).update(
                {add_seed(name, seed, by_seed): scores for name, scores in by_model.items()}
            )
    require_scores(models, test_clips)
    log_missing_scores(models)
    combined = build_combined(config, year, models, baselines, test_clips, ensembles.COMBINED_SEEDS)
    if _list_without_models(models):
        return combined
    return {ensembles.ALL_SEEDS: _build(config, year, models, test_clips, define_all(models)), **combined}


def build_combined(
    config: Config,
    year: int,
    models: ModelScores,
    baselines: ModelScores,
    test_clips: Sequence[Clip],
    name: str = ensembles.COMBINED,
) -> dict[str, System]:
    """Build the system of all models together with the given baselines: see inference/combination.py.

    It is left out, and this is logged, if a baseline cannot score a clip, or if there are too few training scores.
    """
    definition = define_all(models, tuple(list_common_models(baselines)))
    scores = {machine: models[machine] | baselines[machine] for machine in models}
    try:
        require_scores(baselines, test_clips)
        return {name: _build(config, year, scores, test_clips, definition)}
    except InputError as error:
        log(f"{name}: left out, {error}")
        return {}


def choose_default(config: Config, names: Set[str]) -> str:
    """Return the system that `score`, `export` and the report use unless another is named, among those in `names`.

    It is `config.evaluate.system`, with all seeds if there are several. If that was left out, it is the other one, and
    this is logged. Raises InputError if both were.
    """
    wanted = config.evaluate.system
    if wanted not in names:
        other = ensembles.ALL if wanted == ensembles.COMBINED else ensembles.COMBINED
        if other not in names:
            raise InputError(
                "config.data.root: expected models of every machine type, or enough training clips of each for the "
                "simple detectors, got neither (the lines above say what is left out); add normal recordings"
            )
        log(f"config.evaluate.system: {wanted} is left out; score, export and report use {other}")
        wanted = other
    joint = ensembles.OF_ALL_SEEDS[wanted]
    return joint if joint in names else wanted


def compute_machine_figures(metrics: Metrics) -> dict[str, tuple[float | None, float | None]]:
    """Return by machine type the harmonic means of AUC and pAUC over its cells, the entries of the report's Table 2."""
    means = compute_machine_means(metrics)
    return {machine: (mean.harmonic.auc, mean.harmonic.pauc) for machine, mean in means.items()}


def score_system(
    config: Config, scores: Mapping[str, ClipScores], members: Sequence[str], baselines: Sequence[str]
) -> ClipScores:
    """Return a system's scores of one machine type's clips, from those of its models and baselines by name."""
    detectors = [scores[name] for name in baselines]
    if members:
        normaliser = ensembles.choose_normaliser(config, len(members))
        detectors.insert(0, ensembles.average([scores[name] for name in members], normaliser))
    return combine(detectors) if len(detectors) > 1 else detectors[0]


def _build(
    config: Config, year: int, models: ModelScores, test_clips: Sequence[Clip], definition: Definition
) -> System:
    """Build a system from the scores of its models and baselines by machine type."""
    rule = ThresholdRule.from_config(config)
    clips: list[ScoredClip] = []
    limits: dict[thresholds.Group, Threshold] = {}
    training: dict[Clip, float] = {}
    unscored: dict[str, int] = {}
    for machine, members in definition.members.items():
        scores = score_system(config, models[machine], members, definition.baselines)
        limits |= thresholds.fit_all(scores.train, rule)
        training |= scores.train
        unscored[machine] = len(scores.unscored)
        machine_clips = [clip for clip in test_clips if clip.machine == machine]
        values = [thresholds.find_threshold(clip, limits, rule.per).value for clip in machine_clips]
        decisions = [scores.test[clip] > value for clip, value in zip(machine_clips, values, strict=True)]
        clips += make_scored_clips(scores, machine_clips, decisions)
    return System(
        selection=definition.selection,
        clips=tuple(clips),
        metrics=compute_metrics(year, clips),
        thresholds=limits,
        training=training,
        unscored=unscored,
        members=definition.members,
        baselines=definition.baselines,
    )


def _log_empirical(limits: Thresholds) -> None:
    """Log the thresholds that do not follow the gamma rule."""
    places = sorted(" ".join(filter(None, place)) for place, limit in limits.items() if limit.rule == EMPIRICAL)
    if places:
        log(
            f"threshold of {', '.join(places)}: a percentile of the training scores, because no gamma distribution "
            "fits them: they are almost equal, as those of two clips are, or one is zero (see asdjax check: duplicates)"
        )
