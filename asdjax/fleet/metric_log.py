"""Metric log of a run: JSON lines, flushed as training goes, and the same numbers for TensorBoard.

A row of metrics: {"phase", "step", "time", "loss": {variant: x}, "loss_hex": {variant: "0x1.8p+1"}, "accuracy": {...},
"gradient_norm": {...}, "learning_rate", "step_seconds", "share": {"data", "compile", "checkpoint", "holdout"}}.
A row of held-out clips: {"phase", "step", "time", "holdout_loss": {...}, "holdout_accuracy": {...}}.
An event: {"event", "phase", "step", "time"}; a started or resumed one has host, device and job, and processes if there
are several, a failed one why and code.
"phase" is the name of the checkpoint line's folder, "time" is in seconds since 1970.
"""

import json
import math
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import time
from types import TracebackType
from typing import Any, Self, TextIO

from tensorboardX import SummaryWriter

from asdjax.runtime.files import replace_text
from asdjax.runtime.progress import log

FILE = "metrics.jsonl"

# names in the environment that hold the number or name of a batch job
_JOB_NAMES = ("SLURM_JOB_ID", "JOB_NAME", "JOB_COMPLETION_INDEX", "SKYPILOT_TASK_ID")

# a row of six variants has about 2 kB
_TAIL_BYTES = 2**16


class MetricLog:
    """Metric log of one run: metrics.jsonl, and tensorboard/ with a folder for each phase.

    Call `begin` before the first row of a phase. Nothing is written before that, and never without `writes`: of a
    program of several processes one writes, and the others only read.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self._folder, self._writes = folder, writes
        self.path = folder / FILE
        self._file: TextIO | None = None
        self._tensorboard: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for writer in (self._file, self._tensorboard):
            if writer is not None:
                writer.close()

    def begin(self, phase: str, step: int) -> None:
        """Continue a phase after its restored step, or begin it at step 0.

        Drops the phase's later rows and damaged lines. Logs a "resumed" event if anything was there, else "started".
        """
        if not self._writes:
            return
        self._close()
        self._folder.mkdir(parents=True, exist_ok=True)
        rows = read(self.path)
        damaged = _count_lines(self.path) - len(rows)
        kept = [row for row in rows if row["phase"] != phase or row["step"] <= step]
        replace_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self.path.open("a")
        # TensorBoard hides what earlier files hold from purge_step on
        self._tensorboard = SummaryWriter(str(self._folder / "tensorboard" / phase), flush_secs=10, purge_step=step + 1)
        if damaged > 1:
            log(f"{self.path}: {damaged} damaged lines dropped")
        event = "resumed" if step or len(kept) < len(rows) else "started"
        self.event(event, phase, step, **_describe_place())

    def metrics(self, phase: str, step: int, loss: Mapping[str, float], **more: Mapping[str, float] | float) -> None:
        """Write the metrics of a step: losses by variant, also as exact hex, and other numbers or groups of numbers."""
        exact = {variant: float(value).hex() for variant, value in loss.items()}
        self._write_numbers(phase, step, {"loss": loss, **more}, {"loss_hex": exact})

    def holdout(self, phase: str, step: int, loss: Mapping[str, float], accuracy: Mapping[str, float]) -> None:
        """Write the loss and accuracy on held-out clips at a step, by variant."""
        self._write_numbers(phase, step, {"holdout_loss": loss, "holdout_accuracy": accuracy}, {})

    def has_holdout(self, phase: str, step: int) -> bool:
        """Return whether the log has a row of held-out clips at a step."""
        return any(
            (row["phase"], row["step"]) == (phase, step) and "holdout_loss" in row for row in reversed(read(self.path))
        )

    def flush(self) -> None:
        """Write TensorBoard's pending numbers to disk; metrics.jsonl is flushed after each row."""
        if self._writes:
            assert self._tensorboard is not None, "call begin() first"
            self._tensorboard.flush()

    def event(self, event: str, phase: str, step: int, **details: Any) -> None:
        """Write an event at a step."""
        if self._writes:
            self._write({"event": event, "phase": phase, "step": step, "time": time(), **details})

    def _write_numbers(
        self, phase: str, step: int, values: Mapping[str, Mapping[str, float] | float], exact: Mapping[str, Any]
    ) -> None:
        """Write numbers to both logs; `exact` goes to metrics.jsonl only."""
        if not self._writes:
            return
        numbers = {name: _to_json(value) for name, value in values.items()}
        self._write({"phase": phase, "step": step, "time": time(), **numbers, **exact})
        assert self._tensorboard is not None, "call begin() first"
        for name, value in values.items():
            for part, number in value.items() if isinstance(value, Mapping) else [("", value)]:
                self._tensorboard.add_scalar(f"{name}/{part}" if part else name, number, step)

    def _write(self, row: dict[str, Any]) -> None:
        assert self._file is not None, "call begin() first"
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def _to_json(value: Mapping[str, float] | float) -> Any:
    """Replace infinity and NaN, which JSON does not have, by null; loss_hex still has them."""
    if isinstance(value, Mapping):
        return {name: _to_json(number) for name, number in value.items()}
    return float(value) if math.isfinite(value) else None


def _describe_place() -> dict[str, Any]:
    """Return the host, the kind of its first device, and the job of a batch system, as far as they are known.

    In a program of several processes their number is added.
    """
    import jax

    number = {"processes": jax.process_count()} if jax.process_count() > 1 else {}
    return {"host": socket.gethostname(), "device": jax.devices()[0].device_kind, "job": _name_job(), **number}


def _name_job() -> str:
    """Return the batch job's name, as `squeue` shows it for a task of an array; "" outside of one."""
    if task := os.environ.get("SLURM_ARRAY_TASK_ID"):
        return f"{os.environ.get('SLURM_ARRAY_JOB_ID', '')}_{task}"
    return " ".join(os.environ[name] for name in _JOB_NAMES if os.environ.get(name))


def append_failure(folder: Path, why: str, code: int) -> None:
    """Write to a run's metrics.jsonl that training left it out, with the reason and the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    *_, last = read_tail(folder / FILE) or [{"phase": "", "step": 0}]
    where = {name: last[name] for name in ("phase", "step")}
    row = json.dumps({"event": "failed", **where, "time": time(), "why": why, "code": code})
    with (folder / FILE).open("a+b") as file:
        file.seek(max(0, file.tell() - 1))
        torn = file.read() not in (b"", b"\n")  # a line cut off by a kill
        file.write(f"{chr(10) if torn else ''}{row}\n".encode())


def read(path: Path) -> list[dict[str, Any]]:
    """Read the intact rows of a metrics.jsonl; skip damaged lines, and a last line cut off by a kill."""
    if not path.exists():
        return []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    return [row for line in lines if (row := _parse(line))]


def _parse(line: str) -> dict[str, Any] | None:
    """Return the row in a line; None for a damaged line, and for one without its end."""
    with suppress(ValueError):
        row = json.loads(line)
        if line.endswith("\n") and isinstance(row, dict) and {"phase", "step"} <= row.keys():
            return row
    return None


def read_tail(path: Path) -> list[dict[str, Any]]:
    """Return the last rows of a metrics.jsonl, some dozens or more, read from its end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [row for line in lines if (row := _parse(line))]


def _count_lines(path: Path) -> int:
    return len(path.read_text(errors="replace").splitlines()) if path.exists() else 0
