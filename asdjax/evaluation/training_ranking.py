"""Training clips by how strange they sound to the system that was made from them: recordings of a fault come first.

A clip's score is against the other training clips, never against itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.inference.combination import LEAST_UNIT
from asdjax.inference.thresholds import ThresholdRule, find_threshold, fit_all

#: Clips of a machine type in results.json.
LISTED = 20


class RankedClip(NamedTuple):
    """A training clip, its score, and by how much that exceeds the threshold of its section and domain.

    `excess` is in units of the distance between the quartiles of the section's training scores.
    """

    clip: Clip
    score: float
    excess: float


def rank(config: Config, training: Mapping[Clip, float]) -> list[RankedClip]:
    """Return training clips with their scores, the strangest first, those of all sections and domains together.

    A domain of few clips has a threshold that allows for the little that is known of it, so its clips do not all come
    first.
    """
    thresholds = fit_all(training, replace(ThresholdRule.from_config(config), per="section_domain", few="predicted"))
    units = _compute_units(training)
    ranked = [
        RankedClip(
            clip,
            score,
            (score - find_threshold(clip, thresholds, "section_domain").value) / units[clip.machine, clip.section],
        )
        for clip, score in training.items()
    ]
    return sorted(ranked, key=lambda one: (-one.excess, str(one.clip.path)))


def _compute_units(training: Mapping[Clip, float]) -> dict[tuple[str, str], float]:
    sections: dict[tuple[str, str], list[float]] = {}
    for clip, score in training.items():
        sections.setdefault((clip.machine, clip.section), []).append(score)
    return {place: _compute_unit(scores) for place, scores in sections.items()}


def _compute_unit(scores: Sequence[float]) -> float:
    """Return the distance between the quartiles, and for scores that are equal but for rounding a larger unit."""
    low, median, high = np.percentile(scores, [25, 50, 75])
    return float(max(high - low, LEAST_UNIT * abs(median))) or 1.0


def to_json(ranked: Sequence[RankedClip]) -> dict[str, list[dict[str, Any]]]:
    """Return the first clips of each machine type for results.json."""
    by_machine: dict[str, list[dict[str, Any]]] = {}
    for clip, score, excess in ranked:
        listed = by_machine.setdefault(clip.machine, [])
        if len(listed) < LISTED:
            listed.append(
                {
                    "path": str(clip.path),
                    "section": clip.section,
                    "domain": clip.domain,
                    "score": score,
                    "excess": excess,
                }
            )
    return dict(sorted(by_machine.items()))


def list_strangest(results: Mapping[str, Any], number: int) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the strangest training clips above their thresholds: machine types, and entries in results.json."""
    clips = [
        (machine, clip)
        for machine, listed in results["training_clips"].items()
        for clip in listed
        if clip["excess"] > 0
    ]
    return sorted(clips, key=lambda one: -one[1]["excess"])[:number]
