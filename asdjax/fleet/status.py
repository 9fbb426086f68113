"""The status of every run of a work directory, from its files alone."""

import socket
from collections import Counter
from collections.abc import Mapping, Sequence
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

# where locks cannot be seen, a run is taken to be running until its newest row is older than this number of intervals
# between two rows
_INTERVALS = 3


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The status of a run.

    steps, of: steps trained of the steps of all phases, without those that a run that is not running would train again;
    None before the run was started. seconds_left: by the time of the newest steps, None if it is not running. where:
    host and batch job of the newest start, as far as they are known. why: the error of a failed run.
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
    try:
        steps = training_set.read_steps(folder)
    except InputError as error:
        return _describe(folder.name, "failed", why=str(error))
    rows = metric_log.read_tail(folder / metric_log.FILE)
    last = rows[-1] if rows else {}
    step_seconds = _find_newest(rows, "step_seconds")
    interval_s = (step_seconds or 0.0) * log_every_steps
    saved = {line: (checkpoints.list_steps(folder / line) or [0])[-1] for line in steps or ()}
    recent = last.get("event") != "failed" and time() - last.get("time", 0.0) < _INTERVALS * interval_s
    locked, host = is_locked(folder), _find_newest(rows, "host")
    if recent and not host:  # written where the phase was started or resumed, maybe long before
        host = _find_newest(metric_log.read(folder / metric_log.FILE), "host")
    # locks may not be seen from other hosts
    running = locked or (recent and (locked is None or host != socket.gethostname()))
    state = _find_state(bool(running), last, complete=saved == steps, started=bool(steps))
    if not steps or state == "waiting":
        return _describe(folder.name, state, why=last.get("why", "") if state == "failed" else "")
    trained = dict(saved)
    if state == "running" and last["phase"] in trained:
        trained[last["phase"]] = max(trained[last["phase"]], last["step"])
    done, of = sum(trained.values()), sum(steps.values())
    return RunStatus(
        run=folder.name,
        state=state,
        phase=last.get("phase", ""),
        steps=done,
        of=of,
        seconds_left=(of - done) * step_seconds if state == "running" and step_seconds is not None else None,
        where=" ".join(filter(None, (host, _find_newest(rows, "job")))),
        why=last.get("why", "") if state == "failed" else "",
    )


def _describe(run: str, state: State, *, why: str) -> RunStatus:
    """Return the status of a run of which no step is known."""
    return RunStatus(run=run, state=state, phase="", steps=None, of=None, seconds_left=None, where="", why=why)


def _find_newest(rows: Sequence[Mapping[str, Any]], field: str) -> Any:
    return next((row[field] for row in reversed(rows) if field in row), None)


def _find_state(running: bool, last: Mapping[str, Any], *, complete: bool, started: bool) -> State:
    """Return the state of a run; `last` is its newest row. A process locks all its runs before it starts the first."""
    if complete:
        return "done"
    failed = last.get("event") == "failed"
    if running:
        return "running" if last and not failed else "waiting"
    if failed:
        return "failed"
    return "stopped" if started and last else "waiting"


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
    rows = [("run", "state", "phase", "where", "steps", "left"), *map(_format_row, shown)]
    parts = [f"{len(runs)} run{'' if len(runs) == 1 else 's'}: {counts}", "", format_table(rows, width, left=4)]
    if len(shown) < len(runs):
        parts.append(f"and {len(runs) - len(shown)} more: --json lists all")
    if reasons := [(run.run, run.why) for run in shown if run.why]:
        parts += ["", format_fields(reasons, width)]
    return "\n".join(parts)


def _format_row(run: RunStatus) -> tuple[str, ...]:
    steps = f"{run.steps} of {run.of}" if run.steps is not None else "-"
    return run.run, run.state, run.phase or "-", run.where or "-", steps, _format_seconds(run.seconds_left)


def _format_seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
