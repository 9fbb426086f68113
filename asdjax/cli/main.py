"""The command line `asdjax <command>`: arguments, errors and exit codes.

Each module `commands_<group>` adds its commands: their flags, then one call. JAX is imported by that call, so that
--help is fast.
"""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn

from asdjax import __version__
from asdjax.cli import (
    commands_accept,
    commands_bench,
    commands_data,
    commands_demo,
    commands_deploy,
    commands_evaluate,
    commands_listen,
    commands_plan,
    commands_train,
    console,
)
from asdjax.cli.console import BAD_INPUT, DIVERGED, DONE, FAILED
from asdjax.errors import Diverged, InputError, Interrupted, InUse, name_nearest, summarize
from asdjax.runtime.files import DISK_ERRORS, explain_refusal
from asdjax.runtime.interrupts import AGAIN, STOPPED, handle_signals, ignore_signals, stop_requested
from asdjax.runtime.progress import log, report

#: In the order of --help.
_COMMANDS = (
    commands_demo.add_demo,
    commands_data.add_synthesize,
    commands_data.add_download,
    commands_data.add_check,
    commands_plan.add_plan,
    commands_train.add_parts,
    commands_train.add_train,
    commands_train.add_status,
    commands_evaluate.add_evaluate,
    commands_evaluate.add_compare,
    commands_deploy.add_score,
    commands_listen.add_listen,
    commands_accept.add_accept,
    commands_evaluate.add_report,
    commands_deploy.add_export,
    commands_evaluate.add_metrics,
    commands_bench.add_bench,
)

# patience for the other processes of a program at its end, in which they save, and after an error
_END_S, _FAILED_END_S = 30.0, 5.0

_OVERRIDE = "--config."
_LINE_BREAK = re.compile(r"\s*\n\s*")


def command() -> NoReturn:
    """Run `main` and exit at once. Python's own exit is slow, and a signal during it would change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # file names may not be valid in the terminal's encoding
    with handle_signals():
        code = FAILED
        try:
            code = main()
        finally:  # with --debug an error is raised
            _leave_program(code)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def _leave_program(code: int) -> None:
    """Leave the other processes of the program, if there are any: JAX takes one that only ends for a lost one."""
    if "jax" in sys.modules:
        from asdjax.runtime import processes

        if processes.count() > 1:
            ignore_signals()  # the exit code is settled
            processes.leave(wait_s=_END_S if code in (DONE, STOPPED) else _FAILED_END_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `arguments` default to those of the process."""
    parser = _make_parser()
    words, overrides = _split_overrides(parser, sys.argv[1:] if arguments is None else arguments)
    _require_known_command(parser, words)
    _require_known_flags(parser, words)
    options = parser.parse_args(words)
    if overrides and not options.configurable:
        parser.error(f"{_OVERRIDE}{next(iter(overrides))}: {options.command} takes no configuration")
    options.overrides = overrides
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's log lines would break the progress bar
    try:
        with handle_signals():
            return _run(options)
    except InUse as busy:
        return _fail(options, str(busy), STOPPED)
    except InputError as error:
        return _fail(options, str(error), BAD_INPUT)
    except Interrupted as stopped:
        return _fail(options, str(stopped), STOPPED)
    except Diverged as diverged:
        return _fail(options, str(diverged), DIVERGED)
    except OSError as error:
        advice = explain_refusal(error, "the disk", DISK_ERRORS)
        return _fail(options, str(advice), BAD_INPUT) if advice else _fail(options, _describe(error), FAILED)
    except Exception as error:  # a fault of asdjax or of a library: one line here, its traceback with --debug
        return _fail(options, _describe(error), FAILED)


def _run(options: argparse.Namespace) -> int:
    """Run the command. After a stop signal every error counts as the stop, since disks may be unmounted by then."""
    try:
        return options.run(options)
    except Interrupted:
        raise
    except Exception as error:  # of any kind: what fails once a machine is being shut down cannot be listed
        if not stop_requested():
            raise
        raise Interrupted(f"stopped; {summarize(error)}; {AGAIN}") from error


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error} (--debug shows where)"


def _fail(options: argparse.Namespace, message: str, code: int) -> int:
    """Log one line and return the exit code. With --debug, raise the current exception instead."""
    if options.debug:
        raise
    report(f"asdjax {options.command}: {_LINE_BREAK.sub(' ', message.strip())}")
    return code


def _split_overrides(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Separate --config.FIELD=VALUE and --config.FIELD VALUE from the other words."""
    words, overrides = [], {}
    remaining = iter(arguments)
    for word in remaining:
        if not word.startswith(_OVERRIDE):
            words.append(word)
            continue
        field, equals, value = word.removeprefix(_OVERRIDE).partition("=")
        if not equals:
            value = next(remaining, "--")
            if value.startswith("--"):
                parser.error(f"{_OVERRIDE}{field}: expected a value, got none")
        overrides[field] = value
    return words, overrides


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Log what is wrong, and end with the exit code for wrong usage."""
        log(f"{self.prog}: {_LINE_BREAK.sub(' ', message)}; {self.prog} --help lists what it takes")
        raise SystemExit(BAD_INPUT)


def _require_known_flags(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """End with an error that names the first unknown flag and the nearest known ones.

    argparse would first complain of a required flag, which is the one that was misspelt.
    """
    for word in words:
        flags, commands = parser._option_string_actions, parser._subparsers
        if word == "--":
            return
        flag = word.partition("=")[0]
        if word.startswith("--") and flag not in flags:
            near = difflib.get_close_matches(flag, flags, n=2, cutoff=0.65) or sorted(set(flags) - {"-h"})
            parser.error(f"{flag}: no such flag; {name_nearest(near)}")
        for action in commands._group_actions if commands else ():
            parser = (action.choices or {}).get(word, parser) if isinstance(action.choices, dict) else parser


def _require_known_command(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """End with an error that names the nearest commands if the first word behind the general flags is like them."""
    subparsers = parser._subparsers
    commands = {name for action in subparsers._group_actions for name in action.choices or ()} if subparsers else set()
    word = next((word for word in words if word not in parser._option_string_actions), "")
    near = difflib.get_close_matches(word, commands, n=2)
    if word not in commands and near:
        parser.error(f"{word}: no such command; {name_nearest(near)}")


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="asdjax",
        allow_abbrev=False,
        description="Detect machine faults by sound, trained on normal recordings only.",
        epilog="Exit codes: 0 done; 2 bad usage, configuration or data; 3 a training diverged; 75 stopped by SIGTERM "
        "or Ctrl-C, a closed terminal or a batch system, or another process is at work on the same (run the command "
        "again to go on); 1 any other error.",
    )
    console.add_debug(parser, default=False)
    parser.add_argument("--version", action="version", version=f"asdjax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for add in _COMMANDS:
        add(commands)
    return parser
