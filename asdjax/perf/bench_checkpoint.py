"""`asdjax bench checkpoint`: saving and restoring a full-size fleet, and what it costs the training."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import jax
import numpy as np

from asdjax.config.fields import PHASE1, VARIANTS, default_config
from asdjax.fleet import checkpoints
from asdjax.fleet.fleet_model import init_model
from asdjax.perf.bench_record import BenchRecord
from asdjax.perf.bench_step import make_bench_spec
from asdjax.runtime import hardware
from asdjax.runtime.progress import log
from asdjax.training.state import TrainState, get_model, init_state, list_unfinished, select_run, stack_states

DURING, AT_END, RESTORED = "save during a phase", "save at its end", "restore a model"
KEEP = 2

_CALLS = "%file,fsync,fdatasync,getdents64"
_BEGIN, _END = "asdjax-begin", "asdjax-end"


def bench(repeats: int | None, width: float = 1.0) -> dict[str, Any]:
    """Return the benchmark result: seconds, bytes, files and operations of a save, and the seconds that steps wait.

    Operations are system calls on files as strace counts them; None where it is not installed. Saves follow earlier
    ones of the same line, as in training.
    """
    spec = make_bench_spec(VARIANTS, 48, width)
    record = BenchRecord()
    log("initialising six models")
    mesh = hardware.make_meshes(len(jax.devices()))[0]
    states = stack_states([init_state(spec, init_model(spec.model, 0, "bench"))])
    on_device = hardware.replicate(states, mesh)
    log("saving them")
    waits = [_time(lambda: select_run(jax.device_get(on_device), 0)) for _ in range(repeats or 3)]
    state = select_run(jax.device_get(on_device), 0)
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            DURING: _measure_save(Path(folder) / "during", _list_trees(state, at_end=False), repeats),
            AT_END: _measure_save(Path(folder) / "end", _list_trees(state, at_end=True), repeats),
        }
        line, shapes = Path(folder) / "end" / PHASE1, {"model": get_model(state)}
        newest = checkpoints.list_steps(line)[-1]
        restored = [_time(lambda: checkpoints.restore(line, newest, shapes)) for _ in range(repeats or 3)]
    figures[RESTORED] = {"seconds": median(restored)}
    for name, at_end in ((DURING, False), (AT_END, True)):
        figures[name]["operations"] = _count_operations(width, at_end=at_end)
    interval_s = 60 * default_config().train.checkpoint_every_minutes
    record |= {"width": width, "figures": figures, "wait_seconds": median(waits), "interval_seconds": interval_s}
    return record.refresh()


def _list_trees(state: TrainState, *, at_end: bool) -> checkpoints.Trees:
    """Return what training saves; the velocity is noise, as zeros would be compressed."""
    model: checkpoints.Trees = {"model": get_model(state)}
    rng = np.random.default_rng(0)
    velocity = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), state.velocity)
    return model if at_end else {**model, **list_unfinished(state._replace(velocity=velocity))}


def _time(action: Any) -> float:
    begun = perf_counter()
    action()
    return perf_counter() - begun


def _measure_save(folder: Path, trees: checkpoints.Trees, repeats: int | None) -> dict[str, Any]:
    """Return the median seconds of a save, without the first, and the bytes and files of a step with its record."""
    line = folder / PHASE1
    steps = range(1, 2 + (repeats or 3))
    seconds = [_time(lambda step=step: checkpoints.save(line, step, trees, KEEP)) for step in steps]
    newest = checkpoints.list_steps(line)[-1]
    files = [line / f"{newest}.json", *(path for path in (line / str(newest)).rglob("*") if path.is_file())]
    return {"seconds": median(seconds[1:]), "bytes": sum(file.stat().st_size for file in files), "files": len(files)}


def _count_operations(width: float, *, at_end: bool) -> dict[str, int] | None:
    """Count the system calls on files of a save, by their names, in a process of its own."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    log("counting the operations of a save")
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        code = f"from asdjax.perf import bench_checkpoint\nbench_checkpoint.save_twice({folder!r}, {width}, {at_end})"
        command = [strace, "-f", "-qq", "-e", f"trace={_CALLS}", "-o", str(trace), sys.executable, "-c", code]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
        _, _, after = trace.read_text(errors="replace").partition(_BEGIN)
        lines = after.partition(_END)[0].splitlines()[1:-1]
    calls = Counter(line.split(maxsplit=1)[1].partition("(")[0] for line in lines if _is_of_save(line, folder))
    return dict(calls.most_common())


def _is_of_save(line: str, folder: str) -> bool:
    """Return whether a line of a trace is the beginning of a call on the folder, or of one on an open file."""
    is_begun = "(" in line and "resumed>" not in line
    return is_begun and (folder in line or any(name in line for name in ("fsync(", "fdatasync(", "getdents64(")))


def save_twice(folder: str, width: float, at_end: bool) -> None:
    """Save two steps, the second between two marks for strace."""
    spec = make_bench_spec(VARIANTS, 48, width)
    state = init_state(spec, jax.device_get(init_model(spec.model, 0, "bench")))
    trees = _list_trees(jax.device_get(state), at_end=at_end)
    checkpoints.save(Path(folder) / PHASE1, 1, trees, KEEP)
    os.path.exists(_BEGIN)
    checkpoints.save(Path(folder) / PHASE1, 2, trees, KEEP)
    os.path.exists(_END)
