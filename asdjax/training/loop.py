"""Train every task of a configuration: the order of operations."""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from asdjax import configfile, parallel, signal
from asdjax.config import Config
from asdjax.corpus.access import Recording, open_corpus, open_stores, recordings_of, require_sound
from asdjax.corpus.clips import Corpus
from asdjax.corpus.tasks import Task, tasks_of
from asdjax.errors import Diverged, Stopped
from asdjax.files import locked_folder
from asdjax.journal import Journal
from asdjax.progress import progress, say
from asdjax.stops import Deferral
from asdjax.training import checkpoints, fleet, record, sampler
from asdjax.training.feed import DeviceFeed, HostFeed, is_resident, steps_at_once
from asdjax.training.fleet import FleetSpec, FleetState, Metrics
from asdjax.training.phases import Phase, phases_of
from asdjax.training.runs import Run, runs_of


def train(config: Config, workdir: Path) -> None:
    """Train all tasks and seeds, from wherever an earlier call was ended.

    Raises InputError for what the user can mend, Stopped after a signal with everything saved, Diverged where a
    loss is no longer a number.
    """
    # 1. See what is there and what it asks for, before anything is written.
    configfile.make_absolute(config)
    mesh = parallel.data_mesh()
    parallel.require_divisible(config.train.batch_size, mesh)
    corpus = open_corpus(config)
    tasks = tasks_of(corpus, config.data.classes)
    runs = runs_of(config, workdir, tasks)
    with locked_folder(workdir, wait=False):
        configfile.require_same_run(config, workdir)
        begun = [run for run in runs if any(map(checkpoints.steps, run.folder.glob("phase*")))]
        if len(begun) < len(runs):
            require_sound(config)
        # 2. Decode all audio once, for training and evaluation.
        recordings = {task.name: _recordings(config, workdir, corpus, task) for task in tasks}
        for run in begun:
            record.require_same(run.folder, run.task, recordings[run.task.name])
        # 3. Only now is it sure that there is a run to write down.
        configfile.save(config, workdir)
        for run in runs:
            record.save(run.folder, run.task, recordings[run.task.name])
        # 4. Train one fleet after another.
        for run in runs:
            _train_run(config, run, [recording.samples for recording in recordings[run.task.name]], mesh)


def _recordings(config: Config, workdir: Path, corpus: Corpus, task: Task) -> list[Recording]:
    """A task's training clips, decoded where they have not been."""
    return recordings_of(open_stores(config, workdir, corpus, task.machines), task.clips)


def _train_run(config: Config, run: Run, samples: Sequence[np.ndarray], mesh: Mesh) -> None:
    phases = phases_of(config, run.task, _phase1_plan(config, run.task, samples))
    if len(phases) == 1 and config.phase2.strategies:
        say(f"{run.name}: no section has target training clips to mix, so phase 2 is left out")
    unfinished = [phase for phase in phases if not _finished(run.folder / phase.name, phase)]
    if not unfinished:
        say(f"{run.name}: already trained")
        return
    # 5. The audio goes to the device whole, once, where it fits.
    feed = (DeviceFeed if is_resident(config, samples) else HostFeed)(samples, mesh)
    with Journal(run.folder) as journal:
        for phase in unfinished:
            _train_phase(config, run, phase, feed, mesh, journal)


def _finished(line: Path, phase: Phase) -> bool:
    """Whether a phase's last step is there, whole; one that is damaged is set aside."""
    return phase.steps in checkpoints.steps(line) and checkpoints.newest_whole(line) == phase.steps


def _phase1_plan(config: Config, task: Task, samples: Sequence[np.ndarray]) -> sampler.Plan:
    spectrogram = signal.spectrogram_of(config)
    frames = [spectrogram.frames(len(clip)) for clip in samples]
    is_target = [clip.domain == "target" for clip in task.clips]
    return sampler.plan(task.class_of_clip, is_target, frames, task.section_of_class)


