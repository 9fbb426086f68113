"""Command `plan`: memory and time of a training, before it is paid for."""

import argparse
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import BAD_INPUT, DONE


def add_plan(commands: Any) -> None:
    """Add `asdjax plan`."""
    parser = console.add_command(
        commands, "plan", _plan, "estimate memory, FLOPs and time of a training on other devices"
    )
    parser.epilog = (
        "The training step is compiled for the devices, which need not be present; nothing is run. The exit code is 2 "
        "if the step does not fit their memory. For absent GPUs (h200, h100, a100) kernels are not tuned, and cuDNN's "
        "scratch memory is left out."
    )
    console.add_config(parser)
    parser.add_argument(
        "--devices",
        required=True,
        metavar="D",
        help="v5e:4x4, v5p:2x2x1, v6e:1x1, ..., h200:N, h100:N, a100:N, gpu:N, cpu:N",
    )
    parser.add_argument("--json", type=console.parse_path, metavar="F", help="also write the result as JSON")


def _plan(options: argparse.Namespace) -> int:
    from asdjax.config import loading

    if options.json:
        console.require_writable(options.json)
    config = loading.load(options.config, options.overrides)

    from asdjax.perf.plan import plan
    from asdjax.perf.plan_table import of_plan
    from asdjax.runtime import jax_setup

    jax_setup.pin_numbers()  # must not look for devices: that starts JAX, and the plan still has to choose the platform
    found = plan(config, options.devices)
    console.write(of_plan(found))
    if options.json:
        console.write_json(options.json, found)
    return BAD_INPUT if found["memory"]["fits"] is False else DONE
