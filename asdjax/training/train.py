"""`asdjax train`: all tasks and seeds of a configuration, or a part of them, step by step."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from asdjax import features
from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.data.access import scan_corpus
from asdjax.data.layouts import select_machines
from asdjax.errors import Diverged, InputError, Interrupted, NoSpace, Removed
from asdjax.fleet import checkpoints, run_list, training_set
from asdjax.fleet.metric_log import MetricLog
from asdjax.fleet.run_list import EVERY_RUN, RunChoice, RunList
from asdjax.fleet.runs import Run
from asdjax.runtime import hardware, interrupts, processes
from asdjax.runtime.files import locked_folder
from asdjax.runtime.progress import log
from asdjax.training.audio_feed import (
    DeviceFeed,
    HostFeed,
    PaddedSizes,
    count_audio_bytes,
    find_padded_sizes,
    is_resident,
)
from asdjax.training.failures import Failures
from asdjax.training.loop import train_phase
from asdjax.training.phase_runs import PhaseRun, TrainingClips, is_finished
from asdjax.training.phases import Phase, make_phase1_table, make_phases
from asdjax.training.prepare import Clips, PreparedRuns, prepare
from asdjax.training.programs import ProgramRuns, make_programs
from asdjax.training.run_locks import RunLocks
from asdjax.training.several_processes import agree_on_programs, prepare_in_turn, require_same_command


def train(config: Config, workdir: Path, choice: RunChoice = EVERY_RUN) -> None:
    """Train all tasks and seeds, or the chosen ones, or resume.

    A run that fails costs no other run. Raises InputError for wrong input, Diverged if a loss is not finite, and
    Interrupted after a signal with everything saved, or if another process is at work on a run.
    """
    # 1. Check the devices and the configuration, and find the runs of this process.
    meshes = _make_meshes(config, workdir)
    listed, found = run_list.find_runs(config, workdir if choice != EVERY_RUN else None)
    machines_of_run = listed.name_runs(config.seed)
    names = choice.choose(list(machines_of_run))
    require_same_command(config, choice, names)
    if not names:
        log(f"no run to train: part {choice.part[0]} of {choice.part[1]} has none of the {len(machines_of_run)} runs")
        return
    machines = sorted({machine for name in names for machine in machines_of_run[name]})
    found = select_machines(found, machines) if found else scan_corpus(config, listed.layout, machines)
    first = processes.is_first()
    with RunLocks(locks=first) as locks:
        # 2. Check the data, decode all audio once, for training and evaluation. Nothing else is written before that.
        processes.decide("the configuration", lambda: loading.require_same_run(config, workdir))
        prepared = prepare_in_turn(partial(prepare, config, workdir, listed, found, locks), names)
        failures = Failures(workdir, len(names), prepared.failures, writes=first)
        if not prepared.runs and not (workdir / loading.FILE).exists():  # nothing on disk has changed yet
            failures.raise_worst()
        # 3. Group runs into programs; write the configuration and each run's training-set manifest.
        clips = prepared.clips
        sizes = {name: count_audio_bytes(map(len, trained.samples)) for name, (trained, _) in clips.items()}
        with_models = [run for run in prepared.runs if run.task.has_models]
        programs = agree_on_programs(with_models, lambda runs: make_programs(config, runs, meshes[0].size, sizes))
        if first:
            _record_start(config, workdir, listed, locks)
            _save_training_sets(config, prepared, programs)
        failures.record()
        locks.release(name for failed, _ in prepared.failures for name in failed)
        locks.release(run.name for run in prepared.runs if not run.task.has_models)
        # 4. Train one program after the other, on each group of devices.
        padded = find_padded_sizes(
            config, [[clips[run.task.name][0].samples for run in program.runs] for program in programs]
        )
        work = _Work(config, clips, padded, failures, locks)
        run_on_each(meshes, [partial(_train_or_leave_out, work, program) for program in programs])
        processes.gather("the last save")
    failures.raise_worst()


def _make_meshes(config: Config, workdir: Path) -> list[Mesh]:
    """Return the meshes of devices; raise InputError if they or the work directory do not fit the training."""
    checkpoints.require_savable(workdir)
    loading.make_absolute(config)
    meshes = hardware.make_meshes(config.parallel.device_groups)
    hardware.require_divisible(config.train.batch_size, meshes[0])
    return meshes


def _record_start(config: Config, workdir: Path, listed: RunList, locks: RunLocks) -> None:
    """Write the configuration and the list of runs, unless the work directory is that of another training."""
    with locked_folder(workdir):
        loading.require_same_run(config, workdir, own=[workdir / name for name in locks.names])
        loading.save(config, workdir)
        run_list.save(workdir, listed)


def _save_training_sets(config: Config, prepared: PreparedRuns, programs: Sequence[ProgramRuns]) -> None:
    """Write the training-set manifest of every run; log the tasks without models."""
    sizes = {run.name: program.variants_per_group for program in programs for run in program.runs}
    for run in prepared.runs:
        training_set.save(config, run, prepared.recordings[run.task.name], sizes.get(run.name, 0))
    for task in {run.task.name: run.task for run in prepared.runs}.values():
        if not task.has_models:
            log(f"{task.name}: {'; '.join(task.explain_no_models())}")


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


# what to do if a device's memory is too small
_LESS_MEMORY = (
    "lower config.parallel.fleets_per_program, config.train.variants_per_group or config.train.batch_size, or set "
    "config.data.resident=host"
)


class _Work(NamedTuple):
    """All that the programs of a process share."""

    config: Config
    clips: Clips
    padded: PaddedSizes
    failures: Failures
    locks: RunLocks


def _train_or_leave_out(work: _Work, program: ProgramRuns, mesh: Mesh) -> None:
    """Train the runs of one program, and release their locks; a run that fails is left out of it.

    Raises Interrupted after a signal, also if a run failed.
    """
    _stop_together()
    again: list[list[Run]] = []
    try:
        _train_program(work, program, mesh)
    except (NoSpace, Removed):
        raise
    except Diverged as diverged:
        work.failures.add([diverged.run], diverged)
        again = [[run for run in program.runs if run.name != diverged.run]]
    except InputError as error:
        if processes.count() > 1:  # the other processes may know nothing of it
            raise
        if len(program.runs) == 1:
            work.failures.add([program.name], error)
        else:  # the error may be of any of them
            log(f"{program.name}: {error}; trying each run alone")
            again = [[run] for run in program.runs]
    kept = {run.name for runs in again for run in runs}
    work.locks.release(run.name for run in program.runs if run.name not in kept)
    for runs in filter(None, again):
        padded = find_padded_sizes(work.config, [[work.clips[run.task.name][0].samples for run in runs]])
        _train_or_leave_out(work._replace(padded=padded), replace(program, runs=runs), mesh)


def _train_program(work: _Work, program: ProgramRuns, mesh: Mesh) -> None:
    """Train the phases of the runs of one program."""
    config, clips, padded = work.config, work.clips, work.padded
    with ExitStack() as stack:
        by_run = [_phase_runs(config, run, *clips[run.task.name], stack) for run in program.runs]
        phases = list(zip(*by_run, strict=True))
        if _are_finished([run for phase in phases for run in phase]):
            log(f"{program.name}: already trained")
            return
        # 5. Copy the audio to the device once, if it fits.
        samples = [clip for run in program.runs for clip in clips[run.task.name][0].samples]
        with hardware.explaining_full_memory(program.name, _LESS_MEMORY):
            feed = DeviceFeed(samples, mesh, padded) if is_resident(config, samples) else HostFeed(samples, mesh)
            for phase in phases:
                _stop_together()
                # checked again here: a phase 1 that was just retrained makes its phase 2 unfinished
                if not _are_finished(phase):
                    train_phase(config, phase, program.variants_per_group, feed, mesh, padded)


def _stop_together() -> None:
    """Raise Interrupted if any process of the program got a signal while there was work to save."""
    if any(processes.gather("a phase", interrupts.stop_requested())):
        raise Interrupted(interrupts.ALL_IS_SAVED)


def _are_finished(runs: Sequence[PhaseRun]) -> bool:
    return processes.decide("checkpoints", lambda: all(map(is_finished, runs)))


def _phase_runs(
    config: Config, run: Run, trained: TrainingClips, held_out: TrainingClips, stack: ExitStack
) -> list[PhaseRun]:
    """Return the phases of a run, with one metric log."""
    metric_log = stack.enter_context(MetricLog(run.folder, writes=processes.is_first()))
    return [
        PhaseRun(run=run, phase=phase, trained=trained, held_out=held_out, log=metric_log)
        for phase in _make_phases(config, run, trained)
    ]


def _make_phases(config: Config, run: Run, trained: TrainingClips) -> list[Phase]:
    spectrogram = features.make_spectrogram(config)
    frames = [spectrogram.frames(len(clip)) for clip in trained.samples]
    phases = make_phases(config, run.task, make_phase1_table(trained.task, frames))
    if len(phases) == 1 and config.phase2.strategies:
        log(f"{run.name}: phase 2 is left out, as no section has target training clips and others to mix them with")
    return phases