def _train_phase(
    config: Config, run: Run, phase: Phase, feed: DeviceFeed | HostFeed, mesh: Mesh, journal: Journal
) -> None:
    spec = fleet.spec_of(config, len(run.task.classes), phase.trainable)
    if isinstance(feed, HostFeed):
        spec = spec._replace(steps_per_dispatch=steps_at_once(spec))
    # 6. Go on from the newest whole checkpoint, or begin: from scratch, or from the end of phase 1.
    step, state = _resumed(spec, run, phase, mesh) or (0, _begun(spec, run, phase, mesh))
    journal.begin(phase.name, step)
    steps = fleet.compiled_steps(spec, mesh)
    keys = sampler.streams(run.seed, run.task.name, spec.variants, phase.name)
    counts = functools.partial(_steps_until_due, config, last=phase.steps, most=spec.steps_per_dispatch)
    unseen: list[tuple[int, int, Metrics]] = []
    with (
        feed.phase(spec, phase.plan, keys, counts) as take,
        progress(f"{run.name} {phase.name}", phase.steps, "step", step) as shown,
        Deferral() as stop,
    ):
        plan, keys = parallel.replicated((phase.plan, keys), mesh)
        shown.mention("first step, which may take minutes to compile")
        while step < phase.steps:
            # 7. One dispatch: as many steps as lie before the next log or checkpoint.
            count = counts(step)
            if len(unseen) > 1:  # the host runs one dispatch ahead of the device, no more: crops take its memory
                jax.block_until_ready(unseen[-2][2])
            state, metrics = steps(state, take(step, count), plan, keys, jnp.int32(step), jnp.int32(count))
            stop.begin()  # not earlier: nobody should wait for a compilation to end before the run does
            unseen.append((step, count, metrics))
            step += count
            # 8. Log, then save, then stop: what a checkpoint has behind it is in the log, once. Every loss is looked
            #    at before that, so that no step that went wrong is saved.
            note = ""
            if due(step, config.train.log_every_steps, phase.steps):
                _require_finite(spec, phase.name, unseen)
                note = _log(journal, spec, phase.name, step, metrics, count)
            stopping = stop.asked  # asked once: a signal from here on is for the next dispatch
            if stopping or due(step, config.train.checkpoint_every_steps, phase.steps):
                _require_finite(spec, phase.name, unseen)
                trees = {"model": fleet.model_of(state), "optimizer": state.optimizer}
                checkpoints.save(run.folder / phase.name, step, trees, config.train.keep)
            shown.advance(count, note)
            if stopping:
                raise Stopped(f"{run.name} {phase.name}: stopped at step {step} of {phase.steps}; all is saved")


def _begun(spec: FleetSpec, run: Run, phase: Phase, mesh: Mesh) -> FleetState:
    """The state at a phase's first step."""
    if phase.after is None:
        model = fleet.initial_model(spec, run.seed, run.task.name)
    else:
        line = run.folder / phase.after.name
        model = checkpoints.restore(line, phase.after.steps, {"model": fleet.abstract_model(spec)})["model"]
    return parallel.replicated(fleet.begin(spec, model), mesh)


def _resumed(spec: FleetSpec, run: Run, phase: Phase, mesh: Mesh) -> tuple[int, FleetState] | None:
    """The newest whole checkpoint of a phase, if there is any."""
    like = fleet.abstract_state(spec)
    shapes = {"model": fleet.model_of(like), "optimizer": like.optimizer}
    found = checkpoints.restore_newest(run.folder / phase.name, shapes)
    if found is None:
        return None
    step, trees = found
    state = fleet.begin(spec, trees["model"])._replace(optimizer=trees["optimizer"])
    return step, parallel.replicated(state, mesh)


def due(step: int, every: int, last: int) -> bool:
    """Whether something done every so many steps is done once `step` are over; always at the last."""
    return step % every == 0 or step == last


def _steps_until_due(config: Config, step: int, last: int, most: int) -> int:
    """Steps to the next log, checkpoint or end, but no more than one dispatch takes."""
    cadences = (config.train.log_every_steps, config.train.checkpoint_every_steps)
    return min(most, last - step, *(every - step % every for every in cadences))


def _log(journal: Journal, spec: FleetSpec, phase: str, step: int, metrics: Metrics, count: int) -> str:
    """Write down the dispatch's last step; a note for the progress bar."""
    losses, accuracies = (np.asarray(rows)[count - 1] for rows in metrics)
    loss = dict(zip(spec.variants, losses.tolist(), strict=True))
    accuracy = dict(zip(spec.variants, accuracies.tolist(), strict=True))
    journal.metrics(phase, step, loss, accuracy, learning_rate=spec.learning_rate)
    return f"loss {losses.mean():.2f}, accuracy {100 * accuracies.mean():.0f} %"


def _require_finite(spec: FleetSpec, phase: str, unseen: list[tuple[int, int, Metrics]]) -> None:
    """Look at dispatches (steps before it, its steps, its metrics) and forget them.

    Raises Diverged for the first loss that is no number.
    """
    for before, count, metrics in unseen:
        rows, columns = np.nonzero(~np.isfinite(np.asarray(metrics.loss)[:count]))
        if len(rows):
            raise Diverged(
                f"{phase} step {before + rows[0] + 1}: the loss of {spec.variants[columns[0]]} is no number; the "
                "last checkpoint stands; a smaller --config.optimizer.learning_rate in a new --workdir may help"
            )
    unseen.clear()
