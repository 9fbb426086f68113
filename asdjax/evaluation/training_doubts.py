"""Signs that a detector may not be trusted, in its classes, in how they were learned and in its training clips.

They need no label. The limits are round numbers; what they say of real corpora is in tests/perf/README.md.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np

from asdjax.config.fields import PHASE1
from asdjax.data.tasks import Task
from asdjax.evaluation.subject import Subject
from asdjax.evaluation.training_ranking import RankedClip
from asdjax.fleet import metric_log
from asdjax.fleet.runs import Run
from asdjax.inference import log_mel_statistics, stored_embeddings

#: Share of training clips whose nearest other clip, by mean log-mel spectrum without its level, is of the same class,
#: from which on the classes are too easy to separate; and the largest number of clips that are compared.
TOO_EASY, MOST_COMPARED = 0.99, 2000
#: Share of the way from chance to all right below which the classes were not learned, in the last fifth of phase 1.
LEARNED = 0.25
#: Accuracy on mixed training pieces, which is lower than on others, minus that on held-out pieces, from which on the
#: models know their clips by heart.
BY_HEART = 0.3
#: Training clips of a section below which its bank is small.
FEW_CLIPS = 10
#: Share of a section's training clips with the mean spectrum of another one from which on the section is in doubt, and
#: the decimals, of a logarithm, to which spectra are compared.
COPIES, SAME_DECIMALS = 0.5, 3
#: Distances between the quartiles by which a training clip is above its threshold from which on it is no clip like the
#: others.
FAR = 20


class Doubt(NamedTuple):
    """A reason to doubt a detector: its kind, the machine type, task or run, what was seen, and what to do."""

    kind: str
    where: str
    seen: str
    remedy: str


def examine_classes(task: Task, statistics: Path) -> Iterator[Doubt]:
    """Yield a doubt if a mean spectrum already separates a task's classes, or if it has too few for models."""
    if not task.has_models:
        yield Doubt("no models", task.name, *task.explain_no_models())
        return
    stored = [
        stored_embeddings.load(statistics / machine, (log_mel_statistics.MEAN,)).bank for machine in task.machines
    ]
    class_of = dict(zip(task.clips, task.class_of_clip, strict=True))
    trained = np.array([clip in class_of for part in stored for clip in part.clips])  # and not accepted since
    classes = np.array([class_of[clip] for part in stored for clip in part.clips if clip in class_of])
    spectra = np.concatenate([part.pieces.vectors[log_mel_statistics.MEAN] for part in stored])[trained]
    chosen = np.unique(np.linspace(0, len(classes) - 1, min(MOST_COMPARED, len(classes))).astype(int))
    share = _compute_alike(spectra[chosen], classes[chosen])
    if share >= TOO_EASY:
        yield Doubt(
            "classes too easy",
            task.name,
            f"a mean spectrum already separates its classes ({100 * share:.0f} % of the clips are most like one of the "
            "same class), so the models have little to learn about the machine's state",
            "trust the simple detectors more, or give classes that differ in operation (attributes such as load)",
        )


def _compute_alike(spectra: np.ndarray, classes: np.ndarray) -> float:
    """Return the share of spectra (n, m) whose nearest other one, each without its mean, is of the same class (n,)."""
    from sklearn.neighbors import NearestNeighbors  # late, as in inference/backends.py

    shapes = spectra - spectra.mean(axis=1, keepdims=True)
    nearest = NearestNeighbors(n_neighbors=1).fit(shapes).kneighbors(return_distance=False)[:, 0]
    return float(np.mean(classes[nearest] == classes))


def examine_training(run: Run) -> Iterator[Doubt]:
    """Yield doubts on the classification that a run's models were trained for; accuracies are of mixed clips."""
    rows = [row for row in metric_log.read(run.folder / metric_log.FILE) if row["phase"] == PHASE1]
    logged = [(row["step"], mean(row["accuracy"].values())) for row in rows if "accuracy" in row]
    if not logged:
        return
    late = mean(accuracy for step, accuracy in logged if step > 0.8 * logged[-1][0])
    chance = 1 / len(run.task.classes)
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
            f"accuracy is {100 * late:.0f} % on mixed training pieces, and {100 * held_out[-1]:.0f} % on held-out ones",
            "train shorter (phase1.epochs), or add recordings",
        )


def examine_banks(machine: str, subject: Subject) -> Iterator[Doubt]:
    """Yield a doubt if sections have few training clips."""
    numbers: dict[str, int] = {}
    for recorded in subject.recorded.values():
        for clip in recorded["bank"].of_machine(machine).clips:
            numbers[clip.section] = numbers.get(clip.section, 0) + 1
    if few := [f"{section} ({number})" for section, number in sorted(numbers.items()) if number < FEW_CLIPS]:
        yield Doubt(
            "few training clips",
            machine,
            f"fewer than {FEW_CLIPS} training clips in section {', '.join(few)}, so decisions there are uncertain",
            "add normal recordings, at other times and loads",
        )


def examine_copies(machine: str, statistics: Path) -> Iterator[Doubt]:
    """Yield a doubt on sections whose training clips have the mean spectrum of another one: copies, or silence."""
    bank = stored_embeddings.load(statistics / machine, (log_mel_statistics.MEAN,)).bank
    spectra = np.round(bank.pieces.vectors[log_mel_statistics.MEAN], SAME_DECIMALS)
    sections = np.array([clip.section for clip in bank.clips])
    for section in np.unique(sections).tolist():
        _, group, sizes = np.unique(spectra[sections == section], axis=0, return_inverse=True, return_counts=True)
        copies = int(np.sum(sizes[group] > 1))
        if copies >= COPIES * len(group):
            yield Doubt(
                "training clips alike",
                machine,
                f"{copies} of {len(group)} training clips of section {section} sound just like another one, so its "
                "threshold means little",
                "replace copies and silent clips by other recordings (asdjax check names them)",
            )


def examine_strange(machine: str, ranked: Sequence[RankedClip]) -> Iterator[Doubt]:
    """Yield a doubt on each section with training clips that are far above its threshold, which they raise."""
    far: dict[str, list[RankedClip]] = {}
    for one in ranked:
        if one.clip.machine == machine and one.excess > FAR:
            far.setdefault(one.clip.section, []).append(one)
    for section, clips in sorted(far.items()):
        first, number = clips[0], "1 training clip" if len(clips) == 1 else f"{len(clips)} training clips"
        verb = "is" if len(clips) == 1 else "are"
        yield Doubt(
            "training clip unlike the others",
            machine,
            f"{number} of section {section} {verb} far above the threshold, the farthest {first.clip.path.name} (by "
            f"{first.excess:.0f} times the distance between the quartiles); such clips raise thresholds, so that fewer "
            "faults are found",
            "listen to them in the report; leave faulty or silent ones out with config.data.exclude",
        )
