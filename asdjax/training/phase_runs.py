"""PhaseRun: one run in one phase, with its folder, training clips, held-out clips and metric log.

Here are its start or resume, its end, its checkpoints, and the arrays that a program of m of them takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asdjax.data.tasks import Task
from asdjax.errors import InputError
from asdjax.fleet import checkpoints, fleet_model, training_set
from asdjax.fleet.checkpoints import Damaged, Origin, Start
from asdjax.fleet.metric_log import MetricLog
from asdjax.fleet.runs import Run
from asdjax.runtime import processes
from asdjax.training import sampler, state
from asdjax.training.audio_feed import PaddedSizes
from asdjax.training.dispatches import Dispatch
from asdjax.training.phases import Phase
from asdjax.training.sampler import SamplingTable
from asdjax.training.state import TrainSpec, TrainState
from asdjax.training.step import DispatchArgs


class TrainingClips(NamedTuple):
    """Clips of a task with their classes, and their samples int16 (s,) in the same order."""

    task: Task
    samples: Sequence[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class PhaseRun:
    """One run in one phase: its training clips, its held-out clips and its metric log."""

    run: Run
    phase: Phase
    trained: TrainingClips
    held_out: TrainingClips
    log: MetricLog


def load_states(spec: TrainSpec, phase_runs: Sequence[PhaseRun]) -> tuple[tuple[int, ...], TrainState]:
    """Return the step (m,) and the state of m runs, on the host.

    A run resumes from its newest intact checkpoint. Without one it starts from scratch, or from the end of phase 1.
    """
    loaded = [_resume(spec, run) or (0, _start(spec, run)) for run in phase_runs]
    return tuple(step for step, _ in loaded), state.stack_states([state for _, state in loaded])


def _start(spec: TrainSpec, run: PhaseRun) -> TrainState:
    after = run.phase.after
    if after is None:
        return state.init_state(spec, fleet_model.init_model(spec.model, run.run.seed, run.run.task.name))
    shapes = {"model": fleet_model.describe_model(spec.model)}
    return state.init_state(spec, checkpoints.restore(run.run.folder / after.name, after.steps, shapes)["model"])


def _resume(spec: TrainSpec, run: PhaseRun) -> tuple[int, TrainState] | None:
    like = state.describe_state(spec)
    model: checkpoints.Trees = {"model": state.get_model(like)}
    both: checkpoints.Trees = {**model, **state.list_unfinished(like)}
    line = run.run.folder / run.phase.name
    step = processes.decide("checkpoints", lambda: checkpoints.set_aside_damaged(line))
    if step is None:
        return None
    try:
        trees = checkpoints.restore_verified(line, step, model if step == run.phase.steps else both)
    except Damaged as damage:
        raise InputError(f"{damage}; train in another work directory") from None
    checkpoints.require_same_start(line, step)
    resumed = state.init_state(spec, trees["model"])
    return step, state.resume(resumed, trees)


def is_finished(run: PhaseRun) -> bool:
    """Return whether the last step is saved, intact and logged. A damaged last step is set aside.

    Raises InputError if it began from another phase 1 than the present one.
    """
    line, last = run.run.folder / run.phase.name, run.phase.steps
    if last not in checkpoints.list_steps(line) or checkpoints.set_aside_damaged(line) != last:
        return False
    checkpoints.require_same_start(line, last)
    return not lacks_holdout(run, last)


def lacks_holdout(run: PhaseRun, step: int) -> bool:
    """Return whether the metric log lacks the held-out loss of a saved step, as after a kill between the two."""
    return bool(run.held_out.samples) and step > 0 and not run.log.has_holdout(run.phase.name, step)


def make_origin(run: PhaseRun) -> Origin:
    """Return the digest of a run's training set, and the checkpoint it starts from (None: from scratch)."""
    clips, after = training_set.digest_manifest(run.run.folder), run.phase.after
    if after is None:
        return Origin(clips, None)
    try:
        digest = checkpoints.read_digest(run.run.folder / after.name, after.steps)
    except Damaged as damage:
        raise InputError(f"{damage}; run asdjax train again") from None
    return Origin(clips, Start(after.name, after.steps, digest))


def save(run: PhaseRun, step: int, saved: TrainState, keep: int, origin: Origin) -> None:
    """Save one run's state, given on the host; at the phase's end the model alone, as nothing else goes on from it."""
    trees: dict[str, Any] = {"model": state.get_model(saved)}
    if step < run.phase.steps:
        trees |= state.list_unfinished(saved)
    checkpoints.save(run.run.folder / run.phase.name, step, trees, keep, origin)


def make_sampling(
    spec: TrainSpec, phase_runs: Sequence[PhaseRun], padded: PaddedSizes
) -> tuple[SamplingTable, jax.Array]:
    """Return the sampling tables of m runs as one, and the random keys (m, v)."""
    table = sampler.stack_tables([run.phase.table for run in phase_runs], padded.task_clips, padded.program_clips)
    keys = [sampler.make_keys(run.run.seed, run.run.task.name, spec.variants, run.phase.name) for run in phase_runs]
    return table, jnp.stack(keys)


def make_dispatch_args(phase_runs: Sequence[PhaseRun], dispatch: Dispatch, size: int) -> DispatchArgs:
    """Return the arguments of one dispatch: step range, last step and learning rates (m, size) of each run."""
    rates = np.zeros((len(phase_runs), size), np.float32)
    for row, run, first in zip(rates, phase_runs, dispatch.first, strict=True):
        of_run = run.phase.rates[first : first + dispatch.steps]
        row[: len(of_run)] = of_run
    last = [run.phase.steps for run in phase_runs]
    steps, first, ends = (np.asarray(numbers, np.int32) for numbers in (dispatch.steps, dispatch.first, last))
    return DispatchArgs(steps, first, ends, rates)
