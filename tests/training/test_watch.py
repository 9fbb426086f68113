"""What is told of a step: rates are of the steps, not of what they had to wait for."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asdjax.training.clock import Lap
from asdjax.training.feed import Dispatch
from asdjax.training.train_step import Metrics
from asdjax.training.watch import Watch


def test_neither_compiling_nor_saving_counts_in_a_rate():
    """Two steps of 4 pieces in a second, after nine seconds of other things."""
    told: dict[str, Any] = {}
    journal = SimpleNamespace(metrics=lambda phase, step, **row: told.update(row, step=step))
    lane = SimpleNamespace(phase=SimpleNamespace(name="phase1", steps=2, rates=[0.1, 0.2]), journal=journal)
    clock = SimpleNamespace(lap=lambda: Lap(10.0, {"data": 0.05, "compile": 0.7, "checkpoint": 0.15, "holdout": 0.05}))
    spec: Any = SimpleNamespace(variants=("resnet50_512",), batch_size=4)
    watch = Watch(spec, [lane], None, None, clock)  # pyright: ignore[reportArgumentType]
    for step in range(2):
        of_step = np.full((1, 1, 1), step + 1.0)
        watch.add(Dispatch((step,), 1), Metrics(of_step, of_step, of_step))  # pyright: ignore[reportArgumentType]
    shown = watch.log([0], [2])
    assert shown.note.startswith("8 pieces/s, loss 2.00")
    assert told["step_seconds"] == pytest.approx(0.5)
    assert (told["step"], told["learning_rate"], told["loss"]) == (2, 0.2, {"resnet50_512": 2.0})
