"""Commands for recordings: `synthesize`, `download` and `check`."""

import argparse
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import BAD_INPUT, DONE


def add_synthesize(commands: Any) -> None:
    """Add `asdjax synthesize`."""
    parser = console.add_command(
        commands, "synthesize", _synthesize, "write recordings of synthetic machines in the layout of DCASE 2021"
    )
    parser.add_argument("--out", type=console.parse_path, required=True, metavar="DIR", help="the folder to write")
    parser.add_argument(
        "--machines",
        type=console.parse_names,
        default=(),
        metavar="A,B",
        help="machine types (default: the seven of 2021)",
    )
    default = "(default: %(default)s)"
    parser.add_argument("--sections", type=int, default=3, help=f"sections per machine type {default}")
    parser.add_argument("--seed", type=int, default=0, help=f"seed of the random numbers {default}")
    parser.add_argument("--seconds", type=float, default=10.0, help=f"length of a clip {default}")
    parser.add_argument("--source-clips", type=int, default=100, help=f"source training clips per section {default}")
    parser.add_argument("--target-clips", type=int, default=3, help=f"target training clips per section {default}")
    parser.add_argument(
        "--test-clips", type=int, default=20, help=f"test clips per section, domain and label {default}"
    )


def _synthesize(options: argparse.Namespace) -> int:
    from asdjax.data.synthetic.machines import MACHINES
    from asdjax.data.synthetic.synthesis import Recipe, synthesize

    recipe = Recipe(
        source_clips=options.source_clips,
        target_clips=options.target_clips,
        test_clips=options.test_clips,
        sections=options.sections,
        seed=options.seed,
        seconds=options.seconds,
    )
    number = synthesize(options.out, recipe, machines=options.machines or tuple(MACHINES))
    console.write(f"{number} clips in {options.out}")
    return DONE


def add_download(commands: Any) -> None:
    """Add `asdjax download`."""
    parser = console.add_command(
        commands, "download", _download, "download a year's recordings from Zenodo, or unpack zips you already have"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--year", type=int, metavar="Y", help="download this year of the challenge from Zenodo")
    source.add_argument(
        "--zips", type=console.parse_path, metavar="DIR", help="unpack the challenge's zips in this folder; offline"
    )
    parser.add_argument(
        "--machines", type=console.parse_names, default=(), metavar="A,B", help="machine types (default: all)"
    )
    parser.add_argument("--out", type=console.parse_path, required=True, metavar="DIR", help="the folder to fill")


def _download(options: argparse.Namespace) -> int:
    from asdjax.data.download import FOLDERS, download, unpack_zips

    if options.zips:
        number = unpack_zips(options.out, options.zips, options.machines)
    else:
        number = download(options.out, options.year, options.machines)
    roots = ",".join(str(options.out / folder) for folder in FOLDERS if (options.out / folder).is_dir())
    console.write(f"{number} clips; next: asdjax check --config dcase2021 --config.data.root={roots}")
    return DONE


def add_check(commands: Any) -> None:
    """Add `asdjax check`."""
    parser = console.add_command(commands, "check", _check, "list the recordings of a corpus and the faults in them")
    console.add_config(parser)
    parser.add_argument("--json", type=console.parse_path, metavar="F", help="also write the result as JSON")


def _check(options: argparse.Namespace) -> int:
    from asdjax.config import loading
    from asdjax.data.access import check
    from asdjax.data.findings import as_json, format_table

    if options.json:
        console.require_writable(options.json)
    result = check(loading.load(options.config, options.overrides))
    console.write(format_table(result, console.terminal_width()))
    if options.json:
        console.write_json(options.json, as_json(result))
    return BAD_INPUT if result.errors else DONE
