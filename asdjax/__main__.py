"""`asdjax`, and `python -m asdjax`: the process starts again with huge pages before anything else is imported."""

import os
import sys
from typing import NoReturn

from asdjax.runtime import interrupts
from asdjax.runtime.huge_pages import use_huge_pages


def command() -> NoReturn:
    """Run the command line and end with its exit code."""
    interrupts.end_at_once()
    _open_closed_streams()
    use_huge_pages()
    from asdjax.cli import main

    main.command()


def _open_closed_streams() -> None:
    """Give what was started with standard streams closed, as by `>&-`, empty ones."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (for as long as the process lives)


if __name__ == "__main__":
    command()
