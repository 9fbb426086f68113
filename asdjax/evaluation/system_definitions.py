"""Definitions of the systems of a seed: the models of each machine type, and the data that selected them."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from asdjax.config.fields import Config
from asdjax.evaluation.metrics import compute_metrics
from asdjax.evaluation.model_scores import ModelScores, list_common_clips, list_common_models, make_scored_clips
from asdjax.inference import ensembles, stored_results
from asdjax.inference.clip_scores import ClipScores
from asdjax.runtime.progress import log

#: Loss on held-out normal clips by machine type, then by model; None if it was not finite.
Losses = Mapping[str, Mapping[str, float | None]]

#: The averaged models by machine type.
Members = dict[str, tuple[str, ...]]


class Definition(NamedTuple):
    """The models of a system, how they were selected, and the baselines beside them."""

    selection: str
    members: Members
    baselines: tuple[str, ...] = ()


def define_systems(config: Config, year: int, models: ModelScores, held_out: Losses) -> dict[str, Definition]:
    """Define single models, ranked ensembles and the ensemble of all models; see `systems.build_systems`."""
    definitions = {
        name: Definition(stored_results.NO_SELECTION, dict.fromkeys(models, (name,)))
        for name in list_common_models(models)
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
    return {**definitions, ensembles.ALL: define_all(models)}


def define_all(models: ModelScores, baselines: tuple[str, ...] = ()) -> Definition:
    """Define the system of all models, and of some baselines."""
    members: Members = {machine: tuple(names) for machine, names in models.items()}
    return Definition(stored_results.NO_SELECTION, members, baselines)


def _define_best_held_out(models: ModelScores, held_out: Losses) -> dict[str, Definition]:
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
) -> dict[str, Definition]:
    return {
        name: Definition(selection, {machine: tuple(ranked[:number]) for machine, ranked in ranking.items()})
        for name, number in numbers.items()
    }


def _rank_by_metrics(year: int, models: Mapping[str, ClipScores]) -> list[str]:
    """Rank a machine type's models by the harmonic mean of its AUC and pAUC cells, best first; [] if it is undefined.

    All models are ranked on the labelled test clips that every one of them scored.
    """
    official = {}
    common = list_common_clips(scores.test for scores in models.values())
    labelled = [clip for clip in common if clip.label is not None and not clip.blind]
    for name, scores in models.items():
        official[name] = compute_metrics(year, make_scored_clips(scores, labelled, [None] * len(labelled))).official
    if any(value is None for value in official.values()):
        return []
    return sorted(official, key=lambda name: -official[name])
