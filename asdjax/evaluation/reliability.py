"""Signs, found without any label, that a detector may not be trusted: one line each, with what to do.

They are in results.json under `warnings`, below the table and in the report. The limits are round numbers; what they
say of real corpora is in tests/perf/README.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
from scipy import stats

from asdjax.config.fields import Config
from asdjax.data.tasks import hold_out
from asdjax.evaluation import training_doubts
from asdjax.evaluation.model_scores import ModelScores
from asdjax.evaluation.sensitivity import Sensitivity
from asdjax.evaluation.subject import Subject
from asdjax.evaluation.systems import System
from asdjax.evaluation.training_doubts import Doubt
from asdjax.evaluation.training_ranking import RankedClip
from asdjax.fleet.runs import add_seed
from asdjax.inference import ensembles, log_mel_statistics
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.thresholds import find_threshold

#: Mean rank correlation of the scores of two models or seeds below which they disagree, and of models and a simple
#: detector below which they contradict each other.
AGREEMENT, CONTRADICTION = 0.2, -0.2
#: Share of test clips with an alarm from which on the recordings may differ from the training clips.
MOST = 0.8
#: Chance of as many alarms on normal clips if the threshold kept its promise, below which it does not.
UNLIKELY = 0.01
#: Loss of AUC on mixed clips against the best simple detector from which on the models are worse than that.
WORSE = 0.02


class Evaluated(NamedTuple):
    """What an evaluation has found.

    `by_seed` has the scores of the models, `simple` those of the simple detectors, `default` is the system that `score`
    and the report use, of one seed, `ranked` are its training clips, the strangest first, and `statistics` is the
    folder of the clips' log-mel statistics.
    """

    by_seed: Mapping[int, ModelScores]
    simple: ModelScores
    default: System
    ranked: Sequence[RankedClip]
    sensitivity: Mapping[str, Mapping[str, Sensitivity]]
    statistics: Path


def find_doubts(config: Config, subject: Subject, evaluated: Evaluated) -> list[Doubt]:
    """Return all doubts on an evaluation."""
    doubts = [doubt for run in subject.runs for doubt in training_doubts.examine_training(run)]
    for task in {run.task.name: run.task for run in subject.runs}.values():
        doubts += training_doubts.examine_classes(task, evaluated.statistics)
    for machine in sorted(evaluated.simple):
        models = {seed: scores[machine] for seed, scores in evaluated.by_seed.items()}
        if all(models.values()):
            doubts += _examine_agreement(config, machine, models, evaluated.simple[machine])
        doubts += training_doubts.examine_banks(machine, subject)
        doubts += training_doubts.examine_copies(machine, evaluated.statistics)
        doubts += training_doubts.examine_strange(machine, evaluated.ranked)
        doubts += _examine_alarms(config, machine, subject, evaluated.default)
        doubts += _examine_test_clips(machine, evaluated.default)
        doubts += _examine_sensitivity(machine, evaluated)
    return doubts


def _examine_agreement(
    config: Config, machine: str, by_seed: Mapping[int, Mapping[str, ClipScores]], simple: Mapping[str, ClipScores]
) -> Iterator[Doubt]:
    """Yield doubts on models, seeds and simple detectors that rank the same clips differently."""
    averages = []
    for seed, models in by_seed.items():
        agreement = _correlate_all(list(models.values()))
        if agreement is not None and agreement < AGREEMENT:
            yield Doubt(
                "models disagree",
                add_seed(machine, seed, by_seed),
                f"its {len(models)} models rank the same clips differently (mean rank correlation {agreement:.2f})",
                "train longer, or trust the simple detectors",
            )
        averages.append(ensembles.average([*models.values()], ensembles.choose_normaliser(config, len(models))))
    agreement = _correlate_all(averages)
    if agreement is not None and agreement < AGREEMENT:
        yield Doubt(
            "seeds disagree",
            machine,
            f"its {len(averages)} seeds rank the same clips differently (mean rank correlation {agreement:.2f})",
            "train longer, or use the system of all seeds",
        )
    against = [_correlate(average, simple[log_mel_statistics.MEAN_STD]) for average in averages]
    known = [value for value in against if value is not None]
    if known and mean(known) < CONTRADICTION:
        yield Doubt(
            "models against simple detectors",
            machine,
            f"what the models find strange, {log_mel_statistics.MEAN_STD} finds normal (rank correlation "
            f"{mean(known):.2f})",
            "listen to the clips at the top of either list before trusting one",
        )


def _correlate_all(scores: Sequence[ClipScores]) -> float | None:
    """Return the mean rank correlation of all pairs; None if there is none."""
    known = [value for pair in combinations(scores, 2) if (value := _correlate(*pair)) is not None]
    return mean(known) if known else None


def _correlate(one: ClipScores, other: ClipScores) -> float | None:
    """Return the mean over sections and domains of the rank correlation of test clips, or of training clips if none."""
    first, second = (one.test, other.test) if one.test else (one.train, other.train)
    cells: dict[tuple[str, str | None], list[tuple[float, float]]] = {}
    for clip, score in first.items():
        if clip in second:
            cells.setdefault((clip.section, clip.domain), []).append((score, second[clip]))
    found = [_correlate_ranks(np.array(pairs)) for pairs in cells.values() if len(pairs) > 2]
    known = [value for value in found if np.isfinite(value)]
    return mean(known) if known else None


def _correlate_ranks(pairs: np.ndarray) -> float:
    """Return Spearman's correlation of pairs (n, 2); NaN if all scores of a model are equal."""
    if (np.ptp(pairs, axis=0) == 0).any():
        return float("nan")
    return float(np.corrcoef(stats.rankdata(pairs, axis=0).T)[0, 1])


