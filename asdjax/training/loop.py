"""The loop: one phase of one task, or of several stacked, from where it was left to its end."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import jax
import numpy as np
from jax.sharding import Mesh

from asdjax import parallel
from asdjax.config import Config
from asdjax.errors import Stopped
from asdjax.progress import progress
from asdjax.stops import Deferral
from asdjax.training import fleet, holdout, lanes
from asdjax.training.clock import Clock
from asdjax.training.feed import DeviceFeed, Dispatch, HostFeed, steps_at_once
from asdjax.training.fleet import FleetSpec, FleetState
from asdjax.training.lanes import Lane
from asdjax.training.watch import Watch


def train_phase(config: Config, stack: Sequence[Lane], feed: DeviceFeed | HostFeed, mesh: Mesh) -> None:
    """Train a phase of as many tasks of equal class counts as there are lanes, in one program.

    Raises Stopped after a signal with everything saved, Diverged where a loss or a gradient is not finite.
    """
    phase, last = stack[0].phase, [lane.phase.steps for lane in stack]
    spec = fleet.spec_of(config, len(stack[0].run.task.classes), phase.trainable)
    if isinstance(feed, HostFeed):
        spec = spec._replace(steps_per_dispatch=steps_at_once(spec, len(stack)))
    # 1. Go on from the newest checkpoint, or begin.
    first, begun = lanes.begin(spec, stack)
    for lane, step in zip(stack, first, strict=True):
        if step < lane.phase.steps:
            lane.journal.begin(phase.name, step)
    state, (plan, keys) = parallel.replicated((begun, lanes.draws_of(spec, stack)), mesh)
    program = fleet.compiled_steps(spec, mesh)
    dispatches = list(dispatches_of(config, first, last, spec.steps_per_dispatch))
    name = f"{'+'.join(lane.run.name for lane in stack)} {phase.name}"
    with (
        closing(feed.audio(spec, plan, keys, dispatches)) as audio,
        progress(name, sum(last), "step", sum(first)) as shown,
        Clock() as clock,
        Deferral() as stop,
    ):
        watch = Watch(spec, stack, plan, keys, clock)
        shown.mention("first step, which may take minutes to compile")
        for dispatch in dispatches:
            # 2. One dispatch: as many steps as lie before the next log or checkpoint.
            with clock.on("data"):
                crops = next(audio)
            watch.wait()
            turn = lanes.turn_of(stack, dispatch, spec.steps_per_dispatch)
            state, metrics = program(state, crops, plan, keys, turn)
            stop.begin()  # not earlier: nobody should wait for a compilation to end before the run does
            watch.add(dispatch, metrics)
            now = _after(dispatch, last)
            moved = [i for i in range(len(stack)) if now[i] > dispatch.first[i]]
            # 3. Log, then save, then stop: what a checkpoint has behind it is in the log, once. Every loss is looked
            #    at before that, so that no step that went wrong is saved.
            note, details = "", []
            logged = [i for i in moved if due(now[i], config.train.log_every_steps, last[i])]
            if logged:
                watch.require_finite()
                note, *details = watch.log(logged, now)
            stopping = stop.asked  # asked once: a signal from here on is for the next dispatch
            saved = [i for i in moved if stopping or due(now[i], config.train.checkpoint_every_steps, last[i])]
            if saved:
                watch.require_finite()
                _save(config, spec, [(stack[i], now[i], i) for i in saved], state, clock, stopping)
            shown.advance(sum(now) - sum(dispatch.first), note, details)
            if stopping:
                raise Stopped(f"{name}: stopped at step {max(now)} of {max(last)}; all is saved")


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


def _save(
    config: Config,
    spec: FleetSpec,
    saved: Sequence[tuple[Lane, int, int]],
    state: FleetState,
    clock: Clock,
    stopping: bool,
) -> None:
    """Save lanes at their steps, by their places in the stack; see before that, but not where somebody waits for the
    end, what their held-out clips say."""
    with clock.on("checkpoint"):
        on_host = jax.device_get(state)
    for lane, step, place in saved:
        of_lane = jax.tree.map(lambda leaf, place=place: np.asarray(leaf[place]), on_host)
        if lane.held.samples and not stopping:
            with clock.on("holdout"):
                judged = holdout.judge(spec, fleet.model_of(of_lane), *lane.held)
            lane.journal.holdout(lane.phase.name, step, *judged)
        with clock.on("checkpoint"):
            lanes.save(lane, step, of_lane, config.train.keep)
