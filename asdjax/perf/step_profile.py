"""Where a step's time goes: a trace of it, by part of the step, by kind of work and by operation, beside the bytes that
each moves to and from memory."""

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
from asdjax.perf.bench_step import Step
from asdjax.perf.hlo import Instruction, Program
from asdjax.runtime import hardware
from asdjax.training.step import FEATURES, HEAD, UPDATE

STEPS = 3
"""Traced, at least."""

LISTED = 40
"""Operations that a profile names: those that take longest."""

TRACEABLE: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_enable_xprof_traceme": True},
    "gpu": {"xla_gpu_enable_command_buffer": ""},
}
"""What XLA must be told for a trace to name operations. A GPU's command buffers hide what is in them; without them a
step that is traced may wait for the host where one that is timed does not, and nothing runs beside anything else."""

_PLACES = {"cpu": ("/host:CPU", ""), "gpu": ("/device:GPU:0", "Stream"), "tpu": ("/device:TPU:0", "XLA Ops")}
"""By platform, how the names begin of the plane and of those of its lines that tell operations."""

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
"""An operation is of the first of these kinds that any of its instructions is of, but a copy only where all of them
are; else it is elementwise."""

_ELEMENTWISE = "elementwise"
_SILENT = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "reshape", "convert"}
"""Instructions that say nothing of an operation's kind."""

_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_GROUPED = re.compile(r"\b(feature|batch)_group_count=")


class Event(NamedTuple):
    """An operation's name in a trace, and when it ran, in nanoseconds."""

    name: str
    start: float
    end: float


class Operation(NamedTuple):
    """Of one step: what it is; for how long it ran, by the median of its calls, as one that is held up may take a
    hundred times as long; how often; how many bytes it moved in all."""

    name: str
    part: str
    kind: str
    source: str
    seconds: float
    calls: float
    bytes: float


def of(step: Step, folder: Path) -> dict[str, Any]:
    """Trace some steps into a folder, for XProf and the like, and say where their time went.

    The program is compiled again, to be traceable. `idle_ms` is when none of its operations ran; some run beside
    others, so that all together may take longer than the step. Raises InputError as `events_of` does.
    """
    program = step.recompile(TRACEABLE.get(hardware.platform(), {}))
    steps = max(STEPS, step.spec.steps_per_dispatch)
    step.run(steps)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(folder, profiler_options=options):
        seconds = step.run(steps)
    events = events_of(folder, program)
    operations = operations_of(program, step.spec.variants, events, steps)
    return {
        "trace": str(folder),
        "steps": steps,
        "ms_per_step": 1e3 * seconds / steps,
        "idle_ms": 1e3 * seconds / steps - 1e-6 * busy(events) / steps,
        "parts": _summed(operations, lambda operation: operation.part),
        "kinds": _summed(operations, lambda operation: operation.kind),
        "operations": [_as_json(operation) for operation in operations[:LISTED]],
    }


def require_traceable() -> None:
    """Raise InputError where a trace does not name what a program runs, before anything is measured."""
    x = jnp.ones((64, 64))
    compiled = jax.jit(jnp.matmul).lower(x, x).compile(compiler_options=TRACEABLE.get(hardware.platform(), {}))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(compiled(x, x))
        events_of(Path(folder), hlo.program_of(compiled))


def events_of(folder: Path, program: Program) -> list[Event]:
    """What the newest trace below a folder has of the operations of a program, on one device; what only runs others,
    such as a loop, left out.

    Raises InputError where it has none.
    """
    newest = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime_ns, default=None)
    executed = {instruction.name for instruction in hlo.executed(program)}
    events = [event for event in _events(newest, program.name) if event.name in executed] if newest else []
    if not events:
        raise InputError(
            f"--profile: expected operations of {program.name} in the trace in {folder}, came none; this device's "
            "traces do not name them, so leave --profile out"
        )
    return events


