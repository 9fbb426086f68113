"""What was evaluated put to use: new clips scored here, functions to score them elsewhere."""

import argparse
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import BAD_INPUT, DONE


def add_score(commands: Any) -> None:
    """Add `asdjax score` to the commands of the parser."""
    parser = console.add_command(
        commands, "score", _score, "score new clips of a machine with what was evaluated: one line a clip"
    )
    parser.epilog = "Other sampling rates, several channels, MP3 and Ogg: --config.data.on_mismatch=convert"
    parser.set_defaults(configurable=True)
    parser.add_argument(
        "clips",
        nargs="+",
        metavar="CLIP",
        help="recordings (WAV, FLAC, AIFF, CAF, W64); - reads paths from standard input",
    )
    parser.add_argument("--workdir", type=console.path, required=True, metavar="W")
    parser.add_argument("--machine", type=console.name, required=True, metavar="M", help="machine type")
    parser.add_argument("--section", type=console.name, required=True, metavar="S")
    parser.add_argument("--domain", choices=("source", "target"), help="where banks or thresholds go by it")
    parser.add_argument("--system", metavar="NAME", help="of table.md (default: all models)")
    parser.add_argument("--split", choices=("dev", "eval"), help="default: dev if it was evaluated, else eval")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")


def _score(options: argparse.Namespace) -> int:
    from asdjax.inference.detector import open_detector
    from asdjax.inference.loaded_evaluation import open_evaluation
    from asdjax.inference.score_clips import from_stdin, score_all
    from asdjax.runtime import jax_setup

    jax_setup.prepare()
    decoding = ("data.on_mismatch", "data.channel")
    evaluation = open_evaluation(options.workdir, options.split, options.overrides, decoding)
    place = (options.machine, options.section, options.domain)
    detector = open_detector(evaluation, options.system, *place)
    failed = score_all(evaluation.config, detector, from_stdin(options.clips), options.json, console.write)
    return BAD_INPUT if failed else DONE


def add_export(commands: Any) -> None:
    """Add `asdjax export` to the commands of the parser."""
    parser = console.add_command(
        commands, "export", _export, "write what was evaluated as functions that need JAX, not asdjax"
    )
    parser.add_argument("--workdir", type=console.path, required=True, metavar="W")
    parser.add_argument("--out", type=console.path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--machines", type=console.names, default=(), metavar="A,B", help="default: all that were evaluated"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the clips (default: %(default)s)")
    parser.add_argument("--system", metavar="NAME", help="of table.md (default: all models)")
    parser.add_argument("--split", choices=("dev", "eval"), help="default: dev if it was evaluated, else eval")


def _export(options: argparse.Namespace) -> int:
    from asdjax.inference.export import EXAMPLE, export
    from asdjax.runtime import jax_setup

    jax_setup.prepare()
    files = export(
        options.workdir,
        options.out,
        split=options.split,
        system=options.system,
        machines=options.machines,
        seconds=options.seconds,
    )
    functions = "function" if len(files) == 1 else "functions"
    made = f"{len(files)} {functions} in {options.out}, for clips of {options.seconds:g} s"
    console.write(f"{made}; {options.out / EXAMPLE} shows how to call them")
    return DONE
