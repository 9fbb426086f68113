"""Signs, found without any label, that a detector may not be trusted: one line each, with what to do.

They are in results.json under `warnings`, below the table and in the report. The limits are round numbers; what they
say of real corpora is in tests/perf/README.md.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import mean
from typing import NamedTuple

import numpy as np
from scipy import stats

from asdjax.config.fields import PHASE1, Config
from asdjax.data.clips import Clip
from asdjax.data.tasks import hold_out
from asdjax.evaluation.model_scores import ModelScores
from asdjax.evaluation.sensitivity import Sensitivity
from asdjax.evaluation.subject import Subject
from asdjax.evaluation.systems import System
from asdjax.fleet import metric_log
from asdjax.fleet.runs import Run
from asdjax.inference import ensembles, log_mel_statistics
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.thresholds import find_threshold

#: Accuracy at the beginning of phase 1 from which on the classes are too easy to separate. The beginning are the rows
#: of the first fifth, and at least three: a row has the accuracy of one batch.
TOO_EASY, BEGINNING = 0.95, 3
#: Share of the way from chance to all right below which the classes were not learned, in the last fifth of phase 1.
LEARNED = 0.25
#: Accuracy on training clips minus that on held-out clips from which on the models know their clips by heart.
BY_HEART = 0.3
#: Mean rank correlation of the scores of two models or seeds below which they disagree, and of models and a simple
#: detector below which they contradict each other.
AGREEMENT, CONTRADICTION = 0.2, -0.2
#: Training clips of a section below which its bank is small.
FEW_CLIPS = 10
#: Share of test clips with an alarm from which on the recordings may differ from the training clips.
MOST = 0.8
#: Chance of as many alarms on normal clips if the threshold kept its promise, below which it does not.
UNLIKELY = 0.01
#: Loss of AUC on mixed clips against the best simple detector from which on the models are worse than that.
WORSE = 0.02


class Doubt(NamedTuple):
    """A reason to doubt a detector: its kind, the machine type, what was seen, and what to do."""

    kind: str
    machine: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.machine}: {self.seen}; {self.remedy}"


def find_doubts(
    config: Config,
    subject: Subject,
    by_seed: Mapping[int, ModelScores],
    simple: ModelScores,
    default: System,
    sensitivity: Mapping[str, Mapping[str, Sensitivity]],
) -> list[Doubt]:
    """Return all doubts on an evaluation.

    `by_seed` has the scores of the models, `simple` those of the simple detectors, and `default` is the system that
    `score` and the report use, of one seed.
    """
    doubts = [doubt for run in subject.runs for doubt in _examine_classes(config, run)]
    for machine in sorted(simple):
        models = {seed: scores[machine] for seed, scores in by_seed.items()}
        doubts += _examine_agreement(config, machine, models, simple[machine])
        doubts += _examine_banks(machine, subject)
        doubts += _examine_alarms(config, machine, subject, default)
        doubts += _examine_sensitivity(machine, sensitivity)
    return doubts


def _examine_classes(config: Config, run: Run) -> Iterator[Doubt]:
    """Yield doubts on the classification that a run's models were trained for."""
    rows = [row for row in metric_log.read(run.folder / metric_log.FILE) if row["phase"] == PHASE1]
    logged = [(row["step"], mean(row["accuracy"].values())) for row in rows if "accuracy" in row]
    if not logged:
        return
    last = logged[-1][0]
    late = mean(accuracy for step, accuracy in logged if step > 0.8 * last)
    number = max(BEGINNING, sum(step <= 0.2 * last for step, _ in logged))
    early = [accuracy for _, accuracy in logged[:number]]
    chance = 1 / len(run.task.classes)
    if len(logged) > number and mean(early) >= TOO_EASY:
        yield Doubt(
            "classes too easy",
            run.name,
            f"its classes were separated at once ({100 * mean(early):.0f} % right at the beginning of phase 1), so "
            "the models had nothing to learn about the machine's state",
            "trust the simple detectors, or give classes that differ in operation (attributes such as speed or load)",
        )
    if late < chance + LEARNED * (1 - chance):
        yield Doubt(
            "classes not learned",
            run.name,
            f"its classes were not learned ({100 * late:.0f} % right at the end of phase 1, {100 * chance:.0f} % by "
            "chance)",
            "train longer (phase1.epochs), or join classes that sound alike",
        )
    held_out = [mean(row["holdout_accuracy"].values()) for row in rows if "holdout_accuracy" in row]
    if held_out and late - held_out[-1] > BY_HEART:
        yield Doubt(
            "known by heart",
            run.name,
            f"accuracy is {100 * late:.0f} % on training clips and {100 * held_out[-1]:.0f} % on held-out clips",
            "train shorter (phase1.epochs), or add recordings",
        )


