"""Selection of the checkpoints of a run that an evaluation uses."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from asdjax.config.fields import PHASE1, Config, list_evaluated_lines
from asdjax.errors import InputError
from asdjax.fleet import checkpoints
from asdjax.fleet.runs import Run, list_lines
from asdjax.fleet.training_set import list_saved_lines
from asdjax.runtime.progress import log


class PlannedCheckpoint(NamedTuple):
    """The last step of a checkpoint line that training will save; `suffix` ends the names of its models."""

    suffix: str
    line: str
    step: int


class SelectedCheckpoint(NamedTuple):
    """A saved step of a checkpoint line.

    `suffix` ends the names of its models. `digest` identifies its model; it is empty if the record cannot be read.
    """

    suffix: str
    line: str
    step: int
    digest: str


#: The selected checkpoints by run. A run that is not a key is not evaluated.
Selection = Mapping[str, Sequence[SelectedCheckpoint]]

Select = Callable[[Config, Sequence[Run]], Selection]


def select_trained(config: Config, runs: Sequence[Run], step: int | None = None) -> Selection:
    """Select the newest checkpoint, or that of `step`, of each configured line; of phase 1 for a run without phase 2.

    A run without models has none.

    Raises InputError if a checkpoint is missing or damaged, and if no run has any of the configured lines.
    """
    require_lines(config, runs)
    if step is not None and not any(run.task.has_models for run in runs):
        raise InputError(f"step {step}: expected no step, as there are no models; leave it out")
    return {
        run.name: [
            _read_checkpoint(run, suffix, line, _select_step(run, line, planned, step))
            for suffix, line, planned in _plan_logged(config, run)
        ]
        for run in runs
    }


def require_lines(config: Config, runs: Sequence[Run]) -> None:
    """Raise InputError if `config.evaluate.lines` names lines and no run with models has any of them."""
    known = {line for run in runs for line in list_lines(config, run.task)}
    if config.evaluate.lines and known and known.isdisjoint(config.evaluate.lines):
        raise InputError(
            f"config.evaluate.lines: expected any of {', '.join(sorted(known))}, got "
            f"{', '.join(config.evaluate.lines)}, which no fleet has (no section has target clips for phase 2); "
            "name some of those"
        )


def select_newest(config: Config, runs: Sequence[Run]) -> Selection:
    """Select the newest checkpoints of a training in progress.

    While a seed of a task lacks any of the configured lines, phase 1 is selected for all seeds of the task. A task is
    left out while a seed has no checkpoint of phase 1, and a task without models while all others are left out.
    """
    selection: dict[str, list[SelectedCheckpoint]] = {}
    for task in {run.task.name: run.task for run in runs}:
        task_runs = [run for run in runs if run.task.name == task]
        planned = {run.name: _plan(config, run) for run in task_runs}
        for lines in (planned, {run.name: [PlannedCheckpoint("", PHASE1, 0)] for run in task_runs}):
            saved = {
                run.name: [
                    _read_checkpoint(run, suffix, line, steps[-1])
                    for suffix, line, _ in lines[run.name]
                    if (steps := checkpoints.list_steps(run.folder / line))
                ]
                for run in task_runs
            }
            if all(len(saved[name]) == len(lines[name]) for name in saved):
                selection |= saved
                break
    with_models = [run.name for run in runs if run.task.has_models]
    return selection if not with_models or any(name in selection for name in with_models) else {}


def is_complete(config: Config, runs: Sequence[Run], selection: Selection) -> bool:
    """Return True if the selection has the last checkpoints that training will save of the configured lines."""
    return all(
        [PlannedCheckpoint(one.suffix, one.line, one.step) for one in selection.get(run.name, ())] == _plan(config, run)
        for run in runs
    )


def _read_checkpoint(run: Run, suffix: str, line: str, step: int) -> SelectedCheckpoint:
    digest = ""
    with contextlib.suppress(checkpoints.Damaged):  # reported when it is loaded
        digest = checkpoints.read_digest(run.folder / line, step)
    return SelectedCheckpoint(suffix, line, step, digest)


def _plan_logged(config: Config, run: Run) -> list[PlannedCheckpoint]:
    """Return `_plan`, and log if the run has no phase 2 and thus not all configured lines."""
    lines = _plan(config, run)
    if run.task.has_models and [line for _, line, _ in lines] != list(list_evaluated_lines(config)):
        log(f"{run.name}: has no phase 2, evaluating phase 1 alone")
    return lines


def _plan(config: Config, run: Run) -> list[PlannedCheckpoint]:
    """Return the last checkpoints of the configured lines, or of phase 1 if the run lacks any of these lines."""
    if not run.task.has_models:
        return []
    configured, planned = list_evaluated_lines(config), list_lines(config, run.task)
    lines = list(configured) if set(configured) <= planned.keys() else [PHASE1]
    plain = lines[0] if configured[0] not in lines and PHASE1 not in configured else configured[0]
    return [PlannedCheckpoint("" if line == plain else f"@{line}", line, planned[line]) for line in lines]


def _select_step(run: Run, line: str, planned: int, step: int | None) -> int:
    """Return the step of a line to evaluate, and log if training has not reached its end."""
    saved = checkpoints.list_steps(run.folder / line)
    if not saved:
        begun = list_saved_lines(run)
        go_on = "run asdjax train again, which goes on" if begun else "run asdjax train first"
        raise InputError(f"{run.folder}: expected checkpoints of {line}, got none; {go_on}")
    if step is not None and step not in saved:
        raise InputError(f"step {step}: expected one of {', '.join(map(str, saved))}, the steps in {run.folder / line}")
    if step is None and saved[-1] < planned:
        log(f"{run.name} {line}: evaluated at step {saved[-1]} of {planned}, where its training was stopped")
    selected = saved[-1] if step is None else step
    try:
        checkpoints.verify(run.folder / line, selected)
    except checkpoints.Damaged as damage:
        is_newest = selected == saved[-1]
        remedy = checkpoints.name_repair(run.folder / line) if is_newest else "give another step"
        raise InputError(f"{damage}; {remedy}") from None
    return selected
