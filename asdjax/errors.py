"""The one exception that means: the user can mend this."""


class InputError(Exception):
    """Bad usage, configuration or data.

    The message is one line: the file or field, what was expected, what came, what to do. The command line
    prints it and exits with code 2. On disk is what was there before, or where space ran out amid the work, what was
    whole by then.
    """


class Stopped(Exception):
    """A signal asked for the end, and everything is saved: running the command again goes on. Exit code 75."""


class Diverged(Exception):
    """A loss that is no number; the last checkpoint stands. Exit code 1."""


def reason_of(error: Exception) -> str:
    """The first line of what a library's error says; its name where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
