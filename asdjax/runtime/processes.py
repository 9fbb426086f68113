"""The processes of one program: their start, their agreement and their end.

Skip it unless you train on several hosts at once.

The first process writes all files; the others compute their share of every batch. They agree through the coordination
service of JAX, which the first process runs: it waits as long as the others live, while a collective operation on
devices gives up soon. A process without others agrees with itself at once.

All processes must ask the same questions in the same order, from their main threads.
"""

import itertools
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import jax

from asdjax import errors
from asdjax.errors import InputError
from asdjax.runtime import progress
from asdjax.runtime.files import DISK_ERRORS, explain_refusal

#: Seconds without a sign of life after which the other processes end.
HEARTBEAT_S = 60

# patience for the start of all processes
_START_S = 300

_SECONDS_BETWEEN_LINES = 20.0
_SECONDS_BETWEEN_LOOKS = 1.0  # for the error of another process

_questions, _blocks = itertools.count(), itertools.count()
_error_key = ""  # of the error that ends the present block of `sharing_errors`


def start(processes: int | None, process: int | None, coordinator: str | None) -> None:
    """Join the program; without arguments JAX finds out who the others are, as on a TPU pod.

    `coordinator` is the first process's host:port. Raises InputError if its port is in use, or if nothing says who the
    others are. JAX ends the process with 134 if the others do not come.
    """
    if process:
        progress.silence(f"process {process}: ")
    if coordinator:
        if process == 0:
            _require_free_port(coordinator)
        progress.log(f"waiting up to {_START_S} s for all {processes} processes at {coordinator}")
    jax.config.update("jax_enable_preemption_service", False)  # it would get SIGTERM in our place
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
            f"--processes auto: expected that JAX finds the other processes, got: {errors.summarize(error)}; give "
            "--processes, --process and --coordinator to each"
        ) from error
    if not is_first():
        progress.silence(f"process {index()}: ")


def _require_free_port(coordinator: str) -> None:
    port = int(coordinator.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise InputError(
                f"--coordinator {coordinator}: expected a free port, got one that cannot be used ({error.strerror}); "
                "choose another for all processes"
            ) from error


def count() -> int:
    """Return the number of processes of the program."""
    return _state().num_processes or 1


def index() -> int:
    """Return the number of this process, from 0."""
    return _state().process_id or 0


def is_first() -> bool:
    """Return whether this process writes the files of the program."""
    return index() == 0


def require_alone(command: str) -> None:
    """Raise InputError if this is one of several processes of a program."""
    if count() > 1:
        raise InputError(f"{command}: expected one process, got {count()} of one program; run it in one of its own")


def gather(what: str, value: Any = None) -> list[Any]:
    """Return the JSON values of all processes, in their order; `what` names what is waited for.

    Raises the error of a process that failed, see `sharing_errors`.
    """
    if count() == 1:
        return [value]
    key = f"asdjax/{next(_questions)}"
    _publish(f"{key}/{index()}", value)
    return [_await(f"{key}/{i}", i, what) for i in range(count())]


def decide[Value](what: str, compute: Callable[[], Value]) -> Value:
    """Return the JSON value that the first process computes; raises as `gather`."""
    if count() == 1:
        return compute()
    key = f"asdjax/{next(_questions)}"
    if not is_first():
        return _await(key, 0, what)
    value = compute()
    _publish(key, value)
    return value


@contextmanager
def sharing_errors() -> Iterator[None]:
    """Raise an error of the block also in the other processes, when they wait for this one."""
    global _error_key
    _error_key = f"asdjax/error/{next(_blocks)}"
    try:
        yield
    except _Received as received:
        raise received.error from None
    except Exception as error:
        if count() == 1:
            raise
        expected = isinstance(error, errors.InputError | errors.Interrupted | errors.Diverged)
        if not expected and (cause := _read_error()):  # the loss of the other process followed from its error
            raise cause from None
        if isinstance(error, OSError):
            error = explain_refusal(error, "the disk", DISK_ERRORS) or error
        with suppress(Exception):  # the first error counts, and the coordinator may be lost
            _publish(_error_key, {"process": index(), "kind": type(error).__name__, "message": str(error)})
        raise


class _Received(Exception):
    """An error of another process."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def leave(*, wait_s: float) -> None:
    """Leave the program before the process ends, as JAX takes a process that is gone for a lost one.

    It waits for the others to leave too, which they do if the program has ended for all.
    """
    if count() == 1:
        return
    with suppress(Exception):  # the others may be lost; the exit code is settled
        _state().client.wait_at_barrier("asdjax/end", int(1000 * wait_s))
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
    """Return the value of a key as soon as a process has published it. JAX ends this process if another one is lost."""
    begun = logged = monotonic()
    while True:
        try:
            return json.loads(_state().client.blocking_key_value_get(key, int(1000 * _SECONDS_BETWEEN_LOOKS)))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        if error := _read_error():
            raise _Received(error)
        if monotonic() - logged >= _SECONDS_BETWEEN_LINES:
            logged = monotonic()
            progress.log(f"waiting for process {process} ({what}) for {logged - begun:.0f} s")


def _read_error() -> Exception | None:
    """Return the error that another process has published, if there is one."""
    try:
        other = json.loads(_state().client.key_value_try_get(_error_key))
    except jax.errors.JaxRuntimeError:
        return None
    kind = getattr(errors, other["kind"], RuntimeError)
    return kind(f"process {other['process']}: {other['message']}")
