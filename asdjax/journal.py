"""What a task's training tells: JSON lines, flushed as it goes, and the same for TensorBoard.

A row of metrics: {"phase", "step", "loss": {variant: x}, "loss_hex": {variant: "0x1.8p+1"}, "accuracy": {...},
"learning_rate"}; an event: {"event", "phase", "step"}. "phase" is the checkpoint folder's name.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from tensorboardX import SummaryWriter

from asdjax.files import replace_text
from asdjax.progress import say

FILE = "metrics.jsonl"


class Journal:
    """A task's metrics.jsonl and, a folder for each phase, tensorboard/.

    Nothing is touched before `begin`, which comes before a phase's first row.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        path = self._folder / FILE
        rows = read(path)
        damaged = _lines(path) - len(rows)
        kept = [row for row in rows if row["phase"] != phase or row["step"] <= step]
        replace_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = path.open("a")
        # from the step on that is purged, TensorBoard leaves out what earlier files say
        self._tensorboard = SummaryWriter(str(self._folder / "tensorboard" / phase), flush_secs=10, purge_step=step + 1)
        if damaged > 1:
            say(f"{path}: {damaged} damaged lines dropped")
        if step or len(kept) < len(rows):
            self._write({"event": "resumed", "phase": phase, "step": step})

    def metrics(
        self, phase: str, step: int, loss: Mapping[str, float], accuracy: Mapping[str, float], **scalars: float
    ) -> None:
        """One logged step: losses and accuracies by variant, and whatever else is a number."""
        exact = {variant: float(value).hex() for variant, value in loss.items()}
        row = {"phase": phase, "step": step, "loss": _json(loss), "loss_hex": exact, "accuracy": _json(accuracy)}
        self._write({**row, **_json(scalars)})
        assert self._tensorboard is not None, "begin() comes first"
        for kind, values in (("loss", loss), ("accuracy", accuracy)):
            for variant, value in values.items():
                self._tensorboard.add_scalar(f"{kind}/{variant}", value, step)
        for name, value in scalars.items():
            self._tensorboard.add_scalar(name, value, step)

    def _write(self, row: dict[str, Any]) -> None:
        assert self._file is not None, "begin() comes first"
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def _json(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no infinity and no NaN: they become null (and stay what they are in loss_hex)."""
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}


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
