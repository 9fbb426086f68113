"""`asdjax evaluate --sensitivity`: which faults each system finds, and from which size on, without any label.

Faults of known sizes are mixed into normal recordings of the machine itself (data/synthetic/graded_faults.py): into the
clips held out of training if there are any, else into training clips. A mixed clip is scored without the pieces of the
recording that it was made from, as training clips are for the thresholds. So a fault too small to matter is found as
often as a normal clip raises an alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from asdjax.config.fields import Config
from asdjax.data.synthetic.graded_faults import KINDS
from asdjax.evaluation.checkpoint_selection import SelectedCheckpoint
from asdjax.evaluation.mixed_clips import SIZES_DB, MixedClip, mix_machine
from asdjax.evaluation.subject import Subject
from asdjax.evaluation.systems import System, score_system
from asdjax.fleet import embed, fleet_model
from asdjax.fleet.embed import Embeddings
from asdjax.fleet.runs import Run, add_seed
from asdjax.inference import clip_scores, log_mel_statistics, stored_embeddings
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import ClipScores, Copies
from asdjax.inference.loaded_evaluation import restore_model
from asdjax.inference.stored_embeddings import Checkpointed
from asdjax.inference.stored_results import NO_SELECTION
from asdjax.inference.thresholds import find_threshold
from asdjax.runtime import hardware
from asdjax.runtime.threads import map_in_threads

#: A system finds a kind of fault from the size on at which it finds this share of the clips, and of all larger ones.
FOUND = 0.8


class Stored(NamedTuple):
    """The folders of embeddings and statistics that the evaluation has just written."""

    embeddings: Path
    statistics: Path


class Found(NamedTuple):
    """Mixed clips of a kind and size that a system found: the share, its 95 % interval, the number of clips."""

    size_db: float
    share: float
    interval: tuple[float, float]
    clips: int


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The sensitivity of a system on a machine type.

    auc: mean over kinds, sizes and sections of the AUC of mixed clips against training clips. kinds: shares found.
    scores: those of all mixed clips, by section and domain ("" if unknown).
    """

    auc: float | None
    kinds: dict[str, list[Found]]
    scores: dict[str, dict[str, list[float]]]

    def find_smallest(self, kind: str) -> float | None:
        """Return the smallest size from which on the system finds FOUND of the faults; None if there is none."""
        smallest = None
        for found in reversed(self.kinds[kind]):
            if found.share < FOUND:
                break
            smallest = found.size_db
        return smallest


def measure(
    config: Config,
    subject: Subject,
    stored: Stored,
    by_seed: Mapping[int, Mapping[str, System]],
    joint: Mapping[str, System],
) -> dict[str, dict[str, Sensitivity]]:
    """Return the sensitivity by system and machine type, seed by seed; systems with selected models are left out.

    `stored` has the embeddings and statistics that the evaluation wrote. `joint` are the systems of all seeds and the
    baselines, of which those with stored statistics are measured.
    """
    measured: dict[str, dict[str, Sensitivity]] = {}
    for task in {run.task.name: run.task for run in subject.runs}.values():
        task_runs = [run for run in subject.runs if run.task.name == task.name]
        for machine in task.machines:
            mixed = mix_machine(config, subject, task, machine)
            simple = _score_by_statistics(config, mixed, stored.statistics / machine, machine)
            scored = [(simple, {name: one for name, one in joint.items() if name in simple})]
            every = dict(simple)
            for run in task_runs:
                models = _score_by_models(config, run, subject.selection[run.name], mixed, stored.embeddings, machine)
                named = {
                    add_seed(name, run.seed, by_seed): system
                    for name, system in by_seed[run.seed].items()
                    if system.selection == NO_SELECTION
                }
                scored.append((models | simple, named))
                every |= {add_seed(name, run.seed, by_seed): scores for name, scores in models.items()}
            scored.append((every, {name: one for name, one in joint.items() if one.members[machine]}))
            for scores, systems in scored:
                for name, system in systems.items():
                    of_system = score_system(config, scores, system.members[machine], system.baselines)
                    measured.setdefault(name, {})[machine] = _summarise(config, mixed, of_system, system)
    return measured


def to_json(measured: Mapping[str, Mapping[str, Sensitivity]], default: str) -> dict[str, Any]:
    """Convert sensitivities to their entry in results.json, with the scores of mixed clips for the default system."""
    return {
        system: {
            machine: {
                "auc": one.auc,
                "kinds": {
                    kind: {"smallest_db": one.find_smallest(kind), "sizes": [found._asdict() for found in sizes]}
                    for kind, sizes in one.kinds.items()
                },
                **({"scores": one.scores} if system.split("@")[0] == default else {}),
            }
            for machine, one in by_machine.items()
        }
        for system, by_machine in measured.items()
    }


