"""The loop: one phase of one task, or of several stacked, from where it was left to its end."""

from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext

import jax
import numpy as np
from jax.sharding import Mesh

from asdjax.config.fields import Config
from asdjax.errors import Stopped
from asdjax.fleet import fleet_model
from asdjax.fleet.fleet_model import FleetSpec, FleetState
from asdjax.runtime import hardware
from asdjax.runtime.interrupts import GO_ON, GracefulShutdown
from asdjax.runtime.progress import log, progress
from asdjax.training import holdout, phase_runs
from asdjax.training import step as train_step
from asdjax.training.audio_feed import DeviceFeed, Dispatch, HostFeed, PaddedSizes, steps_at_once
from asdjax.training.monitor import MetricMonitor, MonitorNote
from asdjax.training.phase_runs import PhaseRun
from asdjax.training.timing import StepTimer


def train_phase(
    config: Config, stack: Sequence[PhaseRun], feed: DeviceFeed | HostFeed, mesh: Mesh, room: PaddedSizes
) -> None:
    """Train a phase of as many tasks of equal class counts as there are lanes, in one program.

    Raises Stopped after a signal with everything saved, Diverged where a loss or a gradient is not finite.
    """
    last = [lane.phase.steps for lane in stack]
    spec = _spec_of(config, stack, feed)
    # 1. Go on from the newest checkpoint, or begin.
    first, begun = _begin(config, spec, stack, mesh)
    origins = [phase_runs.origin_of(lane) for lane in stack]
    state, (plan, keys) = hardware.replicated((begun, phase_runs.draws_of(spec, stack, room)), mesh)
    program = train_step.compiled_steps(spec, mesh)
    dispatches = list(dispatches_of(config, first, last, spec.steps_per_dispatch))
    name = f"{'+'.join(lane.run.name for lane in stack)} {stack[0].phase.name}"
    if any(first):
        log(f"{name}: going on from step {sum(first)} of {sum(last)}")
    with (
        closing(feed.audio(spec, plan, keys, dispatches)) as audio,
        progress(name, sum(last), "step", sum(first)) as shown,
        StepTimer() as clock,
        GracefulShutdown() as stop,
    ):
        watch = MetricMonitor(spec, stack, plan, keys, clock)
        if dispatches:
            shown.set_status("first step, which may take minutes to compile")
        for dispatch in dispatches:
            # 2. One dispatch: as many steps as lie before the next log or checkpoint.
            watch.wait()
            with clock.on("data"):
                crops = next(audio)
            state, metrics = program(
                state, crops, plan, keys, phase_runs.turn_of(stack, dispatch, spec.steps_per_dispatch)
            )
            stop.begin()  # not earlier: nobody should wait for a compilation to end before the run does
            watch.add(dispatch, metrics)
            now = _after(dispatch, last)
            moved = [i for i in range(len(stack)) if now[i] > dispatch.first[i]]
            # 3. Log, then save: what a checkpoint has behind it is in the log, once. Every loss is looked at before
            #    that, so that no step that went wrong is saved.
            told = _logged(config, watch, moved, now, last)
            shown.update(sum(now) - sum(dispatch.first), told.note, told.details)
            stopping = stop.stop_requested
            saved = [i for i in moved if stopping or due(now[i], config.train.checkpoint_every_steps, last[i])]
            if not saved:
                continue
            watch.require_finite()
            with clock.on("checkpoint"):
                on_host = jax.device_get(state)
                for i in saved:
                    phase_runs.save(stack[i], now[i], _of_lane(on_host, i), config.train.keep, origins[i])
            # 4. Stop where all is saved, else see what the held-out clips say: that can be told later too.
            if saved == moved and stop.stop_requested:
                raise Stopped(f"{name}: stopped at step {max(now)} of {max(last)}; all is saved; {GO_ON}")
            with clock.on("holdout"), stop.saved() if saved == moved else nullcontext():
                for i in saved:
                    _tell_held_out(spec, stack[i], now[i], _of_lane(on_host, i), mesh)


def _spec_of(config: Config, stack: Sequence[PhaseRun], feed: DeviceFeed | HostFeed) -> FleetSpec:
    """What the stack's program is made to: of fewer steps where the host cuts their crops."""
    spec = fleet_model.make_spec(config, len(stack[0].run.task.classes), stack[0].phase.trainable)
    if isinstance(feed, HostFeed):
        return spec._replace(steps_per_dispatch=steps_at_once(spec, len(stack)))
    return spec


def _begin(
    config: Config, spec: FleetSpec, stack: Sequence[PhaseRun], mesh: Mesh
) -> tuple[tuple[int, ...], FleetState]:
    """The step that each lane is at, and their states stacked, on the host; what a journal lacks of it is told."""
    first, begun = phase_runs.begin(spec, stack)
    for place, (lane, step) in enumerate(zip(stack, first, strict=True)):
        owed = due(step, config.train.checkpoint_every_steps, lane.phase.steps) and phase_runs.owes(lane, step)
        if step < lane.phase.steps or owed:
            lane.journal.begin(lane.phase.name, step)
        if owed:  # not at a step saved by a stop alone, of which a run without a stop would not tell
            _tell_held_out(spec, lane, step, _of_lane(begun, place), mesh)
    return first, begun


def _logged(
    config: Config, watch: MetricMonitor, moved: Sequence[int], now: Sequence[int], last: Sequence[int]
) -> MonitorNote:
    """Write down the lanes whose log is due."""
    logged = [i for i in moved if due(now[i], config.train.log_every_steps, last[i])]
    if not logged:
        return MonitorNote("", ())
    watch.require_finite()
    return watch.log(logged, now)


def _of_lane(stacked: FleetState, place: int) -> FleetState:
    """One lane's state out of a stack's, on the host."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[place]), stacked)


def _tell_held_out(spec: FleetSpec, lane: PhaseRun, step: int, state: FleetState, mesh: Mesh) -> None:
    """What the clips that a lane never trains on say of its state, where it has any."""
    if lane.held.samples:
        judged = holdout.score_held_out(spec, fleet_model.get_model(state), *lane.held, device=mesh.devices.flat[0])
        lane.journal.holdout(lane.phase.name, step, *judged)


def dispatches_of(config: Config, first: Sequence[int], last: Sequence[int], most: int) -> Iterator[Dispatch]:
    """Dispatches to the end of every lane: each to the next log, checkpoint or end of any lane that still moves, but of
    no more than `most` steps."""
    cadences = (config.train.log_every_steps, config.train.checkpoint_every_steps)
    now = tuple(first)
    while moving := [(step, end) for step, end in zip(now, last, strict=True) if step < end]:
        due_in = [min(end - step, *(every - step % every for every in cadences)) for step, end in moving]
        dispatch = Dispatch(now, min(most, *due_in))
        yield dispatch
        now = _after(dispatch, last)


def _after(dispatch: Dispatch, last: Sequence[int]) -> tuple[int, ...]:
    """Where a dispatch leaves each lane: one that is done stays."""
    return tuple(min(first + dispatch.steps, end) for first, end in zip(dispatch.first, last, strict=True))


def due(step: int, every: int, last: int) -> bool:
    """Whether something done every so many steps is done once `step` are over; always at the last."""
    return step % every == 0 or step == last