def _events(trace: Path, program: str) -> list[Event]:
    """Of a program of this name."""
    plane_name, line_name = _PLACES[hardware.platform()]
    with warnings.catch_warnings():  # reading makes types without a module, which would end a process under -W error
        warnings.simplefilter("ignore", DeprecationWarning)
        data = jax.profiler.ProfileData.from_file(str(trace))  # named, as its planes do not keep it
        planes = [plane for plane in data.planes if plane.name.startswith(plane_name)]
        lines = [line for plane in planes for line in plane.lines if line.name.startswith(line_name)]
        return [
            Event(f"%{told['hlo_op']}", event.start_ns, event.start_ns + event.duration_ns)
            for line in lines
            for event in line.events
            if "hlo_op" in (told := dict(event.stats)) and told.get("hlo_module") == program
        ]


def operations_of(program: Program, variants: Sequence[str], events: Iterable[Event], steps: int) -> list[Operation]:
    """What a program ran in so many steps, the longest first."""
    taken: dict[str, list[float]] = defaultdict(list)
    for event in events:
        taken[event.name].append(event.end - event.start)
    operations = [
        _operation(program, variants, program.instructions[name], spans, steps) for name, spans in taken.items()
    ]
    return sorted(operations, key=lambda operation: operation.seconds, reverse=True)


def _operation(
    program: Program, variants: Sequence[str], instruction: Instruction, spans: Sequence[float], steps: int
) -> Operation:
    calls = len(spans) / steps
    source = hlo.source(instruction)
    return Operation(
        instruction.name,
        part_of(source, variants),
        kind_of(program, instruction),
        source,
        1e-9 * calls * median(spans),
        calls,
        calls * traffic.bytes_of(program, instruction),
    )


def part_of(source: str, variants: Sequence[str]) -> str:
    """Of a step, by the scopes that an operation was traced in: a variant's forward or backward pass, the signal stage,
    the descent, or the rest. Derivatives written out have no mark of their own."""
    for variant in variants:
        if variant in source:
            forward = "jvp(" in source and "transpose(" not in source
            return f"{variant} {'forward' if forward else 'backward'}"
    return next((scope for scope in (FEATURES, HEAD, UPDATE) if scope in source), "rest")


def kind_of(program: Program, instruction: Instruction) -> str:
    """The heaviest work in an operation."""
    words = {*_words(program, instruction)} - _SILENT
    for kind, pattern in _KINDS:
        matching = {word for word in words if pattern.match(word)}
        if matching and (kind != "copy" or matching == words):
            return kind
    return _ELEMENTWISE


def _words(program: Program, instruction: Instruction) -> Iterator[str]:
    """What kinds of instruction an operation is made of; of a call to a library what it is called."""
    if instruction.kind == "fusion":
        for line in program.computations[instruction.called[0]]:
            yield from _words(program, line)
    elif _GROUPED.search(instruction.settings):
        yield "grouped-convolution"
    elif instruction.kind == "custom-call":
        yield from (f"call {target}" for target in _TARGET.findall(instruction.settings))
    else:
        yield instruction.kind


def busy(events: Iterable[Event]) -> float:
    """Nanoseconds in which anything ran."""
    total, until = 0.0, float("-inf")
    for event in sorted(events, key=lambda event: event.start):
        total += max(0.0, event.end - max(event.start, until))
        until = max(until, event.end)
    return total


def _summed(operations: Sequence[Operation], group: Callable[[Operation], str]) -> dict[str, dict[str, float]]:
    """Milliseconds and bytes of each group, the longest first."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: {"ms": 0.0, "bytes": 0.0})
    for operation in operations:
        of_group = sums[group(operation)]
        of_group["ms"] += 1e3 * operation.seconds
        of_group["bytes"] += operation.bytes
    return dict(sorted(sums.items(), key=lambda item: item[1]["ms"], reverse=True))


def _as_json(operation: Operation) -> dict[str, Any]:
    return {
        "name": operation.name,
        "part": operation.part,
        "kind": operation.kind,
        "source": operation.source,
        "ms": 1e3 * operation.seconds,
        "calls": operation.calls,
        "bytes": operation.bytes,
    }
