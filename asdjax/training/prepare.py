"""The preparation of runs: their data are checked and decoded before anything else is written."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asdjax.config.fields import Config
from asdjax.data.access import (
    Recording,
    find_errors,
    open_stores,
    read_recordings,
    store_folder,
    verify_recordings,
)
from asdjax.data.clips import Corpus
from asdjax.data.layouts import Scan, find_name_errors, select_machines
from asdjax.data.tasks import Task, divide, hold_out
from asdjax.errors import InputError, NoSpace
from asdjax.fleet import fleet_model, training_set
from asdjax.fleet.run_list import RunList
from asdjax.fleet.runs import Run, list_runs
from asdjax.models import heads
from asdjax.training.failures import Failure
from asdjax.training.phase_runs import TrainingClips
from asdjax.training.run_locks import RunLocks

#: Training clips and held-out clips of each task, by name.
Clips = Mapping[str, tuple[TrainingClips, TrainingClips]]


@dataclass(frozen=True, kw_only=True)
class PreparedRuns:
    """The runs that can be trained, maybe none; the data of their tasks by name; and the failures of the others."""

    runs: Sequence[Run]
    recordings: Mapping[str, Sequence[Recording]]
    clips: Clips
    failures: Sequence[Failure]


def prepare(
    config: Config, workdir: Path, listed: RunList, found: Scan, locks: RunLocks, names: Sequence[str]
) -> PreparedRuns:
    """Lock the named runs, check the data in a scan and open the stores, which are built if they are missing.

    Raises InputError for what concerns all runs. `loading.require_same_run` comes first.
    """
    machines_of_run = listed.name_runs(config.seed)
    run_errors = locks.take(workdir, names)
    corpus, tasks, errors = _divide(listed, found, {machine for name in names for machine in machines_of_run[name]})
    runs = [run for run in list_runs(config, workdir, tasks) if run.name in names and run.name not in run_errors]
    _require_apart(config, workdir, runs, corpus)
    run_errors |= _find_errors_of_begun_runs(config, workdir, runs)
    runs = [run for run in runs if run.name not in run_errors]
    tasks = [task for task in tasks if any(run.task is task for run in runs)]
    errors |= _find_errors_of_new_runs(config, listed, found, runs)
    _try_each(tasks, errors, partial(_check_task, config))
    recordings, clips = {}, {}

    def decode(task: Task) -> None:
        stores = open_stores(config, workdir, corpus, task.machines)
        verify_recordings(stores, task.clips)
        recordings[task.name] = read_recordings(stores, task.clips)
        clips[task.name] = _split_clips(config, task, recordings[task.name])

    _try_each(tasks, errors, decode)
    failures = _list_failures(machines_of_run, names, run_errors, errors)
    runs = [run for run in runs if run.task.name in clips]
    return PreparedRuns(runs=runs, recordings=recordings, clips=clips, failures=failures)


def _divide(
    listed: RunList, found: Scan, wanted: Collection[str]
) -> tuple[Corpus, Sequence[Task], dict[str, InputError]]:
    """Return the clips in order, their tasks, and the error of each wanted machine type that has one.

    Raises the first error if all machine types share a task.
    """
    errors = find_name_errors(found)
    if errors and listed.classes != "section":
        raise next(iter(errors.values()))
    corpus = Corpus(found.layout, tuple(clip for clip in found.clips if clip.machine not in errors))
    tasks, refused = divide(corpus, listed.classes) if len(corpus) else ((), {})
    errors |= refused
    if listed.classes == "section":
        for machine in {*wanted} - errors.keys() - {machine for task in tasks for machine in task.machines}:
            errors[machine] = InputError(
                f"{machine}: expected training clips, got none any more; restore them, or leave the machine type out"
            )
    return corpus, tasks, errors


def _find_errors_of_begun_runs(config: Config, workdir: Path, runs: Sequence[Run]) -> dict[str, InputError]:
    """Return the error of each run with checkpoints that cannot go on with its present clips and settings."""
    errors = {}
    for run in filter(training_set.list_saved_lines, runs):
        try:
            training_set.require_same_training(config, workdir, [run])
        except InputError as error:
            errors[run.name] = error
    return errors


def _find_errors_of_new_runs(
    config: Config, listed: RunList, found: Scan, runs: Sequence[Run]
) -> dict[str, InputError]:
    """Return the first error that a check finds for each machine type with a run without a checkpoint."""
    new = [run for run in runs if not training_set.list_saved_lines(run)]
    machines = sorted({machine for run in new for machine in run.task.machines})
    return find_errors(config, select_machines(found, machines), listed.classes) if machines else {}


def _try_each(tasks: Sequence[Task], errors: dict[str, InputError], action: Callable[[Task], None]) -> None:
    """Call an action for each task without an error; an InputError is added to `errors` for its machine types."""
    for task in tasks:
        if errors.keys().isdisjoint(task.machines):
            try:
                action(task)
            except NoSpace:
                raise
            except InputError as error:
                errors |= dict.fromkeys(task.machines, error)


def _check_task(config: Config, task: Task) -> None:
    """Raise InputError if a task cannot be trained; nothing is written."""
    if not task.has_models:
        return
    heads.make_head(fleet_model.make_spec(config, len(task.classes)).head)
    hold_out(task, config.train.holdout_fraction)


def _list_failures(
    machines_of_run: Mapping[str, Sequence[str]],
    names: Sequence[str],
    run_errors: Mapping[str, InputError],
    errors: Mapping[str, InputError],
) -> list[Failure]:
    """Return the failures of the named runs, by the errors of runs and machine types; equal ones are together."""
    by_error: dict[int, tuple[list[str], InputError]] = {}
    for name in names:
        of_run = [errors[machine] for machine in machines_of_run[name] if machine in errors]
        error = run_errors.get(name) or next(iter(of_run), None)
        if error:
            by_error.setdefault(id(error), ([], error))[0].append(name)
    return list(by_error.values())


def _require_apart(config: Config, workdir: Path, runs: Sequence[Run], corpus: Corpus) -> None:
    """Raise InputError if recordings are in a folder for stores, runs or evaluations."""
    homes = {home.resolve() for home in {clip.path.parent for clip in corpus}}
    homes |= {above for home in homes for above in home.parents}
    stores = [store_folder(config, workdir) / machine for machine in corpus.machines]
    for what, folders in (
        (f"config.data.store: {config.data.store}" if config.data.store else f"workdir {workdir}", stores),
        (f"workdir {workdir}", [workdir / "evaluation", *(run.folder for run in runs)]),
    ):
        for folder in folders:
            if folder.resolve() in homes:
                raise InputError(f"{what}: expected a folder without recordings, got {folder} with some; give another")


def _split_clips(config: Config, task: Task, recordings: Sequence[Recording]) -> tuple[TrainingClips, TrainingClips]:
    """Return the training clips and the held-out clips of a task."""
    samples = {clip: recording.samples for clip, recording in zip(task.clips, recordings, strict=True)}
    trained, held_out = (
        TrainingClips(part, [samples[clip] for clip in part.clips])
        for part in hold_out(task, config.train.holdout_fraction)
    )
    return trained, held_out
