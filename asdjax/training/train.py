"""`asdjax train`: every task and seed of a configuration, in the order in which things happen."""

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
from asdjax.errors import Diverged, InputError, Stopped
from asdjax.fleet import checkpoints, fleet_model, training_set
from asdjax.fleet.metric_log import MetricLog
from asdjax.fleet.runs import Run, list_runs
from asdjax.models import heads
from asdjax.runtime import hardware, interrupts
from asdjax.runtime.files import locked_folder
from asdjax.runtime.progress import log
from asdjax.training import optimizer, phase_runs
from asdjax.training.audio_feed import DeviceFeed, HostFeed, PaddedSizes, audio_bytes, find_padded_sizes, is_resident
from asdjax.training.grouping import group_runs
from asdjax.training.loop import train_phase
from asdjax.training.phase_runs import PhaseRun, TrainingClips
from asdjax.training.phases import Phase, make_phase1_table, make_phases


def train(config: Config, workdir: Path) -> None:
    """Train all tasks and seeds, from wherever an earlier call was ended.

    Raises InputError for what the user can mend, Stopped after a signal with everything saved, Diverged where a
    loss is no longer a number.
    """
    # 1. See what is there and what it asks for, before anything is written.
    checkpoints.require_savable(workdir)
    loading.make_absolute(config)
    meshes = hardware.data_meshes(config.parallel.device_groups)
    hardware.require_divisible(config.train.batch_size, meshes[0])
    corpus = open_corpus(config)
    tasks = make_tasks(corpus, config.data.classes)
    runs = list_runs(config, workdir, tasks)
    _require_apart(config, workdir, runs, corpus)
    for task in tasks:
        heads.make_head(fleet_model.make_spec(config, len(task.classes), optimizer.GROUPS).head)
    with locked_folder(workdir, wait=False):
        loading.require_same_run(config, workdir)
        begun = [run for run in runs if any(map(checkpoints.steps, run.folder.glob("phase*")))]
        if len(begun) < len(runs):
            require_sound(config)
        training_set.require_same_training(config, workdir, begun)
        # 2. Decode all audio once, for training and evaluation.
        stores = open_stores(config, workdir, corpus, [machine for task in tasks for machine in task.machines])
        recordings = {task.name: read_recordings(stores, task.clips) for task in tasks}
        # 3. Only now is it sure that there is a run to write down.
        loading.save(config, workdir)
        for run in runs:
            training_set.save(config, run, recordings[run.task.name])
        # 4. Train one stack of fleets after another, on each row of devices.
        clips = {task.name: _clips(config, task, recordings[task.name]) for task in tasks}
        of_audio = {name: audio_bytes(map(len, trained.samples)) for name, (trained, _) in clips.items()}
        stacks = group_runs(config, runs, meshes[0].size, of_audio)
        room = find_padded_sizes(config, [[clips[run.task.name][0].samples for run in stack] for stack in stacks])
        on_each(meshes, [partial(_train_stack, config, stack, clips, room) for stack in stacks])


def _require_apart(config: Config, workdir: Path, runs: Sequence[Run], corpus: Corpus) -> None:
    """See that no recordings lie in a folder that stores, runs or evaluations are written to."""
    homes = {home.resolve() for home in {clip.path.parent for clip in corpus}}
    homes |= {above for home in homes for above in home.parents}
    stores = [store_folder(config, workdir) / machine for machine in corpus.machines]
    for what, folders in (
        (f"config.data.store: {config.data.store}" if config.data.store else f"--workdir {workdir}", stores),
        (f"--workdir {workdir}", [workdir / "evaluation", *(run.folder for run in runs)]),
    ):
        for folder in folders:
            if folder.resolve() in homes:
                raise InputError(f"{what}: expected a folder of its own, but {folder} holds recordings; give another")


def on_each(meshes: Sequence[Mesh], jobs: Sequence[Callable[[Mesh], None]]) -> None:
    """Run every job on one of the meshes, a mesh at most one job at a time.

    Where one fails, the others save and end too. Where a signal ended one, the process ends as soon as the others have
    saved: nobody waits for a job that is compiling.
    """
    if len(meshes) == 1:
        for job in jobs:
            job(meshes[0])
        return
    waiting = iter(jobs)  # of a list: to take the next of it is atomic

    def work(mesh: Mesh) -> None:
        for job in waiting:
            if not interrupts.stop_requested():
                job(mesh)

    with ThreadPoolExecutor(len(meshes)) as pool:
        working = [pool.submit(work, mesh) for mesh in meshes]
        done, _ = wait(working, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            interrupts.request_stop()
        if any(isinstance(future.exception(), Stopped) for future in done):
            interrupts.end_when_saved()
    interrupts.reset()
    failed = sorted(filter(None, (future.exception() for future in working)), key=lambda e: isinstance(e, Stopped))
    for error in failed[1:]:
        if not isinstance(error, Stopped):
            expected = isinstance(error, InputError | Diverged)
            log(str(error) if expected else f"{type(error).__name__}: {error}")
    if failed:
        raise failed[0]


def _train_stack(
    config: Config,
    stack: Sequence[Run],
    clips: Mapping[str, tuple[TrainingClips, TrainingClips]],
    room: PaddedSizes,
    mesh: Mesh,
) -> None:
    with ExitStack() as closed:
        phases = list(zip(*(_lanes(config, run, *clips[run.task.name], closed) for run in stack), strict=True))
        if all(phase_runs.finished(lane) for of_stack in phases for lane in of_stack):
            log(f"{'+'.join(run.name for run in stack)}: already trained")
            return
        # 5. The audio goes to the device whole, once, where it fits.
        samples = [clip for run in stack for clip in clips[run.task.name][0].samples]
        feed = DeviceFeed(samples, mesh, room) if is_resident(config, samples) else HostFeed(samples, mesh)
        for of_stack in phases:
            # asked only here: a phase 1 that has just been trained again is another than a phase 2 may stand on
            if not all(map(phase_runs.finished, of_stack)):
                train_phase(config, of_stack, feed, mesh, room)


def _lanes(config: Config, run: Run, trained: TrainingClips, held: TrainingClips, closed: ExitStack) -> list[PhaseRun]:
    """A run's phases, all told by one journal."""
    journal = closed.enter_context(MetricLog(run.folder))
    return [PhaseRun(run, phase, trained, held, journal) for phase in _phases(config, run, trained)]


def _clips(config: Config, task: Task, recordings: Sequence[Recording]) -> tuple[TrainingClips, TrainingClips]:
    """What a task trains on, and what is held out."""
    samples = {clip: recording.samples for clip, recording in zip(task.clips, recordings, strict=True)}
    trained, held = hold_out(task, config.train.holdout_fraction)
    return TrainingClips(trained, [samples[clip] for clip in trained.clips]), TrainingClips(
        held, [samples[clip] for clip in held.clips]
    )


def _phases(config: Config, run: Run, trained: TrainingClips) -> list[Phase]:
    spectrogram = features.make_spectrogram(config)
    frames = [spectrogram.frames(len(clip)) for clip in trained.samples]
    phases = make_phases(config, run.task, make_phase1_table(trained.task, frames))
    if len(phases) == 1 and config.phase2.strategies:
        log(f"{run.name}: no section has target training clips to mix, so phase 2 is left out")
    return phases
