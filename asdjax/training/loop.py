"""The training loop: one phase of the runs of a program, from their newest checkpoints to the end."""

from collections.abc import Sequence
from contextlib import closing, nullcontext

import jax
from jax.sharding import Mesh

from asdjax.config.fields import Config
from asdjax.errors import Interrupted
from asdjax.runtime import hardware, processes
from asdjax.runtime.interrupts import GO_ON, GracefulShutdown
from asdjax.runtime.progress import log, progress
from asdjax.training import holdout, phase_runs
from asdjax.training.audio_feed import DeviceFeed, HostFeed, PaddedSizes, limit_steps
from asdjax.training.checkpoint_saver import CheckpointSaver
from asdjax.training.dispatches import advance, is_due, plan_dispatches
from asdjax.training.monitor import MetricMonitor, MonitorNote
from asdjax.training.phase_runs import PhaseRun
from asdjax.training.state import TrainSpec, TrainState, get_model, make_train_spec, select_run
from asdjax.training.step import compile_steps
from asdjax.training.timing import StepTimer
from asdjax.training.votes import StopVotes, Wishes
from asdjax.training.watchdog import Watchdog


def train_phase(
    config: Config,
    runs: Sequence[PhaseRun],
    variants_per_group: int,
    feed: DeviceFeed | HostFeed,
    mesh: Mesh,
    padded: PaddedSizes,
) -> None:
    """Train one phase of m runs, whose classes have the same layout of sections, in one program.

    Raises Interrupted after a signal, with everything saved, and Diverged if a loss or a gradient is not finite.
    """
    # 1. Resume from the newest checkpoints, or start.
    spec = _make_spec(config, runs, variants_per_group, feed)
    first, loaded = _load(config, spec, runs, mesh)
    sampling = phase_runs.make_sampling(spec, runs, padded)
    state, (table, keys) = hardware.replicate((loaded, sampling), mesh)
    run_steps, votes = compile_steps(spec, mesh), StopVotes(mesh)
    last = [run.phase.steps for run in runs]
    dispatches = list(plan_dispatches(config, first, last, spec.steps_per_dispatch))
    name = f"{'+'.join(run.run.name for run in runs)} {runs[0].phase.name}"
    if any(first):
        log(f"{name}: resuming at step {sum(first)} of {sum(last)}")
    with (
        closing(feed.audio(spec, *sampling, dispatches)) as audio,
        progress(name, sum(last), "step", sum(first)) as bar,
        StepTimer() as timer,
        Watchdog(name, 60 * config.parallel.patience_minutes) as watchdog,
        GracefulShutdown(alone=processes.count() == 1) as shutdown,
        CheckpointSaver(config, runs if processes.is_first() else ()) as saver,
    ):
        monitor = MetricMonitor(spec, runs, *sampling, timer)
        if dispatches:
            bar.set_status("first step, which may take minutes to compile")
        for dispatch in dispatches:
            # 2. Run the steps up to the next log or checkpoint in one dispatch.
            if monitor.wait():
                watchdog.beat()
            with timer.on("data"):
                crops = next(audio)
            args = phase_runs.make_dispatch_args(runs, dispatch, spec.steps_per_dispatch)
            state, metrics = run_steps(state, crops, table, keys, args)
            shutdown.begin()  # only now: a signal during compilation ends the process at once
            monitor.add(dispatch, metrics)
            # 3. Log, then save, so that every checkpoint's steps are in the log. Every loss is checked first. The state
            # is copied to the host now, and written while the next steps are computed.
            now = advance(dispatch, last)
            moved = [i for i in range(len(runs)) if now[i] > dispatch.first[i]]
            note = _log_due(config, monitor, moved, now, last)
            bar.update(sum(now) - sum(dispatch.first), note.note, note.details)
            wishes = votes.cast(Wishes(shutdown.stop_requested, processes.is_first() and saver.is_due()), metrics.loss)
            regular = [i for i in moved if is_due(now[i], config.train.checkpoint_every_steps, last[i])]
            saved = moved if wishes.stop or wishes.save else regular
            if not saved:
                continue
            monitor.require_finite()
            with timer.on("checkpoint"):
                on_host = jax.device_get(state) if processes.is_first() else None
                saver.start({i: select_run(on_host, i) for i in saved} if on_host else {}, now)
            # 4. Stop after a signal once everything is saved; it may have arrived after `saved` was computed. A resumed
            # run logs the missing held-out loss.
            if wishes.stop or (saved == moved and shutdown.stop_requested and processes.count() == 1):
                saver.wait()
                processes.gather("the last save")
                raise Interrupted(f"{name}: stopped at step {max(now)} of {max(last)}; all is saved; {GO_ON}")
            if on_host and (held_out := [i for i in regular if runs[i].held_out.samples]):
                with timer.on("checkpoint"):
                    saver.wait()
                with (
                    timer.on("holdout"),
                    watchdog.suspended(),
                    shutdown.saved() if saved == moved else nullcontext(),
                ):
                    for i in held_out:
                        _log_held_out(spec, runs[i], now[i], select_run(on_host, i), mesh)
            with watchdog.suspended():
                processes.gather("saving")  # the next step would not wait long for the process that saves


def _make_spec(
    config: Config, runs: Sequence[PhaseRun], variants_per_group: int, feed: DeviceFeed | HostFeed
) -> TrainSpec:
    """Return the spec of a program; with crops from the host it has fewer steps per dispatch."""
    spec = make_train_spec(config, len(runs[0].run.task.classes), runs[0].phase.trainable, variants_per_group)
    return limit_steps(spec, len(runs)) if isinstance(feed, HostFeed) else spec


def _load(config: Config, spec: TrainSpec, runs: Sequence[PhaseRun], mesh: Mesh) -> tuple[tuple[int, ...], TrainState]:
    """Return each run's step and the states on the host; log held-out losses that are missing because of a kill."""
    first, loaded = phase_runs.load_states(spec, runs)
    for i, (run, step) in enumerate(zip(runs, first, strict=True)):
        # no held-out loss at a step that only a signal saved: a run without the signal has none there either
        regular = is_due(step, config.train.checkpoint_every_steps, run.phase.steps)
        missing = processes.is_first() and regular and phase_runs.lacks_holdout(run, step)
        if step < run.phase.steps or missing:
            run.log.begin(run.phase.name, step)
        if missing:
            _log_held_out(spec, run, step, select_run(loaded, i), mesh)
    return first, loaded


def _log_due(
    config: Config, monitor: MetricMonitor, moved: Sequence[int], now: Sequence[int], last: Sequence[int]
) -> MonitorNote:
    """Log the newest metrics of the runs that are due."""
    due = [i for i in moved if is_due(now[i], config.train.log_every_steps, last[i])]
    if not due:
        return MonitorNote("", ())
    monitor.require_finite()
    return monitor.log(due, now)


def _log_held_out(spec: TrainSpec, run: PhaseRun, step: int, state: TrainState, mesh: Mesh) -> None:
    """Log the loss and accuracy of the held-out clips, if a run has any."""
    if run.held_out.samples:
        scored = holdout.score_held_out(spec, get_model(state), *run.held_out, device=hardware.get_own_device(mesh))
        run.log.holdout(run.phase.name, step, *scored)
