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
    from asdjax.training.programs import propose_parts

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
    several = parser.add_argument_group(
        "one program over several processes", "every process gets the same command but for --process"
    )
    several.add_argument(
        "--processes",
        type=_parse_processes,
        metavar="N",
        help="number of processes, or auto on a TPU pod",
    )
    several.add_argument("--process", type=_parse_process, metavar="I", help="number of this process, from 0")
    several.add_argument(
        "--coordinator", type=_parse_address, metavar="HOST:PORT", help="address of process 0, with a free port"
    )


_AUTO = 0  # --processes auto


def _parse_processes(text: str) -> int:
    return _AUTO if text == "auto" else console.parse_count(text)


def _parse_process(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text!r}")


def _parse_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if host and port.isdecimal() and 0 < int(port) < 65_536:
        return text
    raise argparse.ArgumentTypeError(f"expected HOST:PORT with a port from 1 to 65535, got {text!r}")


def _join_processes(options: argparse.Namespace) -> None:
    """Join the other processes of the program, if the command names any; raise InputError if the flags do not fit."""
    number, process, coordinator = options.processes, options.process, options.coordinator
    if number is None and process is None and coordinator is None:
        return
    from asdjax.errors import InputError
    from asdjax.runtime import processes

    if number == _AUTO:
        if process is not None or coordinator is not None:
            raise InputError("--processes auto: expected neither --process nor --coordinator, got one; leave it out")
        processes.start(None, None, None)
    elif number is None or process is None or coordinator is None:
        raise InputError("--processes, --process and --coordinator: expected all three, got one or two; give all")
    elif process >= number:
        raise InputError(f"--process: expected a number from 0 to {number - 1}, got {process}; give each its own")
    else:
        processes.start(number, process, coordinator)


def _train(options: argparse.Namespace) -> int:
    _join_processes(options)

    from asdjax.api import train
    from asdjax.runtime import processes

    train(options.config, workdir=options.workdir, overrides=options.overrides, part=options.part, only=options.only)
    workdir = shlex.quote(str(options.workdir))
    if not processes.is_first():
        return DONE
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
