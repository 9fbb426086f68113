"""Commands for training: `parts` and `train` before and while it runs, `status` at any time."""

import argparse
import json
import shlex
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import DONE

_MOST_PARTS_LISTED = 20


def add_parts(commands: Any) -> None:
    """Add `asdjax parts`."""
    parser = console.add_command(
        commands, "parts", _parts, "print a number N of parts for a pool of devices: train --part 0/N, 1/N, ..."
    )
    parser.epilog = "Standard output has the number alone. What each part holds is on standard error."
    console.add_config(parser)
    parser.add_argument(
        "--devices",
        type=console.parse_count,
        default=0,
        metavar="D",
        help="devices in the pool (default: a part a run)",
    )
    parser.add_argument("--json", type=console.parse_path, metavar="F", help="also write the runs of each part as JSON")


def _parts(options: argparse.Namespace) -> int:
    if options.json:
        console.require_writable(options.json)

    from asdjax.config import loading
    from asdjax.fleet.run_list import RunChoice, find_runs
    from asdjax.runtime.progress import log
    from asdjax.training.grouping import propose_parts

    config = loading.load(options.config, options.overrides)
    names = list(find_runs(config, None)[0].name_runs(config.seed))
    number = propose_parts(len(names), options.devices)
    parts = [RunChoice((i, number)).choose(names) for i in range(number)]
    for i, runs in enumerate(parts[:_MOST_PARTS_LISTED]):
        log(f"part {i}/{number}: {', '.join(runs)}")
    if number > _MOST_PARTS_LISTED:
        log(f"and {number - _MOST_PARTS_LISTED} more: --json lists all")
    if options.json:
        console.write_json(options.json, {"parts": number, "runs": parts})
    console.write(str(number))
    return DONE


def add_train(commands: Any) -> None:
    """Add `asdjax train`."""
    parser = console.add_command(
        commands, "train", _train, "train a fleet for every machine type, or resume an earlier training"
    )
    console.add_config(parser)
    console.add_workdir(parser)
    console.add_run_choice(parser)


def _train(options: argparse.Namespace) -> int:
    from asdjax.api import train

    train(options.config, workdir=options.workdir, overrides=options.overrides, part=options.part, only=options.only)
    workdir = shlex.quote(str(options.workdir))
    if options.only or options.part != (0, 1):
        console.write(f"this part is trained; asdjax status --workdir {workdir} shows all runs")
    else:
        console.write(f"trained; next: asdjax evaluate --workdir {workdir}")
    return DONE


def add_status(commands: Any) -> None:
    """Add `asdjax status`."""
    parser = console.add_command(
        commands, "status", _status, "show which runs of a work directory are done, running, failed, stopped or waiting"
    )
    console.add_workdir(parser)
    parser.add_argument("--json", action="store_true", help="print every run as JSON")


def _status(options: argparse.Namespace) -> int:
    from asdjax.fleet import status

    runs = status.read_status(options.workdir)
    if options.json:
        console.write(json.dumps(status.as_json(runs), indent=1))
    else:
        console.write(status.as_text(runs, console.terminal_width()))
    return DONE
