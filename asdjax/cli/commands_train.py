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
    from asdjax.config import loading

    config = loading.load(options.config, options.overrides)

    from asdjax.runtime import jax_setup
    from asdjax.training.train import train

    jax_setup.prepare()
    train(config, options.workdir)
    console.write(f"trained; next: asdjax evaluate --workdir {shlex.quote(str(options.workdir))}")
    return DONE
