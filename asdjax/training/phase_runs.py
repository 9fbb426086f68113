"""The tasks of a stack in one phase: where each begins, what it draws, how it is saved."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asdjax.data.tasks import Task
from asdjax.errors import InputError
from asdjax.fleet import checkpoints, fleet_model, training_set
from asdjax.fleet.checkpoints import Damaged, Origin, Start
from asdjax.fleet.fleet_model import FleetSpec, FleetState
from asdjax.fleet.metric_log import MetricLog
from asdjax.fleet.runs import Run
from asdjax.training import sampler
from asdjax.training.audio_feed import Dispatch, PaddedSizes
from asdjax.training.phases import Phase
from asdjax.training.sampler import SamplingTable
from asdjax.training.step import DispatchArgs


class TrainingClips(NamedTuple):
    """Clips of a task, with their classes, and their samples int16 (s,) in the same order."""

    task: Task
    samples: Sequence[np.ndarray]


class PhaseRun(NamedTuple):
    """One task of a stack in a phase: where it lies, what it trains on, what it never does, where it is told."""

    run: Run
    phase: Phase
    trained: TrainingClips
    held: TrainingClips
    journal: MetricLog


def begin(spec: FleetSpec, lanes: Sequence[PhaseRun]) -> tuple[tuple[int, ...], FleetState]:
    """The step that each lane is at, and their states stacked, on the host.

    A lane goes on from its newest whole checkpoint; without any it begins from scratch, or from the end of phase 1.
    """
    begun = [_resumed(spec, lane) or (0, _fresh(spec, lane)) for lane in lanes]
    return tuple(step for step, _ in begun), fleet_model.stack_states([state for _, state in begun])


def _fresh(spec: FleetSpec, lane: PhaseRun) -> FleetState:
    after = lane.phase.after
    if after is None:
        return fleet_model.init_state(spec, fleet_model.initial_model(spec, lane.run.seed, lane.run.task.name))
    shapes = {"model": fleet_model.abstract_model(spec)}
    return fleet_model.init_state(spec, checkpoints.restore(lane.run.folder / after.name, after.steps, shapes)["model"])


def _resumed(spec: FleetSpec, lane: PhaseRun) -> tuple[int, FleetState] | None:
    like = fleet_model.abstract_state(spec)
    shapes = {"model": fleet_model.get_model(like), "optimizer": like.velocity}
    line = lane.run.folder / lane.phase.name
    found = checkpoints.restore_newest(line, shapes)
    if found is None:
        return None
    step, trees = found
    checkpoints.require_same_start(line, step)
    return step, fleet_model.init_state(spec, trees["model"])._replace(velocity=trees["optimizer"])


def finished(lane: PhaseRun) -> bool:
    """Return whether the last step is there, whole and logged; a damaged one is set aside.

    Raises InputError where it began from another phase 1 than the one there now.
    """
    line, last = lane.run.folder / lane.phase.name, lane.phase.steps
    if last not in checkpoints.steps(line) or checkpoints.newest_whole(line) != last:
        return False
    checkpoints.require_same_start(line, last)
    return not owes(lane, last)


def owes(lane: PhaseRun, step: int) -> bool:
    """Whether the journal lacks what the held-out clips say of a saved step: the run was ended in between."""
    return bool(lane.held.samples) and step > 0 and not lane.journal.has_holdout(lane.phase.name, step)


def origin_of(lane: PhaseRun) -> Origin:
    """Return what a lane is trained on, by the task.json beside it, and began from: the end of phase 1, or scratch."""
    clips, after = training_set.digest_manifest(lane.run.folder), lane.phase.after
    if after is None:
        return Origin(clips, None)
    try:
        digest = checkpoints.read_digest(lane.run.folder / after.name, after.steps)
    except Damaged as damage:
        raise InputError(f"{damage}; run asdjax train again") from None
    return Origin(clips, Start(after.name, after.steps, digest))


def save(lane: PhaseRun, step: int, state: FleetState, keep: int, origin: Origin) -> None:
    """Save one lane's state, on the host, with its origin, and before it the log of its steps."""
    lane.journal.flush()
    trees = {"model": fleet_model.get_model(state), "optimizer": state.velocity}
    checkpoints.save(lane.run.folder / lane.phase.name, step, trees, keep, origin)


def draws_of(spec: FleetSpec, lanes: Sequence[PhaseRun], room: PaddedSizes) -> tuple[SamplingTable, jax.Array]:
    """What each lane draws from, and its random streams (m, v)."""
    plan = sampler.stack_tables([lane.phase.plan for lane in lanes], room.task_clips, room.stack_clips)
    streams = [sampler.make_keys(lane.run.seed, lane.run.task.name, spec.variants, lane.phase.name) for lane in lanes]
    return plan, jnp.stack(streams)


def turn_of(lanes: Sequence[PhaseRun], dispatch: Dispatch, size: int) -> DispatchArgs:
    """What a dispatch is told: its steps, where each lane ends, its learning rates (m, size)."""
    rates = np.zeros((len(lanes), size), np.float32)
    for row, lane, first in zip(rates, lanes, dispatch.first, strict=True):
        of_lane = lane.phase.rates[first : first + dispatch.steps]
        row[: len(of_lane)] = of_lane
    last = [lane.phase.steps for lane in lanes]
    steps, first, ends = (jnp.asarray(numbers, jnp.int32) for numbers in (dispatch.steps, dispatch.first, last))
    return DispatchArgs(steps, first, ends, jnp.asarray(rates))
