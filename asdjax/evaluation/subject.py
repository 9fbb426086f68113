"""The subject of an evaluation: runs with their selected checkpoints, and the clips of their tasks."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asdjax.config.fields import Config
from asdjax.data import feedback
from asdjax.data.access import RecordedClips, Stores, open_stores, verify_recordings
from asdjax.data.clips import Corpus
from asdjax.data.official_files import YEAR_OF_LAYOUT
from asdjax.data.tasks import make_tasks
from asdjax.evaluation import stored_parts
from asdjax.evaluation.baselines import score_baselines
from asdjax.evaluation.checkpoint_selection import Select, Selection
from asdjax.evaluation.preconditions import require_allowed
from asdjax.evaluation.score_runs import TaskClips, read_clips
from asdjax.evaluation.system_definitions import Losses
from asdjax.fleet import checkpoints, fleet_model, metric_log, training_set
from asdjax.fleet.runs import Run, add_seed, list_runs


class Subject(NamedTuple):
    """The runs of an evaluation with their selected checkpoints, and the clips of each task by its name.

    `accepted` are the clips that a person found normal in service, which are in the banks of their tasks, too.
    """

    corpus: Corpus
    runs: Sequence[Run]
    selection: Selection
    stores: Stores
    recorded: dict[str, TaskClips]
    accepted: RecordedClips

    def verify(self, task: str) -> None:
        """Raise InputError if the samples of a task's clips are damaged; those of accepted clips were verified."""
        accepted = {clip.path for clip in self.accepted.clips}
        clips = [clip for part in self.recorded[task].values() for clip in part.clips if clip.path not in accepted]
        verify_recordings(self.stores, clips)

    def list_banks(self) -> list[RecordedClips]:
        """Return the training clips of the tasks with models."""
        with_models = dict.fromkeys(run.task.name for run in self.runs if run.task.has_models)
        return [self.recorded[name]["bank"] for name in with_models]


def find_subject(
    config: Config, workdir: Path, corpus: Corpus, split: str, select: Select, names: Collection[str] | None = None
) -> Subject:
    """Return the runs to evaluate, or some of them by their names, with the stores and clips of their machine types."""
    require_allowed(config, corpus)
    runs = list_runs(config, workdir, make_tasks(corpus, config.data.classes))
    runs = [run for run in runs if names is None or run.name in names]
    selection = select(config, runs)
    runs = [run for run in runs if run.name in selection]
    _require_own_phase_1(runs, selection)
    training_set.require_same_training(config, workdir, runs)
    tasks = {run.task.name: run.task for run in runs}
    machines = sorted({machine for task in tasks.values() for machine in task.machines})
    stores = open_stores(config, workdir, corpus, machines)
    accepted = feedback.read_clips(workdir, feedback.read_judgements(workdir, "accept"))
    recorded = {name: read_clips(stores, corpus, task, split, accepted) for name, task in tasks.items()}
    return Subject(corpus, runs, selection, stores, recorded, accepted)


def make_key(config: Config, subject: Subject, run: Run) -> str:
    return stored_parts.make_key(config, subject.selection[run.name], subject.recorded[run.task.name])


def read_losses(subject: Subject, seed: int) -> Losses:
    """Read the held-out losses that training logged at the selected checkpoints of a seed."""
    losses: dict[str, dict[str, float | None]] = {}
    for run in subject.runs:
        if run.seed == seed:
            rows = [row for row in metric_log.read(run.folder / metric_log.FILE) if "holdout_loss" in row]
            by_model = {
                variant + checkpoint.suffix: loss
                for checkpoint in subject.selection[run.name]
                for row in rows
                if (row["phase"], row["step"]) == (checkpoint.line, checkpoint.step)
                for variant, loss in row["holdout_loss"].items()
            }
            losses |= dict.fromkeys(run.task.machines, by_model)
    return losses


def describe(config: Config, subject: Subject, baselines: Sequence[str]) -> dict[str, Any]:
    """Return the entries of results.json on checkpoints, configuration, models, clips and the named baselines."""
    runs, selection = subject.runs, subject.selection
    evaluated = {f"{run.name}/{one.line}": (run, one) for run in runs for one in selection[run.name]}
    return {
        "year": YEAR_OF_LAYOUT[subject.corpus.layout],
        "checkpoints": {name: one.step for name, (_, one) in evaluated.items()},
        "evaluated": {
            name: {"digest": one.digest, "classes": len(run.task.classes)} for name, (run, one) in evaluated.items()
        },
        "config": config.to_dict(),
        "layout": subject.corpus.layout,
        "precision": fleet_model.choose_precision(config),
        "models": _list_models(config, runs, selection),
        "accepted": _list_accepted(subject),
        "clip_seconds": _find_clip_seconds(config, subject.recorded.values()),
        "baselines": score_baselines.describe_baselines(config, baselines),
    }


def _list_accepted(subject: Subject) -> list[dict[str, Any]]:
    """Return the accepted clips in the banks, with the SHA-256 of their samples."""
    in_banks = {clip.path for clips in subject.recorded.values() for clip in clips["bank"].clips}
    return [
        {
            "machine": clip.machine,
            "section": clip.section,
            "domain": clip.domain,
            "clip": clip.name,
            "sha256": recording.sha256,
        }
        for clip, recording in zip(*subject.accepted, strict=True)
        if clip.path in in_banks
    ]


def _find_clip_seconds(config: Config, recorded: Iterable[TaskClips]) -> dict[str, float]:
    """Return the most common length of each machine type's training clips, in seconds."""
    lengths: dict[str, Counter[int]] = defaultdict(Counter)
    for clips in recorded:
        for clip, samples in zip(clips["bank"].clips, clips["bank"].samples, strict=True):
            lengths[clip.machine][len(samples)] += 1
    rate = config.signal.sample_rate_hz
    return {machine: counts.most_common(1)[0][0] / rate for machine, counts in lengths.items()}


def _list_models(config: Config, runs: Sequence[Run], selection: Selection) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return run, line and variant, the model's place in embeddings/, by machine type and model."""
    models: dict[str, dict[str, tuple[str, ...]]] = {}
    for run in runs:
        run_models = {
            add_seed(f"{variant}{checkpoint.suffix}", run.seed, config.seed): (run.name, checkpoint.line, variant)
            for checkpoint in selection[run.name]
            for variant in config.variants
        }
        for machine in run.task.machines:
            models.setdefault(machine, {}).update(run_models)
    return models


def _require_own_phase_1(runs: Sequence[Run], selection: Selection) -> None:
    """Raise InputError if a checkpoint of phase 2 began from another phase 1 than the present one."""
    for run in runs:
        for checkpoint in selection[run.name]:
            with contextlib.suppress(checkpoints.Damaged):  # reported when it is loaded
                checkpoints.require_same_start(run.folder / checkpoint.line, checkpoint.step)
