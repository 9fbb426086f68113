"""The metrics of a step: rates count steps, not the waits around them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asdjax.training.dispatches import Dispatch
from asdjax.training.monitor import MetricMonitor
from asdjax.training.step import StepMetrics
from asdjax.training.timing import Timing


def make_monitor(steps: Sequence[int], timing: Timing, logged: dict[str, Any]) -> MetricMonitor:
    """Return the monitor of runs of one variant, batch 4, whose metric logs write to `logged`."""
    log = SimpleNamespace(metrics=lambda phase, step, **row: logged.update(row, step=step))
    phases = [SimpleNamespace(name="phase1", steps=n, rates=[0.1 * (i + 1) for i in range(n)]) for n in steps]
    runs: Any = [SimpleNamespace(phase=phase, log=log) for phase in phases]
    spec: Any = SimpleNamespace(variants=("resnet50_512",), batch_size=4)
    timer: Any = SimpleNamespace(next_interval=lambda: timing)
    return MetricMonitor(spec, runs, None, None, timer)  # pyright: ignore[reportArgumentType]


def add(monitor: MetricMonitor, first: tuple[int, ...], loss: float = 1.0) -> None:
    """Add a dispatch of one step."""
    of_step = np.full((1, len(first), 1), loss)
    monitor.add(Dispatch(first, 1), StepMetrics(of_step, of_step, of_step))  # pyright: ignore[reportArgumentType]


def test_neither_compiling_nor_saving_counts_in_a_rate():
    """Two steps of 4 pieces in a second, after nine seconds of other things."""
    logged: dict[str, Any] = {}
    timing = Timing(10.0, {"data": 0.05, "compile": 0.7, "checkpoint": 0.15, "holdout": 0.05})
    monitor = make_monitor([2], timing, logged)
    for step in range(2):
        add(monitor, (step,), step + 1.0)
    shown = monitor.log([0], [2])
    assert shown.note.startswith("now 8 pieces/s, loss 2.00")
    assert logged["step_seconds"] == pytest.approx(0.5)
    assert (logged["step"], logged["learning_rate"], logged["loss"]) == (2, 0.2, {"resnet50_512": 2.0})


def test_a_rate_counts_every_run_that_moved():
    """Two steps in a second, of two runs; the second finished after one step, and only the first logs."""
    monitor = make_monitor([2, 1], Timing(1.0, {}), {})
    add(monitor, (0, 0))
    add(monitor, (1, 1))
    assert monitor.log([0], [2, 1]).note.startswith("now 12 pieces/s")