def _examine_agreement(
    config: Config, machine: str, by_seed: Mapping[int, Mapping[str, ClipScores]], simple: Mapping[str, ClipScores]
) -> Iterator[Doubt]:
    """Yield doubts on models, seeds and simple detectors that rank the same clips differently."""
    averages = []
    for models in by_seed.values():
        agreement = _correlate_all(list(models.values()))
        if agreement is not None and agreement < AGREEMENT:
            yield Doubt(
                "models disagree",
                machine,
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


def _examine_banks(machine: str, subject: Subject) -> Iterator[Doubt]:
    """Yield a doubt if sections have few training clips."""
    numbers: dict[str, int] = {}
    for clip in _list_training_clips(subject, machine):
        numbers[clip.section] = numbers.get(clip.section, 0) + 1
    if few := [f"{section} ({number})" for section, number in sorted(numbers.items()) if number < FEW_CLIPS]:
        yield Doubt(
            "few training clips",
            machine,
            f"fewer than {FEW_CLIPS} training clips in section {', '.join(few)}, so thresholds are uncertain",
            "add normal recordings, at other times and loads",
        )


def _list_training_clips(subject: Subject, machine: str) -> list[Clip]:
    return [clip for clips in subject.recorded.values() for clip in clips["bank"].of_machine(machine).clips]


def _examine_alarms(config: Config, machine: str, subject: Subject, default: System) -> Iterator[Doubt]:
    """Yield doubts on thresholds that normal clips exceed, and on test clips that are nearly all anomalous."""
    nominal = 1 - config.evaluate.threshold_percentile / 100
    training = {clip: score for clip, score in default.training.items() if clip.machine == machine}
    held_out = {
        clip
        for run in subject.runs
        for clip in (
            hold_out(run.task, config.train.holdout_fraction)[1].clips if config.train.holdout_fraction else ()
        )
    }
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
                "add normal recordings like these, or set config.evaluate.threshold_per=section_domain",
            )
    tested: dict[str, list[bool]] = {}
    for clip in default.clips:
        if clip.machine == machine:
            place = " ".join(filter(None, (clip.section, clip.domain)))
            tested.setdefault(place, []).append(bool(clip.decision))
    for place, alarms in tested.items():
        if len(alarms) >= FEW_CLIPS and mean(alarms) >= MOST:
            yield Doubt(
                "nearly all are alarms",
                machine,
                f"{sum(alarms)} of {len(alarms)} test clips of {place} are above the threshold",
                "unless they are all faulty, they were recorded otherwise than the training clips: add normal ones "
                "like them",
            )


def _examine_sensitivity(machine: str, measured: Mapping[str, Mapping[str, Sensitivity]]) -> Iterable[Doubt]:
    """Yield a doubt if the models find less of the mixed faults than a simple detector."""
    areas = {name: of_system[machine].auc for name, of_system in measured.items() if machine in of_system}
    simple = {name: area for name in log_mel_statistics.NAMES if (area := areas.get(name)) is not None}
    fleets = [area for name, area in areas.items() if name.split("@")[0] == ensembles.ALL and area is not None]
    if simple and fleets and mean(fleets) < max(simple.values()) - WORSE:
        best = max(simple, key=simple.__getitem__)
        yield Doubt(
            "models below simple detectors",
            machine,
            f"the models hear less of the faults mixed into normal clips than {best} (AUC {100 * mean(fleets):.1f} and "
            f"{100 * simple[best]:.1f} %)",
            "score with the combined system (asdjax score --system combined), or train longer",
        )
