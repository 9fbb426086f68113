"""Commands that use evaluated models: `score` scores new clips, `export` writes scoring functions."""

import argparse
from typing import TYPE_CHECKING, Any

from asdjax.cli import console
from asdjax.cli.console import BAD_INPUT, DONE

if TYPE_CHECKING:
    from asdjax.api_detector import Detector

_SYSTEM = "a system of table.md, except the auto-encoder (default: config.evaluate.system)"


def add_score(commands: Any) -> None:
    """Add `asdjax score`."""
    parser = console.add_command(
        commands, "score", _score, "score new clips of a machine with evaluated models, one line per clip"
    )
    parser.epilog = (
        "For other sampling rates, several channels, MP3 or Ogg: --config.data.on_mismatch=convert. A clip is scored "
        "in whole pieces of about one second; a shorter remainder at its end is not scored."
    )
    parser.add_argument(
        "clips",
        nargs="+",
        metavar="CLIP",
        help="recordings (WAV, FLAC, AIFF, CAF, W64); - reads paths from standard input",
    )
    add_detector(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def add_detector(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the flags that choose a detector, and allow --config.FIELD=VALUE."""
    parser.set_defaults(configurable=True)
    console.add_workdir(parser)
    parser.add_argument("--machine", type=console.parse_name, required=required, metavar="M", help="machine type")
    parser.add_argument("--section", type=console.parse_name, metavar="S", help="default: the only section")
    parser.add_argument(
        "--domain", choices=("source", "target"), help="needed if banks or thresholds are kept per domain"
    )
    parser.add_argument("--system", metavar="NAME", help=_SYSTEM)
    console.add_evaluated_split(parser)
    parser.add_argument(
        "--false-alarms-per-day",
        type=float,
        metavar="X",
        help="decide by a threshold that X normal clips a day exceed, instead of that of the evaluation",
    )
    parser.add_argument(
        "--clips-per-day",
        type=float,
        metavar="N",
        help="clips scored a day (default: without a gap)",
    )


def load_detector(options: argparse.Namespace) -> "Detector":
    """Load the detector that the flags of `add_detector` choose."""
    from asdjax.api import load

    return load(
        options.workdir,
        machine=options.machine,
        section=options.section,
        domain=options.domain,
        system=options.system,
        split=options.split,
        false_alarms_per_day=options.false_alarms_per_day,
        clips_per_day=options.clips_per_day,
        overrides=options.overrides,
    )


def _score(options: argparse.Namespace) -> int:
    from asdjax.cli.score_output import from_stdin, score_all

    detector = load_detector(options)
    failed = score_all(detector.score, from_stdin(options.clips), options.json, console.write)
    return BAD_INPUT if failed else DONE


def add_export(commands: Any) -> None:
    """Add `asdjax export`."""
    parser = console.add_command(
        commands, "export", _export, "write scoring functions that run with JAX alone, without asdjax"
    )
    console.add_workdir(parser)
    parser.add_argument("--out", type=console.parse_path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--machines", type=console.parse_names, default=(), metavar="A,B", help="default: all evaluated machine types"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="length of the clips (default: the usual one of the training clips)"
    )
    parser.add_argument("--system", metavar="NAME", help=_SYSTEM)
    console.add_evaluated_split(parser)


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
    for file, seconds in files.items():
        console.write(f"{file}: for clips of {seconds:.10g} s")
    console.write(f"{options.out / EXAMPLE} shows how to call a function")
    return DONE
