"""Everything at once, small."""

import argparse
from pathlib import Path
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import DONE


def add_demo(commands: Any) -> None:
    """Add `asdjax demo` to the commands of the parser."""
    parser = console.add_command(
        commands, "demo", _demo, "synthesize small machines, train six variants in both phases, evaluate"
    )
    parser.add_argument("--workdir", type=console.path, default=Path("asdjax-demo"), help="default: %(default)s")


def _demo(options: argparse.Namespace) -> int:
    from asdjax.cli.demo_run import demo

    console.write(demo(options.workdir, console.width()))
    return DONE
