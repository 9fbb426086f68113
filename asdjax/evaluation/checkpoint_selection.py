"""Which checkpoints of a run make its models."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asdjax.config.fields import Config, list_evaluated_lines
from asdjax.errors import InputError
from asdjax.fleet import checkpoints
from asdjax.fleet.runs import PHASE1, Run, list_lines
from asdjax.runtime.progress import log


class Planned(NamedTuple):
    """One line of a run: the suffix that its models' names have, its name, and the last step that training makes."""

    suffix: str
    line: str
    step: int


class SelectedCheckpoint(NamedTuple):
    """One saved step of a run: the suffix that its models' names have, its line, its step, and the digest of its model
    (see `checkpoints.digest_of`), empty where its record cannot be read."""

    suffix: str
    line: str
    step: int
    digest: str


Chosen = Mapping[str, Sequence[SelectedCheckpoint]]
"""By run; what is not among them is not judged."""

Choose = Callable[[Config, Sequence[Run]], Chosen]


def trained(config: Config, runs: Sequence[Run], step: int | None = None) -> Chosen:
    """Of every run the newest checkpoints, or those of a step, of the lines asked for; of phase 1 where a run has no
    phase 2.

    Raises InputError where one is missing or damaged, and where no run has any of the lines asked for.
    """
    require_lines(config, runs)
    return {
        run.name: [
            _checkpoint(run, suffix, line, _step(run, line, planned, step))
            for suffix, line, planned in _asked(config, run)
        ]
        for run in runs
    }


def require_lines(config: Config, runs: Sequence[Run]) -> None:
    """Raise InputError where no run has any of the lines asked for by name."""
    there = {line for run in runs for line in list_lines(config, run.task)}
    if config.evaluate.lines and there.isdisjoint(config.evaluate.lines):
        raise InputError(
            f"config.evaluate.lines: expected any of {', '.join(sorted(there))}, got "
            f"{', '.join(config.evaluate.lines)}, which no fleet has (no section has target clips for phase 2); "
            "name some of those"
        )


def newest(config: Config, runs: Sequence[Run]) -> Chosen:
    """What there is of a training that goes on: of each task the newest checkpoints of the lines asked for or, as long
    as one of its seeds lacks any of them, of phase 1; nothing of a task that has not come so far."""
    chosen: dict[str, list[SelectedCheckpoint]] = {}
    for task in {run.task.name: run.task for run in runs}:
        of_task = [run for run in runs if run.task.name == task]
        asked = {run.name: _planned(config, run) for run in of_task}
        for lines in (asked, {run.name: [Planned("", PHASE1, 0)] for run in of_task}):
            saved = {
                run.name: [
                    _checkpoint(run, suffix, line, steps[-1])
                    for suffix, line, _ in lines[run.name]
                    if (steps := checkpoints.steps(run.folder / line))
                ]
                for run in of_task
            }
            if all(len(saved[name]) == len(lines[name]) for name in saved):
                chosen |= saved
                break
    return chosen


def is_complete(config: Config, runs: Sequence[Run], chosen: Chosen) -> bool:
    """Whether these are the last checkpoints that the training will make of the lines asked for."""
    return all(
        [Planned(one.suffix, one.line, one.step) for one in chosen.get(run.name, ())] == _planned(config, run)
        for run in runs
    )


def _checkpoint(run: Run, suffix: str, line: str, step: int) -> SelectedCheckpoint:
    digest = ""
    with contextlib.suppress(checkpoints.Damaged):  # said where it is loaded
        digest = checkpoints.read_digest(run.folder / line, step)
    return SelectedCheckpoint(suffix, line, step, digest)


def _asked(config: Config, run: Run) -> list[Planned]:
    """As `_planned`; says so where a run has not all lines asked for, as it has no phase 2."""
    lines = _planned(config, run)
    if [line for _, line, _ in lines] != list(list_evaluated_lines(config)):
        log(f"{run.name}: has no phase 2, evaluating phase 1 alone")
    return lines


def _planned(config: Config, run: Run) -> list[Planned]:
    """The last checkpoints of the lines asked for, or of phase 1 where a run has not all of them: there or not."""
    asked, planned = list_evaluated_lines(config), list_lines(config, run.task)
    lines = list(asked) if set(asked) <= planned.keys() else [PHASE1]
    plain = lines[0] if asked[0] not in lines and PHASE1 not in asked else asked[0]
    return [Planned("" if line == plain else f"@{line}", line, planned[line]) for line in lines]


def _step(run: Run, line: str, planned: int, step: int | None) -> int:
    """The step of a line to judge; says so where training has not come to its end."""
    saved = checkpoints.steps(run.folder / line)
    if not saved:
        raise InputError(f"{run.folder}: expected checkpoints of {line}, none there; run asdjax train first")
    if step is not None and step not in saved:
        raise InputError(f"--step {step}: {run.folder / line} holds {', '.join(map(str, saved))}")
    if step is None and saved[-1] < planned:
        log(f"{run.name} {line}: judged at step {saved[-1]} of {planned}, where its training was ended")
    chosen = saved[-1] if step is None else step
    try:
        checkpoints.verify(run.folder / line, chosen)
    except checkpoints.Damaged as damage:
        raise InputError(f"{damage}; {_remedy(run.folder / line, saved, chosen)}") from None
    return chosen


def _remedy(line: Path, saved: Sequence[int], damaged: int) -> str:
    """What to do about a step that cannot be read: training goes on from the newest whole one."""
    if damaged != saved[-1]:
        return "give another --step"
    first = "" if len(saved) > 1 else f"remove {line} and "
    return f"{first}run asdjax train again"
