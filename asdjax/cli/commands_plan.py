"""Command `plan`: memory and time of a training, before it is paid for."""

import argparse
import math
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import BAD_INPUT, DONE
from asdjax.errors import InputError


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
    parser.add_argument(
        "--fleets",
        type=console.parse_count,
        metavar="N",
        help="plan for a pool: N fleets in parts, a device for each part; h200:512 is a pool also without this",
    )
    parser.add_argument(
        "--step-ms",
        type=_parse_ms,
        metavar="MS",
        help="measured time of one fleet's step, for a pool (bench train)",
    )
    parser.add_argument("--json", type=console.parse_path, metavar="F", help="also write the result as JSON")


def _parse_ms(text: str) -> float:
    try:
        if 0 < float(text) < math.inf:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected milliseconds above 0, got {text!r}")


def _plan(options: argparse.Namespace) -> int:
    from asdjax.config import loading

    if options.json:
        console.require_writable(options.json)
    config = loading.load(options.config, options.overrides)

    from asdjax.perf.plan import plan
    from asdjax.perf.plan_pool import plan_pool
    from asdjax.perf.plan_table import format_plan
    from asdjax.perf.targets import is_pool
    from asdjax.runtime import jax_setup

    jax_setup.pin_numbers()  # must not look for devices: that starts JAX, and the plan still has to choose the platform
    if options.fleets or is_pool(options.devices):
        step_s = options.step_ms and options.step_ms / 1e3
        found = plan_pool(config, options.devices, options.fleets, step_s)
    elif options.step_ms:
        raise InputError("step-ms: expected a pool, got devices of one training; give --fleets too, or leave it out")
    else:
        found = plan(config, options.devices)
    console.write(format_plan(found))
    if options.json:
        console.write_json(options.json, found)
    return BAD_INPUT if found["memory"]["fits"] is False else DONE
