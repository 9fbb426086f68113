"""What all commands share towards whoever typed them: a parser, what is printed, a file of JSON, exit codes."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asdjax.errors import InputError
from asdjax.runtime.files import replace_text
from asdjax.runtime.paths import composed, given
from asdjax.runtime.progress import shown

DONE, FAILED, BAD_INPUT = 0, 1, 2
"""Exit codes; asdjax.runtime.interrupts has the one of an end by a signal."""

_CONFIG = "a .py file with get_config(), or dcase2021, own_machines, demo; --config.FIELD=VALUE overrides a field"


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    """The parser of a new command, to add arguments to; `run` takes what was parsed and returns the exit code."""
    description = what[0].upper() + what[1:] + "."
    parser = commands.add_parser(name, help=what, description=description, allow_abbrev=False)
    add_debug(parser, default=argparse.SUPPRESS)  # which may stand before the command too
    parser.set_defaults(run=run, configurable=False)
    return parser


def add_debug(parser: argparse.ArgumentParser, *, default: Any) -> None:
    """--debug."""
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")


def add_config(parser: argparse.ArgumentParser) -> None:
    """--config C, and --config.FIELD=VALUE with it."""
    parser.add_argument("--config", required=True, metavar="C", help=_CONFIG)
    parser.set_defaults(configurable=True)


def names(text: str) -> tuple[str, ...]:
    """Read an argument of the form A,B."""
    return tuple(composed(word.strip()) for word in text.split(",") if word.strip())


def name(text: str) -> str:
    """Read the name of a machine type or section."""
    return composed(text)


def path(text: str) -> Path:
    """Read a path, as `paths.given` takes it."""
    try:
        return given(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def width() -> int:
    """Characters in a line of the terminal."""
    return shutil.get_terminal_size().columns


def write(text: str) -> bool:
    """Print to stdout. Return False if the reader closed the pipe."""
    try:
        print(shown(text, sys.stdout), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def require_writable(path: Path) -> None:
    """See that the file of --json can be written, not only after minutes of work.

    Raises InputError where it cannot.
    """
    if str(path) == "-":
        raise InputError("--json -: expected a file's name; /dev/stdout prints it")
    place = path if _in_place(path) else path.parent
    if path.is_dir() or not place.exists() or not os.access(place, os.W_OK):
        raise InputError(f"--json {path}: cannot be written; choose another place")


def write_json(path: Path, content: Any) -> None:
    """The file of --json; whoever reads it meanwhile sees it whole.

    Raises InputError where it cannot be written.
    """
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    try:
        if _in_place(path):
            path.write_text(text)
        else:
            replace_text(path, text)
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written ({error.strerror}); choose another place") from error


def _in_place(path: Path) -> bool:
    """Whether it is written where it is: a pipe or terminal, or what a link such as /dev/stdout leads to."""
    return path.is_symlink() or (path.exists() and not path.is_file())
