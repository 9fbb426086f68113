"""A reader of traces: a step's time and memory traffic by part of the step, by kind of work and by operation.

`asdjax bench train --profile DIR` loads it.
"""

import re
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asdjax.errors import InputError
from asdjax.perf import hlo, traffic
from asdjax.perf.bench_step import BenchStep
from asdjax.perf.hlo import Instruction, Program
from asdjax.runtime import hardware
from asdjax.training.step import FEATURES, HEAD, UPDATE

# The least number of traced steps.
MIN_STEPS = 3

# Operations listed in a profile: the longest.
MAX_LISTED = 40

# XLA options with which a trace names operations. A GPU's command buffers would hide their operations. Without them a
# traced step may wait for the host where a timed one does not, and its operations do not overlap.
TRACEABLE: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_enable_xprof_traceme": True},
    "gpu": {"xla_gpu_enable_command_buffer": ""},
}

# By platform: the beginnings of the names of a trace's plane, and of its lines that hold operations.
_PLACES = {"cpu": ("/host:CPU", ""), "gpu": ("/device:GPU:0", "Stream"), "tpu": ("/device:TPU:0", "XLA Ops")}

# An operation has the first kind that matches any of its instructions, but it is a copy only if all of them are.
# Without a match it is elementwise.
_KINDS = (
    ("grouped convolution", re.compile(r"grouped-convolution")),
    ("convolution", re.compile(r"convolution|call __cudnn\$conv")),
    ("matrix product", re.compile(r"dot|call __cublas")),
    ("FFT", re.compile(r"fft")),
    ("pooling", re.compile(r"reduce-window|select-and-scatter")),
    ("between devices", re.compile(r"all-|reduce-scatter|collective-")),
    ("sort", re.compile(r"sort|call __cub")),
    ("other calls", re.compile(r"call ")),
    ("gather", re.compile(r"gather")),
    ("scatter", re.compile(r"scatter")),
    ("reduction", re.compile(r"reduce$")),
    (
        "copy",
        re.compile(
            r"(copy|transpose|pad|slice|dynamic-slice|dynamic-update-slice|concatenate|broadcast|reverse|iota)$"
        ),
    ),
)
_ELEMENTWISE = "elementwise"

# Instructions that do not decide an operation's kind.
_NEUTRAL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "reshape", "convert"}

_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_GROUPED = re.compile(r"\b(feature|batch)_group_count=")


class Event(NamedTuple):
    """One run of an operation in a trace: its name, and when it began and ended in nanoseconds."""

    name: str
    start: float
    end: float


class Operation(NamedTuple):
    """An operation's share of one step.

    seconds: the median call times the number of calls, because a delayed call may take a hundred times as long. bytes:
    moved by all calls.
    """

    name: str
    part: str
    kind: str
    source: str
    seconds: float
    calls: float
    bytes: float


def trace_step(step: BenchStep, folder: Path) -> dict[str, Any]:
    """Trace some steps into a folder, which XProf can open, and return the profile as JSON.

    The program is compiled again with TRACEABLE. `idle_ms` is the time without any operation. Operations may overlap,
    so their sum may exceed the step. Raises InputError as `read_events` does.
    """
    program = step.recompile(TRACEABLE.get(hardware.platform(), {}))
    steps = max(MIN_STEPS, step.spec.steps_per_dispatch)
    step.run(steps)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(folder, profiler_options=options):
        seconds = step.run(steps)
    events = read_events(folder, program)
    operations = sum_operations(program, step.spec.variants, events, steps)
    return {
        "trace": str(folder),
        "steps": steps,
        "ms_per_step": 1e3 * seconds / steps,
        "idle_ms": 1e3 * seconds / steps - 1e-6 * sum_busy_ns(events) / steps,
        "parts": _sum_groups(operations, lambda operation: operation.part),
        "kinds": _sum_groups(operations, lambda operation: operation.kind),
        "operations": [_to_json(operation) for operation in operations[:MAX_LISTED]],
    }


def require_traceable() -> None:
    """Raise InputError if traces of this device do not name operations. Call it before anything is measured."""
    x = jnp.ones((64, 64))
    compiled = jax.jit(jnp.matmul).lower(x, x).compile(compiler_options=TRACEABLE.get(hardware.platform(), {}))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(compiled(x, x))
        read_events(Path(folder), hlo.read_program(compiled))


def read_events(folder: Path, program: Program) -> list[Event]:
    """Read a program's operations on one device from the newest trace below a folder.

    Operations that only run others, such as loops, are left out. Raises InputError if there are none.
    """
    newest = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime_ns, default=None)
    executed = {instruction.name for instruction in hlo.iterate_executed(program)}
    events = [event for event in _read_trace(newest, program.name) if event.name in executed] if newest else []
    if not events:
        raise InputError(
            f"--profile: expected operations of {program.name} in the trace in {folder}, got none; this device's "
            "traces do not name them, so leave --profile out"
        )
    return events


