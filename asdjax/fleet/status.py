"""The status of every run of a work directory, from its files alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time
from typing import Any, Literal

from asdjax.config import loading
from asdjax.errors import InputError
from asdjax.fleet import checkpoints, metric_log, run_list, training_set
from asdjax.runtime.files import is_locked
from asdjax.runtime.text_table import format_fields, format_table

State = Literal["done", "running", "failed", "stopped", "waiting"]
STATES: tuple[State, ...] = ("running", "failed", "stopped", "waiting", "done")

#: Runs that the text lists of each state, at most. The JSON has all.
MOST_LISTED = 20

# on a disk that cannot lock, a run is taken to be running until its newest row is older than this number of intervals
# between two rows
_INTERVALS = 3


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The status of a run.

    steps, of: steps trained of the steps of all phases; None before the run was started. seconds_left: by the time of
    the newest steps, None if it is not running. where: host and batch job, as far as they are known. why: the error of
    a failed run.
    """

    run: str
    state: State
    phase: str
    steps: int | None
    of: int | None
    seconds_left: float | None
    where: str
    why: str


def read_status(workdir: Path) -> list[RunStatus]:
    """Read the status of each run of a work directory, sorted by name; raise InputError if there is none."""
    config = loading.read(workdir)
    listed = run_list.read(workdir)
    if listed is None:
        raise InputError(f"{workdir / run_list.FILE}: expected the runs of a training, got none; run asdjax train")
    return [_read_run(workdir / name, config.train.log_every_steps) for name in listed.name_runs(config.seed)]


def _read_run(folder: Path, log_every_steps: int) -> RunStatus:
    steps = training_set.read_steps(folder)
    saved = {line: (checkpoints.steps(folder / line) or [0])[-1] for line in steps}
    row = metric_log.read_last(folder / metric_log.FILE) or {}
    trained = dict(saved)
    if row.get("phase") in trained:
        trained[row["phase"]] = max(trained[row["phase"]], row["step"])
    done, of = sum(trained.values()), sum(steps.values())
    interval_s = row.get("step_seconds", 0.0) * log_every_steps
    running = is_locked(folder) or (bool(interval_s) and time() - row["time"] < _INTERVALS * interval_s)
    state = _find_state(running, row, complete=bool(steps) and saved == steps, started=bool(steps))
    return RunStatus(
        run=folder.name,
        state=state,
        phase=row.get("phase", ""),
        steps=done if steps else None,
        of=of if steps else None,
        seconds_left=(of - done) * row["step_seconds"] if state == "running" and "step_seconds" in row else None,
        where=" ".join(filter(None, (row.get("host"), row.get("job")))),
        why=row.get("why", "") if state == "failed" else "",
    )


def _find_state(running: bool, row: dict[str, Any], *, complete: bool, started: bool) -> State:
    if complete:
        return "done"
    if running:
        return "running"
    if row.get("event") == "failed":
        return "failed"
    return "stopped" if started else "waiting"


def as_json(runs: Sequence[RunStatus]) -> dict[str, Any]:
    """Return the number of runs in each state, and every run, in JSON types."""
    numbers = Counter(run.state for run in runs)
    return {**{state: numbers[state] for state in STATES}, "runs": [asdict(run) for run in runs]}


def as_text(runs: Sequence[RunStatus], width: int) -> str:
    """Return a line with the number of runs in each state, a table of runs, and the reasons of failed ones."""
    numbers = Counter(run.state for run in runs)
    counts = ", ".join(f"{numbers[state]} {state}" for state in STATES if numbers[state])
    ordered = sorted(runs, key=lambda run: STATES.index(run.state))
    shown = [run for state in STATES for run in [one for one in ordered if one.state == state][:MOST_LISTED]]
    rows = [("run", "state", "phase", "steps", "left"), *map(_format_row, shown)]
    parts = [f"{len(runs)} runs: {counts}", "", format_table(rows, width, left=3)]
    if len(shown) < len(runs):
        parts.append(f"and {len(runs) - len(shown)} more: --json lists all")
    if reasons := [(run.run, run.why) for run in shown if run.why]:
        parts += ["", format_fields(reasons, width)]
    return "\n".join(parts)


def _format_row(run: RunStatus) -> tuple[str, ...]:
    steps = f"{run.steps} of {run.of}" if run.steps is not None else "-"
    return run.run, run.state, run.phase or "-", steps, _format_seconds(run.seconds_left)


def _format_seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
