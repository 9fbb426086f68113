"""`asdjax train`: all tasks and seeds of a configuration, step by step."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from jax.sharding import Mesh

from asdjax import features
from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.data.access import Recording, open_corpus, open_stores, read_recordings, require_sound, store_folder
from asdjax.data.clips import Corpus
from asdjax.data.tasks import Task, hold_out, make_tasks
from asdjax.errors import Diverged, InputError, Interrupted
from asdjax.fleet import checkpoints, fleet_model, training_set
from asdjax.fleet.metric_log import MetricLog
from asdjax.fleet.runs import Run, list_runs
from asdjax.models import heads
from asdjax.runtime import hardware, interrupts
from asdjax.runtime.files import locked_folder
from asdjax.runtime.progress import log
from asdjax.training.audio_feed import DeviceFeed, HostFeed, PaddedSizes, audio_bytes, find_padded_sizes, is_resident
from asdjax.training.grouping import ProgramRuns, group_runs
from asdjax.training.loop import train_phase
from asdjax.training.phase_runs import PhaseRun, TrainingClips, is_finished
from asdjax.training.phases import Phase, make_phase1_table, make_phases

#: Training clips and held-out clips of each task, by name.
Clips = Mapping[str, tuple[TrainingClips, TrainingClips]]


def train(config: Config, workdir: Path) -> None:
    """Train all tasks and seeds, or resume.

    Raises InputError for wrong input, Interrupted after a signal with everything saved, and Diverged if a loss is not
    finite.
    """
    # 1. Check the devices, the data and the configuration before anything is written.
    checkpoints.require_savable(workdir)
    loading.make_absolute(config)
    meshes = hardware.make_meshes(config.parallel.device_groups)
    hardware.require_divisible(config.train.batch_size, meshes[0])
    corpus = open_corpus(config)
    tasks = make_tasks(corpus, config.data.classes)
    runs = list_runs(config, workdir, tasks)
    _require_apart(config, workdir, runs, corpus)
    for task in tasks:
        heads.make_head(fleet_model.make_spec(config, len(task.classes)).head)
    with locked_folder(workdir, wait=False):
        loading.require_same_run(config, workdir)
        begun = [run for run in runs if any(map(checkpoints.steps, run.folder.glob("phase*")))]
        if len(begun) < len(runs):
            require_sound(config)
        training_set.require_same_training(config, workdir, begun)
        # 2. Decode all audio once, for training and evaluation.
        stores = open_stores(config, workdir, corpus, [machine for task in tasks for machine in task.machines])
        recordings = {task.name: read_recordings(stores, task.clips) for task in tasks}
        clips = {task.name: _split_clips(config, task, recordings[task.name]) for task in tasks}
        # 3. Group runs into programs; write the configuration and each run's training-set manifest.
        sizes = {name: audio_bytes(map(len, trained.samples)) for name, (trained, _) in clips.items()}
        programs = group_runs(config, runs, meshes[0].size, sizes)
        loading.save(config, workdir)
        for program in programs:
            for run in program.runs:
                training_set.save(config, run, recordings[run.task.name], program.variants_per_group)
        # 4. Train one program after the other, on each group of devices.
        padded = find_padded_sizes(
            config, [[clips[run.task.name][0].samples for run in program.runs] for program in programs]
        )
        run_on_each(meshes, [partial(_train_program, config, program, clips, padded) for program in programs])


def _require_apart(config: Config, workdir: Path, runs: Sequence[Run], corpus: Corpus) -> None:
    """Raise InputError if recordings are in a folder for stores, runs or evaluations."""
    homes = {home.resolve() for home in {clip.path.parent for clip in corpus}}
    homes |= {above for home in homes for above in home.parents}
    stores = [store_folder(config, workdir) / machine for machine in corpus.machines]
    for what, folders in (
        (f"config.data.store: {config.data.store}" if config.data.store else f"--workdir {workdir}", stores),
        (f"--workdir {workdir}", [workdir / "evaluation", *(run.folder for run in runs)]),
    ):
        for folder in folders:
            if folder.resolve() in homes:
                raise InputError(f"{what}: expected a folder without recordings, got {folder} with some; give another")


def run_on_each(meshes: Sequence[Mesh], jobs: Sequence[Callable[[Mesh], None]]) -> None:
    """Run every job on one of the meshes, at most one job at a time on each.

    If one fails, the others save and end. After a signal the process ends as soon as the others have saved, without
    waiting for a job that is compiling.
    """
    if len(meshes) == 1:
        for job in jobs:
            job(meshes[0])
        return
    waiting = iter(jobs)  # taking the next item of a list iterator is atomic

    def work(mesh: Mesh) -> None:
        for job in waiting:
            if not interrupts.stop_requested():
                job(mesh)

    with ThreadPoolExecutor(len(meshes)) as pool:
        working = [pool.submit(work, mesh) for mesh in meshes]
        done, _ = wait(working, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            interrupts.request_stop()
        if any(isinstance(future.exception(), Interrupted) for future in done):
            interrupts.end_when_saved()
    interrupts.reset()
    failed = sorted(filter(None, (future.exception() for future in working)), key=lambda e: isinstance(e, Interrupted))
    for error in failed[1:]:
        if not isinstance(error, Interrupted):
            expected = isinstance(error, InputError | Diverged)
            log(str(error) if expected else f"{type(error).__name__}: {error}")
    if failed:
        raise failed[0]


def _train_program(config: Config, program: ProgramRuns, clips: Clips, padded: PaddedSizes, mesh: Mesh) -> None:
    """Train the phases of the runs of one program."""
    with ExitStack() as stack:
        by_run = [_phase_runs(config, run, *clips[run.task.name], stack) for run in program.runs]
        phases = list(zip(*by_run, strict=True))
        if all(is_finished(run) for phase in phases for run in phase):
            log(f"{program.name}: already trained")
            return
        # 5. Copy the audio to the device once, if it fits.
        samples = [clip for run in program.runs for clip in clips[run.task.name][0].samples]
        feed = DeviceFeed(samples, mesh, padded) if is_resident(config, samples) else HostFeed(samples, mesh)
        for phase in phases:
            # checked again here: a phase 1 that was just retrained makes its phase 2 unfinished
            if not all(map(is_finished, phase)):
                train_phase(config, phase, program.variants_per_group, feed, mesh, padded)


def _phase_runs(
    config: Config, run: Run, trained: TrainingClips, held_out: TrainingClips, stack: ExitStack
) -> list[PhaseRun]:
    """Return the phases of a run, with one metric log."""
    metric_log = stack.enter_context(MetricLog(run.folder))
    return [
        PhaseRun(run=run, phase=phase, trained=trained, held_out=held_out, log=metric_log)
        for phase in _make_phases(config, run, trained)
    ]


def _split_clips(config: Config, task: Task, recordings: Sequence[Recording]) -> tuple[TrainingClips, TrainingClips]:
    """Return the training clips and the held-out clips of a task."""
    samples = {clip: recording.samples for clip, recording in zip(task.clips, recordings, strict=True)}
    trained, held_out = (
        TrainingClips(part, [samples[clip] for clip in part.clips])
        for part in hold_out(task, config.train.holdout_fraction)
    )
    return trained, held_out


def _make_phases(config: Config, run: Run, trained: TrainingClips) -> list[Phase]:
    spectrogram = features.make_spectrogram(config)
    frames = [spectrogram.frames(len(clip)) for clip in trained.samples]
    phases = make_phases(config, run.task, make_phase1_table(trained.task, frames))
    if len(phases) == 1 and config.phase2.strategies:
        log(f"{run.name}: phase 2 is left out, as no section has target training clips and others to mix them with")
    return phases