def _read_trace(trace: Path, program: str) -> list[Event]:
    plane_name, line_name = _PLACES[hardware.platform()]
    with warnings.catch_warnings():  # reading makes types without a module, an error under -W error
        warnings.simplefilter("ignore", DeprecationWarning)
        data = jax.profiler.ProfileData.from_file(str(trace))  # a variable, because its planes do not keep it alive
        planes = [plane for plane in data.planes if plane.name.startswith(plane_name)]
        lines = [line for plane in planes for line in plane.lines if line.name.startswith(line_name)]
        return [
            Event(f"%{stats['hlo_op']}", event.start_ns, event.start_ns + event.duration_ns)
            for line in lines
            for event in line.events
            if "hlo_op" in (stats := dict(event.stats)) and stats.get("hlo_module") == program
        ]


def sum_operations(program: Program, variants: Sequence[str], events: Iterable[Event], steps: int) -> list[Operation]:
    """Return each operation's share of one step, from the events of `steps` steps, the longest first."""
    spans_ns: dict[str, list[float]] = defaultdict(list)
    for event in events:
        spans_ns[event.name].append(event.end - event.start)
    operations = [
        _make_operation(program, variants, program.instructions[name], spans, steps) for name, spans in spans_ns.items()
    ]
    return sorted(operations, key=lambda operation: operation.seconds, reverse=True)


def _make_operation(
    program: Program, variants: Sequence[str], instruction: Instruction, spans_ns: Sequence[float], steps: int
) -> Operation:
    calls = len(spans_ns) / steps
    source = hlo.read_source(instruction)
    return Operation(
        name=instruction.name,
        part=find_part(source, variants),
        kind=find_kind(program, instruction),
        source=source,
        seconds=1e-9 * calls * median(spans_ns),
        calls=calls,
        bytes=calls * traffic.count_bytes(program, instruction),
    )


def find_part(source: str, variants: Sequence[str]) -> str:
    """Return the part of a step by an operation's source: a variant's pass, `features`, `head`, `update` or `rest`.

    Custom derivatives are not marked in the source, so all of a variant's work outside jvp() counts as backward.
    """
    for variant in variants:
        if variant in source:
            forward = "jvp(" in source and "transpose(" not in source
            return f"{variant} {'forward' if forward else 'backward'}"
    return next((scope for scope in (FEATURES, HEAD, UPDATE) if scope in source), "rest")


def find_kind(program: Program, instruction: Instruction) -> str:
    """Return the kind of the heaviest work in an operation."""
    words = {*_iterate_kinds(program, instruction)} - _NEUTRAL
    for kind, pattern in _KINDS:
        matching = {word for word in words if pattern.match(word)}
        if matching and (kind != "copy" or matching == words):
            return kind
    return _ELEMENTWISE


def _iterate_kinds(program: Program, instruction: Instruction) -> Iterator[str]:
    """Yield the kinds of an operation's instructions; for a call to a library, `call` and its name."""
    if instruction.kind == "fusion":
        for line in program.computations[instruction.called[0]]:
            yield from _iterate_kinds(program, line)
    elif _GROUPED.search(instruction.settings):
        yield "grouped-convolution"
    elif instruction.kind == "custom-call":
        yield from (f"call {target}" for target in _TARGET.findall(instruction.settings))
    else:
        yield instruction.kind


def sum_busy_ns(events: Iterable[Event]) -> float:
    """Return the nanoseconds in which at least one operation ran."""
    total, until = 0.0, float("-inf")
    for event in sorted(events, key=lambda event: event.start):
        total += max(0.0, event.end - max(event.start, until))
        until = max(until, event.end)
    return total


def _sum_groups(operations: Sequence[Operation], group: Callable[[Operation], str]) -> dict[str, dict[str, float]]:
    """Return milliseconds and bytes of each group, the longest first."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: {"ms": 0.0, "bytes": 0.0})
    for operation in operations:
        figures = sums[group(operation)]
        figures["ms"] += 1e3 * operation.seconds
        figures["bytes"] += operation.bytes
    return dict(sorted(sums.items(), key=lambda item: item[1]["ms"], reverse=True))


def _to_json(operation: Operation) -> dict[str, Any]:
    return {
        "name": operation.name,
        "part": operation.part,
        "kind": operation.kind,
        "source": operation.source,
        "ms": 1e3 * operation.seconds,
        "calls": operation.calls,
        "bytes": operation.bytes,
    }
