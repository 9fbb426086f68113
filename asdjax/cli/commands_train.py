"""Command `train`: a corpus becomes a work directory of trained models."""

import argparse
import shlex
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import DONE


def add_train(commands: Any) -> None:
    """Add `asdjax train`."""
    parser = console.add_command(
        commands, "train", _train, "train a fleet for every machine type, or resume an earlier training"
    )
    console.add_config(parser)
    console.add_workdir(parser)


def _train(options: argparse.Namespace) -> int:
    from asdjax.api import train

    train(options.config, workdir=options.workdir, overrides=options.overrides)
    console.write(f"trained; next: asdjax evaluate --workdir {shlex.quote(str(options.workdir))}")
    return DONE