def _examine_alarms(config: Config, machine: str, subject: Subject, default: System) -> Iterator[Doubt]:
    """Yield doubts on thresholds that normal clips exceed."""
    nominal = 1 - config.evaluate.threshold_percentile / 100
    training = {clip: score for clip, score in default.training.items() if clip.machine == machine}
    held_out = {
        clip
        for run in subject.runs
        for clip in (
            hold_out(run.task, config.train.holdout_fraction)[1].clips if config.train.holdout_fraction else ()
        )
    }
    by_domain = ", or set config.evaluate.threshold_per=section_domain"
    if config.evaluate.threshold_per == "section_domain" or subject.corpus.layout == "dcase2022":
        by_domain = ""  # it is set, or the rules of the year forbid it
    groups: dict[str, list[bool]] = {}
    for clip, score in training.items():
        alarm = score > find_threshold(clip, default.thresholds, config.evaluate.threshold_per).value
        groups.setdefault(" ".join(filter(None, ("training clips of", clip.section, clip.domain))), []).append(alarm)
        if clip in held_out:
            groups.setdefault("held-out clips", []).append(alarm)
    for name, alarms in groups.items():
        if stats.binomtest(sum(alarms), len(alarms), nominal, alternative="greater").pvalue < UNLIKELY:
            yield Doubt(
                "false alarms",
                machine,
                f"{sum(alarms)} of {len(alarms)} {name} are above the threshold, which promises {100 * nominal:g} %",
                f"add normal recordings like these{by_domain}",
            )


def _examine_test_clips(machine: str, default: System) -> Iterator[Doubt]:
    """Yield doubts on sections and domains whose test clips are nearly all above the threshold."""
    tested: dict[str, list[bool]] = {}
    for clip in default.clips:
        if clip.machine == machine:
            place = " ".join(filter(None, (clip.section, clip.domain)))
            tested.setdefault(place, []).append(bool(clip.decision))
    for place, alarms in tested.items():
        if len(alarms) >= training_doubts.FEW_CLIPS and mean(alarms) >= MOST:
            yield Doubt(
                "nearly all are alarms",
                machine,
                f"{sum(alarms)} of {len(alarms)} test clips of {place} are above the threshold",
                "unless they are all faulty, they were recorded otherwise than the training clips: add normal ones "
                "like them",
            )


def _examine_sensitivity(machine: str, evaluated: Evaluated) -> Iterator[Doubt]:
    """Yield a doubt if the models find less of the mixed faults than a simple detector."""
    measured = evaluated.sensitivity
    areas = {name: of_system[machine].auc for name, of_system in measured.items() if machine in of_system}
    simple = {name: area for name in log_mel_statistics.NAMES if (area := areas.get(name)) is not None}
    fleets = [area for name, area in areas.items() if name.split("@")[0] == ensembles.ALL and area is not None]
    if simple and fleets and mean(fleets) < max(simple.values()) - WORSE:
        best = max(simple, key=simple.__getitem__)
        yield Doubt(
            "models below simple detectors",
            machine,
            f"the models find less of the faults mixed into normal clips than {best} (AUC {100 * mean(fleets):.1f} and "
            f"{100 * simple[best]:.1f} %)",
            "train longer; until then the simple detectors of the combined system do the work"
            if evaluated.default.baselines
            else "score with the combined system (config.evaluate.system=combined), or train longer",
        )
