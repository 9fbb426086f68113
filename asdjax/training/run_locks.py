"""RunLocks: a lock on the folder of each run that a process trains."""

import resource
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from asdjax.errors import InUse
from asdjax.runtime.files import locked_folder

# files that a training may have open besides its locks
_OTHER_FILES = 512


class RunLocks:
    """Locks of some runs; each is held until its run is released, or to the end of the `with` block."""

    def __init__(self) -> None:
        self._held: dict[str, ExitStack] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stack in reversed(self._held.values()):
            stack.__exit__(kind, error, trace)
        self._held.clear()

    def take(self, workdir: Path, names: Sequence[str]) -> dict[str, InUse]:
        """Lock the folders of runs, made if missing; return the error of those that another process has locked."""
        _allow_open_files(len(names) + _OTHER_FILES)
        busy = {}
        for name in names:
            stack = ExitStack()
            try:
                stack.enter_context(locked_folder(workdir / name, wait=False))
            except InUse as error:
                busy[name] = error
            else:
                self._held[name] = stack
        return busy

    def release(self, names: Iterable[str], error: Exception | None = None) -> None:
        """Release the locks of runs; after an error, folders that were made for them are removed if they are empty."""
        for name in names:
            with suppress(type(error)) if error else nullcontext():
                self._held.pop(name).__exit__(type(error) if error else None, error, None)


def _allow_open_files(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number and soft != resource.RLIM_INFINITY:
        most = number if hard == resource.RLIM_INFINITY else min(number, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
