"""Clip scores of a machine type's models: their common clips, and what is missing."""

from collections.abc import Iterable, Mapping, Sequence

from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.scored_clip import ScoredClip
from asdjax.runtime.progress import log

#: Clip scores by machine type, then by model.
ModelScores = dict[str, dict[str, ClipScores]]


def list_common_models(models: ModelScores) -> list[str]:
    """Return the models that every machine type has, in the order of the first."""
    common = set.intersection(*(set(by_model) for by_model in models.values()))
    return [name for name in next(iter(models.values())) if name in common]


def list_common_clips(scores: Iterable[Mapping[Clip, float]]) -> list[Clip]:
    """Return the clips that all models scored, in the order of the first model."""
    first, *others = scores
    return [clip for clip in first if all(clip in other for other in others)]


def require_scores(models: ModelScores, clips: Sequence[Clip]) -> None:
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


def log_missing_scores(models: ModelScores) -> None:
    """Log by machine type the number of clips that some models scored and others did not."""
    for machine, by_model in models.items():
        if not by_model:
            continue
        train = {name: scores.train for name, scores in by_model.items()}
        test = {name: scores.test for name, scores in by_model.items()}
        _log_missing(machine, "training clips enter no threshold of an ensemble", train)
        _log_missing(machine, "test clips rank no models", test)


def _log_missing(machine: str, effect: str, scores: Mapping[str, Mapping[Clip, float]]) -> None:
    every_clip = {clip for by_clip in scores.values() for clip in by_clip}
    if number := len(every_clip) - len(list_common_clips(scores.values())):
        lacking = ", ".join(name for name, by_clip in scores.items() if len(by_clip) < len(every_clip))
        log(f"{machine}: {number} {effect}, because they have no finite score by {lacking}")


def make_scored_clips(scores: ClipScores, clips: Sequence[Clip], decisions: Sequence[bool | None]) -> list[ScoredClip]:
    return [
        ScoredClip(clip.name, clip.machine, clip.section, clip.domain, clip.label, scores.test[clip], decision)
        for clip, decision in zip(clips, decisions, strict=True)
    ]
