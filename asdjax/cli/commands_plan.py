"""What a training would take elsewhere."""

import argparse
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import BAD_INPUT, DONE


def add_plan(commands: Any) -> None:
    """Add `asdjax plan` to the commands of the parser."""
    parser = console.add_command(
        commands, "plan", _plan, "compile the training step for other devices: memory, FLOPs, roofline"
    )
    parser.epilog = (
        "Nothing is run, and the devices need not be here; exit code 2 where the step does not fit them. For GPUs that "
        "are not here (h200, h100, a100) nothing is tuned, and cuDNN's scratch memory is left out."
    )
    console.add_config(parser)
    parser.add_argument(
        "--devices",
        required=True,
        metavar="D",
        help="v5e:4x4, v5p:2x2x1, v6e:1x1, ..., h200:N, h100:N, a100:N, gpu:N, cpu:N",
    )
    parser.add_argument("--json", type=console.path, metavar="F", help="write the same as JSON")


def _plan(options: argparse.Namespace) -> int:
    from asdjax.config import loading

    if options.json:
        console.require_writable(options.json)
    config = loading.load(options.config, options.overrides)

    from asdjax.perf.plan import plan
    from asdjax.perf.plan_table import format_plan
    from asdjax.runtime import jax_setup

    jax_setup.pin_numbers()  # no look for devices: the plan chooses the platform, which holds once JAX has begun
    found = plan(config, options.devices)
    console.write(format_plan(found))
    if options.json:
        console.write_json(options.json, found)
    return BAD_INPUT if found["memory"]["fits"] is False else DONE
