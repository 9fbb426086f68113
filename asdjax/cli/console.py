"""Shared parts of all commands: parsers of arguments, printing, the file of --json, exit codes."""

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
from asdjax.runtime.paths import compose, resolve_path
from asdjax.runtime.progress import escape_unencodable

#: Exit codes. `asdjax.runtime.interrupts` defines the code for a stop by a signal.
DONE, FAILED, BAD_INPUT, DIVERGED = 0, 1, 2, 3

_CONFIG = "a .py file with get_config(), or dcase2021, own_machines, demo; --config.FIELD=VALUE overrides a field"


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    """Add a command and return its parser. `run` takes the parsed options and returns the exit code."""
    description = summary[0].upper() + summary[1:] + "."
    parser = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
    add_debug(parser, default=argparse.SUPPRESS)  # keeps a --debug given before the command
    parser.set_defaults(run=run, configurable=False)
    return parser


def add_debug(parser: argparse.ArgumentParser, *, default: Any) -> None:
    """Add --debug."""
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config C and allow --config.FIELD=VALUE."""
    parser.add_argument("--config", required=True, metavar="C", help=_CONFIG)
    parser.set_defaults(configurable=True)


def add_workdir(parser: argparse.ArgumentParser) -> None:
    """Add --workdir W."""
    parser.add_argument("--workdir", type=parse_path, required=True, metavar="W", help="the work directory of the run")


def add_run_choice(parser: argparse.ArgumentParser) -> None:
    """Add --part I/N and --only A,B, which choose some runs."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--part",
        type=parse_part,
        default=(0, 1),
        metavar="I/N",
        help="part I of N of the runs, I from 0; parts work in the same work directory, also at once",
    )
    choice.add_argument(
        "--only", type=parse_names, default=(), metavar="RUN,RUN", help="some runs, by the names of their folders"
    )


def parse_part(text: str) -> tuple[int, int]:
    """Parse an argument of the form I/N."""
    first, slash, number = text.partition("/")
    if slash and first.isdecimal() and number.isdecimal() and int(first) < int(number):
        return int(first), int(number)
    raise argparse.ArgumentTypeError(f"expected I/N with I from 0 to N - 1, got {text!r}")


def add_evaluated_split(parser: argparse.ArgumentParser) -> None:
    """Add --split for a command that reads an evaluation."""
    parser.add_argument("--split", choices=("dev", "eval"), help="default: dev if it was evaluated, else eval")


def parse_count(text: str) -> int:
    """Return a number from 1 on; argparse reports the error otherwise."""
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text!r}")


def parse_names(text: str) -> tuple[str, ...]:
    """Parse an argument of the form A,B."""
    return tuple(compose(word.strip()) for word in text.split(",") if word.strip())


def parse_name(text: str) -> str:
    """Parse the name of a machine type or section."""
    return compose(text)


def parse_path(text: str) -> Path:
    """Parse a path. `asdjax.runtime.paths.resolve_path` documents the accepted forms."""
    try:
        return resolve_path(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def terminal_width() -> int:
    """Return the number of characters in a line of the terminal."""
    return shutil.get_terminal_size().columns


def write(text: str) -> bool:
    """Print to stdout. Return False if the reader closed the pipe."""
    try:
        print(escape_unencodable(text, sys.stdout), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def require_writable(path: Path) -> None:
    """Raise InputError if the file of --json cannot be written. Call it before the work begins."""
    if str(path) == "-":
        raise InputError("--json -: expected a file name, got -; use /dev/stdout to print")
    place = path if _is_written_in_place(path) else path.parent
    if path.is_dir() or not place.exists() or not os.access(place, os.W_OK):
        raise InputError(f"--json {path}: cannot be written; choose another place")


def write_json(path: Path, content: Any) -> None:
    """Write the file of --json. A regular file is replaced at once, so that readers never see half of it.

    Raises InputError if the file cannot be written.
    """
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    try:
        if _is_written_in_place(path):
            path.write_text(text)
        else:
            replace_text(path, text)
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written ({error.strerror}); choose another place") from error


def _is_written_in_place(path: Path) -> bool:
    """Return True for a pipe, a terminal, or a link such as /dev/stdout. None of them can be replaced by a file."""
    return path.is_symlink() or (path.exists() and not path.is_file())
