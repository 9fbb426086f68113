"""The process of `asdjax` and `python -m asdjax`. It restarts itself with huge pages before heavy imports."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

from asdjax.runtime import interrupts
from asdjax.runtime.huge_pages import use_huge_pages


def command() -> NoReturn:
    """Run the command line and end with its exit code."""
    interrupts.end_at_once()
    _open_closed_streams()
    use_huge_pages()
    run: Callable[[], NoReturn] = import_module("asdjax.cli.main").command  # only now, in the process with huge pages
    run()


def _open_closed_streams() -> None:
    """Replace standard streams that the caller closed, as by `>&-`, with the null device."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (open as long as the process)


if __name__ == "__main__":
    command()
