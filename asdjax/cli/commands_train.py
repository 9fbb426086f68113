"""From a corpus to a work directory."""

import argparse
import shlex
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import DONE


def add_train(commands: Any) -> None:
    """Add `asdjax train` to the commands of the parser."""
    parser = console.add_command(
        commands, "train", _train, "train every machine type's fleet; goes on where an earlier run ended"
    )
    console.add_config(parser)
    parser.add_argument("--workdir", type=console.path, required=True, metavar="W")


def _train(options: argparse.Namespace) -> int:
    from asdjax.config import loading

    config = loading.load(options.config, options.overrides)

    from asdjax.runtime import jax_setup
    from asdjax.training.train import train

    jax_setup.prepare()
    train(config, options.workdir)
    console.write(f"trained; next: asdjax evaluate --workdir {shlex.quote(str(options.workdir))}")
    return DONE
