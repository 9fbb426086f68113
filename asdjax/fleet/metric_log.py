"""What a task's training tells: JSON lines, flushed as it goes, and the same for TensorBoard.

A row of metrics: {"phase", "step", "loss": {variant: x}, "loss_hex": {variant: "0x1.8p+1"}, "accuracy": {...},
"gradient_norm": {...}, "learning_rate", "step_seconds", "share": {"data", "compile", "checkpoint", "holdout"}}; of
held-out clips: {"phase", "step", "holdout_loss": {...}, "holdout_accuracy": {...}}; an event: {"event", "phase",
"step"}. "phase" is the checkpoint folder's name.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from tensorboardX import SummaryWriter

from asdjax.runtime.files import replace_text
from asdjax.runtime.progress import log

FILE = "metrics.jsonl"


class MetricLog:
    """A task's metrics.jsonl and, a folder for each phase, tensorboard/.

    Nothing is touched before `begin`, which comes before a phase's first row.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        """Go on from a phase's restored step, or 0: what was told of later ones, or is torn, is dropped.

        Says so in the log if anything was there.
        """
        self._close()
        self._folder.mkdir(parents=True, exist_ok=True)
        rows = read(self.path)
        damaged = _lines(self.path) - len(rows)
        kept = [row for row in rows if row["phase"] != phase or row["step"] <= step]
        replace_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self.path.open("a")
        # from the step on that is purged, TensorBoard leaves out what earlier files say
        self._tensorboard = SummaryWriter(str(self._folder / "tensorboard" / phase), flush_secs=10, purge_step=step + 1)
        if damaged > 1:
            log(f"{self.path}: {damaged} damaged lines dropped")
        if step or len(kept) < len(rows):
            self.event("resumed", phase, step)

    def metrics(self, phase: str, step: int, loss: Mapping[str, float], **more: Mapping[str, float] | float) -> None:
        """One logged step: losses by variant, exactly, and whatever else is a number or several by name."""
        exact = {variant: float(value).hex() for variant, value in loss.items()}
        self._row(phase, step, {"loss": loss, **more}, {"loss_hex": exact})

    def holdout(self, phase: str, step: int, loss: Mapping[str, float], accuracy: Mapping[str, float]) -> None:
        """What the held-out clips say at a step, by variant."""
        self._row(phase, step, {"holdout_loss": loss, "holdout_accuracy": accuracy}, {})

    def has_holdout(self, phase: str, step: int) -> bool:
        """Whether it was told what the held-out clips say at a step."""
        return any(
            (row["phase"], row["step"]) == (phase, step) and "holdout_loss" in row for row in reversed(read(self.path))
        )

    def flush(self) -> None:
        """What was told survives the end of the process; metrics.jsonl is flushed anyway."""
        assert self._tensorboard is not None, "begin() comes first"
        self._tensorboard.flush()

    def event(self, event: str, phase: str, step: int, **about: Any) -> None:
        """Something that happened at a step."""
        self._write({"event": event, "phase": phase, "step": step, **about})

    def _row(
        self, phase: str, step: int, values: Mapping[str, Mapping[str, float] | float], exact: Mapping[str, Any]
    ) -> None:
        """Numbers, for both readers; `exact` is for the JSON lines only."""
        numbers = {name: _json(value) for name, value in values.items()}
        self._write({"phase": phase, "step": step, **numbers, **exact})
        assert self._tensorboard is not None, "begin() comes first"
        for name, value in values.items():
            for part, number in value.items() if isinstance(value, Mapping) else [("", value)]:
                self._tensorboard.add_scalar(f"{name}/{part}" if part else name, number, step)

    def _write(self, row: dict[str, Any]) -> None:
        assert self._file is not None, "begin() comes first"
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def _json(value: Mapping[str, float] | float) -> Any:
    """JSON has no infinity and no NaN: they become null (and stay what they are in loss_hex)."""
    if isinstance(value, Mapping):
        return {name: _json(number) for name, number in value.items()}
    return float(value) if math.isfinite(value) else None


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a metrics.jsonl; a last line that a kill has torn, or what is damaged, is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(errors="replace").splitlines(keepends=True):
        with suppress(ValueError):
            row = json.loads(line)
            if line.endswith("\n") and isinstance(row, dict) and {"phase", "step"} <= row.keys():
                rows.append(row)
    return rows


def _lines(path: Path) -> int:
    return len(path.read_text(errors="replace").splitlines()) if path.exists() else 0
