"""What is told of a step: rates are of the steps, not of what they had to wait for."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asdjax.training.audio_feed import Dispatch
from asdjax.training.monitor import MetricMonitor
from asdjax.training.step import StepMetrics
from asdjax.training.timing import Timing


def watch_of(steps: Sequence[int], lap: Timing, told: dict[str, Any]) -> MetricMonitor:
    """Of tasks that train so many steps of one variant in batches of 4, whose journals write to `told`."""
    journal = SimpleNamespace(metrics=lambda phase, step, **row: told.update(row, step=step))
    phases = [SimpleNamespace(name="phase1", steps=n, rates=[0.1 * (i + 1) for i in range(n)]) for n in steps]
    lanes: Any = [SimpleNamespace(phase=phase, journal=journal) for phase in phases]
    spec: Any = SimpleNamespace(variants=("resnet50_512",), batch_size=4)
    clock: Any = SimpleNamespace(lap=lambda: lap)
    return MetricMonitor(spec, lanes, None, None, clock)  # pyright: ignore[reportArgumentType]


def add(watch: MetricMonitor, first: tuple[int, ...], loss: float = 1.0) -> None:
    """A dispatch of one step."""
    of_step = np.full((1, len(first), 1), loss)
    watch.add(Dispatch(first, 1), StepMetrics(of_step, of_step, of_step))  # pyright: ignore[reportArgumentType]


def test_neither_compiling_nor_saving_counts_in_a_rate():
    """Two steps of 4 pieces in a second, after nine seconds of other things."""
    told: dict[str, Any] = {}
    lap = Timing(10.0, {"data": 0.05, "compile": 0.7, "checkpoint": 0.15, "holdout": 0.05})
    watch = watch_of([2], lap, told)
    for step in range(2):
        add(watch, (step,), step + 1.0)
    shown = watch.log([0], [2])
    assert shown.note.startswith("now 8 pieces/s, loss 2.00")
    assert told["step_seconds"] == pytest.approx(0.5)
    assert (told["step"], told["learning_rate"], told["loss"]) == (2, 0.2, {"resnet50_512": 2.0})


def test_a_rate_counts_every_task_that_moved_not_those_that_log_alone():
    """Two steps in a second, of two tasks, of which the second was done after one; only the first logs."""
    watch = watch_of([2, 1], Timing(1.0, {}), {})
    add(watch, (0, 0))
    add(watch, (1, 1))
    assert watch.log([0], [2, 1]).note.startswith("now 12 pieces/s")
