"""RunLocks: a lock on the folder of each run that a process trains."""

import resource
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from asdjax.errors import InputError, NoSpace
from asdjax.runtime.files import locked_folder

# files that a training may have open besides its locks, and those that it needs at least
_OTHER_FILES, _FEWEST_OTHER_FILES = 512, 64


class RunLocks:
    """Locks of some runs; each is held until its run is released, or to the end of the `with` block.

    Without `locks` nothing is locked: of a program of several processes one locks the runs.
    """

    def __init__(self, *, locks: bool = True) -> None:
        self._held: dict[str, ExitStack] = {}
        self._locks = locks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        all_held = ExitStack()
        for held in self._held.values():
            all_held.push(held)
        self._held.clear()
        all_held.__exit__(kind, error, trace)

    @property
    def names(self) -> list[str]:
        """Return the names of the runs that are locked."""
        return list(self._held)

    def take(self, workdir: Path, names: Sequence[str]) -> dict[str, InputError]:
        """Lock the folders of runs, made if missing; return the errors of those that cannot be locked, InUse or others.

        Raises InputError if the system does not allow as many open files, and NoSpace for a full disk.
        """
        if not self._locks:
            return {}
        _allow_open_files(len(names))
        errors = {}
        for name in names:
            stack = ExitStack()
            try:
                stack.enter_context(locked_folder(workdir / name, wait=False))
            except NoSpace:
                raise
            except InputError as error:
                errors[name] = error
            else:
                self._held[name] = stack
        return errors

    def release(self, names: Iterable[str]) -> None:
        """Release the locks of those runs that are locked."""
        for name in names:
            if name in self._held:
                self._held.pop(name).close()


def _allow_open_files(runs: int) -> None:
    """Raise the limit of open files for the locks of some runs, as far as the system allows it."""
    number = runs + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= number or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY:
        if hard < runs + _FEWEST_OTHER_FILES:
            raise InputError(
                f"{runs} runs: expected a limit of {number} open files, got {hard}; train them in parts (--part I/N), "
                "or raise it (ulimit -Hn)"
            )
        number = min(number, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
