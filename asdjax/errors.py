"""Exceptions with a meaning for the user; the command line prints their message and ends with their exit code."""


class InputError(Exception):
    """Bad usage, configuration or data; exit code 2.

    The message is one line: "<file or field>: expected ..., got ...; do ...". The disk is left as it was, or, if space
    ran out during the work, with every file that was complete by then.
    """


class Interrupted(Exception):
    """End requested by a signal, with everything saved; running the command again resumes it. Exit code 75."""


class Diverged(Exception):
    """Loss that is NaN or infinite; the last checkpoint remains. Exit code 1."""


def summarize(error: Exception) -> str:
    """Return the first line of an error's message, or the error's class name if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