def _score_by_models(
    config: Config,
    run: Run,
    selected: Sequence[SelectedCheckpoint],
    mixed: Sequence[MixedClip],
    embeddings: Path,
    machine: str,
) -> dict[str, ClipScores]:
    """Return the scores of mixed clips, and those of training clips, by each selected model of a run."""
    spec, scoring = fleet_model.make_spec(config, len(run.task.classes)), Scoring.from_config(config)
    scores = {}
    for checkpoint in selected:
        model = restore_model(spec, run.folder / checkpoint.line, checkpoint.step, checkpoint.digest)
        what = f"{run.name} {checkpoint.line} faults of {machine}"
        with hardware.explaining_full_memory(what, "lower config.evaluate.batch_size"):
            pieces = embed.embed_clips(
                spec,
                model,
                [one.samples for one in mixed],
                stride_frames=config.evaluate.stride_frames,
                batch_size=config.evaluate.batch_size,
                what=what,
            )
        kept = stored_embeddings.load(embeddings / run.name / checkpoint.line, spec.variants)
        for variant in spec.variants:
            scores[variant + checkpoint.suffix] = _score(mixed, pieces, kept, variant, machine, scoring)
    return scores


def _score_by_statistics(
    config: Config, mixed: Sequence[MixedClip], statistics: Path, machine: str
) -> dict[str, ClipScores]:
    """Return the scores of mixed clips, and those of training clips, by each simple detector."""
    rate, names = config.signal.sample_rate_hz, log_mel_statistics.NAMES
    kept = stored_embeddings.load(statistics, names)
    computed = map_in_threads(partial(log_mel_statistics.compute_statistics, one.samples, rate) for one in mixed)
    pieces = log_mel_statistics.wrap_statistics(np.stack(list(computed)))
    return {name: _score(mixed, pieces, kept, name, machine, log_mel_statistics.SCORING) for name in names}


def _score(
    mixed: Sequence[MixedClip], pieces: Embeddings, kept: Checkpointed, name: str, machine: str, scoring: Scoring
) -> ClipScores:
    """Score mixed clips by one model or simple detector, without the pieces of the recordings that they are made of."""
    numbers = {clip: number for number, clip in enumerate(kept.bank.clips)}
    originals = np.array([numbers[one.original] for one in mixed])
    copies = Copies([one.clip for one in mixed], pieces, originals)
    scores = clip_scores.score_changed_copies(copies, kept.bank.clips, kept.bank.pieces, name, scoring)
    return kept.scores_of(name, machine)._replace(test=scores)


def _summarise(config: Config, mixed: Sequence[MixedClip], scores: ClipScores, system: System) -> Sensitivity:
    """Return the shares of mixed clips above their thresholds, and their AUC against training clips."""
    alarms: dict[tuple[str, float], list[bool]] = {}
    ranked: dict[tuple[str, float, str], list[float]] = {}
    for one in mixed:
        if one.clip in scores.test:
            limit = find_threshold(one.original, system.thresholds, config.evaluate.threshold_per)
            alarms.setdefault((one.kind, one.size_db), []).append(scores.test[one.clip] > limit.value)
            ranked.setdefault((one.kind, one.size_db, one.clip.section), []).append(scores.test[one.clip])
    training: dict[str, list[float]] = {}
    for clip, score in scores.train.items():
        training.setdefault(clip.section, []).append(score)
    by_section: dict[str, dict[str, list[float]]] = {}
    for clip, score in scores.test.items():
        by_section.setdefault(clip.section, {}).setdefault(clip.domain or "", []).append(score)
    areas = [
        _compute_auc(training[section], faulty) for (_, _, section), faulty in ranked.items() if section in training
    ]
    return Sensitivity(
        auc=float(np.mean(areas)) if areas else None,
        kinds={kind: [_count(size_db, alarms.get((kind, size_db), [])) for size_db in SIZES_DB] for kind in KINDS},
        scores=by_section,
    )


def _compute_auc(training: Sequence[float], faulty: Sequence[float]) -> float:
    """Return the AUC of mixed clips against training clips of their section."""
    labels = [0] * len(training) + [1] * len(faulty)
    return float(roc_auc_score(labels, [*training, *faulty]))


def _count(size_db: float, alarms: Sequence[bool]) -> Found:
    """Return the share of clips with an alarm, and Wilson's (1927) 95 % interval."""
    if not alarms:
        return Found(size_db, 0.0, (0.0, 1.0), 0)
    interval = stats.binomtest(sum(alarms), len(alarms)).proportion_ci(method="wilson")
    return Found(size_db, sum(alarms) / len(alarms), (float(interval.low), float(interval.high)), len(alarms))
