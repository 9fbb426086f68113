"""What a task's training tells: JSON lines, flushed as it goes, and the same for TensorBoard.

A row of metrics: {"phase", "step", "loss": {variant: x}, "loss_hex": {variant: "0x1.8p+1"}, "accuracy": {...},
"learning_rate"}; an event: {"event", "phase", "step"}. "phase" is the checkpoint folder's name.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboardX import SummaryWriter

FILE = "metrics.jsonl"


class Journal:
    """A task's metrics.jsonl and tensorboard/ folder, open for appending."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        self._tensorboard = SummaryWriter(str(folder / "tensorboard"), flush_secs=10)
        self._file = self._path.open("a")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._tensorboard.close()

    def resume(self, phase: str, step: int) -> None:
        """Go on from a phase's restored step: rows past it, or torn, are dropped; says so if any row was there."""
        rows = read(self._path)
        kept = [row for row in rows if row["phase"] != phase or row["step"] <= step]
        self._file.close()
        temporary = self._path.with_suffix(".jsonl.new")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(temporary, self._path)
        self._file = self._path.open("a")
        if step or len(kept) < len(rows):
            self._write({"event": "resumed", "phase": phase, "step": step})

    def metrics(
        self, phase: str, step: int, loss: Mapping[str, float], accuracy: Mapping[str, float], **scalars: float
    ) -> None:
        """One logged step: losses and accuracies by variant, and whatever else is a number."""
        exact = {variant: float(value).hex() for variant, value in loss.items()}
        row = {"phase": phase, "step": step, "loss": _json(loss), "loss_hex": exact, "accuracy": _json(accuracy)}
        self._write({**row, **_json(scalars)})
        for kind, values in (("loss", loss), ("accuracy", accuracy)):
            for variant, value in values.items():
                self._tensorboard.add_scalar(f"{phase}/{kind}/{variant}", value, step)
        for name, value in scalars.items():
            self._tensorboard.add_scalar(f"{phase}/{name}", value, step)

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def _json(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no infinity and no NaN: they become null (and stay what they are in loss_hex)."""
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a metrics.jsonl; a last line that a kill has torn is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            rows.append(json.loads(line))
    return rows
