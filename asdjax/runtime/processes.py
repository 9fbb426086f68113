"""The processes of one program: how they start, agree and end. Skip it unless you train on several hosts at once.

The first process writes all files; the others compute their share of every batch. They agree through the coordination
service of JAX, which the first process runs: it waits as long as the others live, while a collective operation on
devices gives up soon. A process without others agrees with itself at once.

All processes must ask the same questions in the same order, from their main threads.
"""

import itertools
import json
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import jax

from asdjax import errors
from asdjax.errors import InputError
from asdjax.runtime import progress

#: Seconds without a sign of life after which the other processes end.
HEARTBEAT_S = 60

# patience for the start of all processes, and for the end of the others
_START_S, _END_S = 300, 30

_SECONDS_BETWEEN_LINES = 20.0

_questions = itertools.count()


def start(processes: int | None, process: int | None, coordinator: str | None) -> None:
    """Join the program; without arguments a batch system or a TPU pod tells JAX who the others are.

    `coordinator` is the first process's host:port. Raises InputError if the processes do not find each other.
    """
    jax.config.update("jax_enable_preemption_service", False)  # it would hear SIGTERM in our place
    if coordinator:
        progress.log(f"waiting up to {_START_S} s for all {processes} processes at {coordinator}")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=_START_S,
            heartbeat_timeout_seconds=HEARTBEAT_S,
            cluster_detection_method=None if processes is None else "deactivate",
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"--processes {processes or 'auto'}: expected that all processes find each other, got: "
            f"{errors.summarize(error)}; give --processes, --process and --coordinator to each"
        ) from error
    own = _state().process_id  # jax.process_index() would begin the devices, which are set up later
    if own:
        progress.silence(f"process {own}: ")


def count() -> int:
    """Return the number of processes of the program."""
    return jax.process_count()


def is_first() -> bool:
    """Return whether this process writes the files of the program."""
    return jax.process_index() == 0


def gather(what: str, value: Any = None) -> list[Any]:
    """Return the JSON values of all processes, in their order; `what` names what is waited for."""
    if count() == 1:
        return [value]
    key = f"asdjax/{next(_questions)}"
    _publish(f"{key}/{jax.process_index()}", value)
    return [_await(f"{key}/{i}", i, what) for i in range(count())]


def decide[Value](what: str, compute: Callable[[], Value]) -> Value:
    """Return the JSON value that the first process computes. An asdjax error of it is raised in all processes."""
    if count() == 1:
        return compute()
    key = f"asdjax/{next(_questions)}"
    if not is_first():
        outcome = _await(key, 0, what)
        if "error" in outcome:
            raise getattr(errors, outcome["error"])(outcome["message"])
        return outcome["value"]
    try:
        value = compute()
    except (errors.InputError, errors.Interrupted, errors.Diverged) as error:
        _publish(key, {"error": type(error).__name__, "message": str(error)})
        raise
    _publish(key, {"value": value})
    return value


def leave(*, wait: bool) -> None:
    """Leave the program before the process ends: the others would take a process that is gone for a lost one.

    With `wait` it waits for the others to leave too, which they do if the program has ended.
    """
    if not jax.distributed.is_initialized() or count() == 1:
        return
    with suppress(Exception):  # the others may be lost; the exit code tells what became of this process
        _state().client.wait_at_barrier("asdjax/end", 1000 * (_END_S if wait else 1))
        jax.distributed.shutdown()


def compile_together(function: Any) -> Callable:
    """Return a jitted function whose programs all processes compile before any of them runs one.

    A process that runs a program waits for the others in its collective operations, and gives up after half a minute.
    """
    if count() == 1:
        return function
    compiled: dict[Any, Callable] = {}

    def call(*arguments: Any) -> Any:
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arguments))
        if shapes not in compiled:
            program = function.lower(*arguments).compile()
            gather("compiling")
            compiled[shapes] = program
        return compiled[shapes](*arguments)

    return call


def _state() -> Any:
    """Return JAX's part in the coordination service, for which it has no public name."""
    from jax._src import distributed

    return distributed.global_state


def _publish(key: str, value: Any) -> None:
    _state().client.key_value_set(key, json.dumps(value))


def _await(key: str, process: int, what: str) -> Any:
    """Return the value of a key as soon as a process has published it. Lost processes end this one."""
    begun = monotonic()
    while True:
        try:
            return json.loads(_state().client.blocking_key_value_get(key, int(1000 * _SECONDS_BETWEEN_LINES)))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        progress.report(f"waiting for process {process} ({what}) since {monotonic() - begun:.0f} s")
