"""Exceptions with a meaning for the user; the command line prints their message and ends with their exit code."""

from collections.abc import Sequence


class InputError(Exception):
    """Bad usage, configuration or data; exit code 2.

    The message is one line: "<file or field>: expected ..., got ...; do ...". The disk is left as it was, or, if space
    ran out during the work, with every file that was complete by then.
    """


class InUse(InputError):
    """Folder in which another asdjax process is at work."""


class NoSpace(InputError):
    """Full disk or full quota."""


class Removed(InputError):
    """Folder that was removed while a process works in it."""


class Interrupted(Exception):
    """Work left to do: a signal stopped it with everything saved, or another process is at work on it. Exit code 75.

    Running the command again does the rest.
    """


class Diverged(Exception):
    """Loss that is NaN or infinite; the last checkpoint remains. Exit code 3, as the same seed diverges again.

    `run` is the name of the run, "" for a baseline.
    """

    def __init__(self, message: str, run: str = "") -> None:
        super().__init__(message)
        self.run = run


def summarize(error: Exception) -> str:
    """Return the first line of an error's message, or the error's class name if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def name_nearest(names: Sequence[str]) -> str:
    """Return the end of an error that names the known words nearest to an unknown one."""
    return f"the nearest {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
