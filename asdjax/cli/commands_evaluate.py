"""Commands for results: `evaluate` and `report` for a work directory, `metrics` for any folder of score files."""

import argparse
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import DONE
from asdjax.errors import InputError

_MOST_CLIPS = 20


def add_evaluate(commands: Any) -> None:
    """Add `asdjax evaluate`."""
    parser = console.add_command(
        commands, "evaluate", _evaluate, "score the test clips with the models of a work directory, compute the metrics"
    )
    parser.epilog = (
        "--config.evaluate.FIELD=VALUE changes how clips are scored, --config.data.root the folder of the recordings, "
        "--config.baselines.FIELD how --baselines trains the auto-encoder. --config.data.machines evaluates some "
        "machine types only. --part and --only embed and score the clips of some runs, also in several processes; "
        "evaluate without them gathers these and writes the results."
    )
    parser.set_defaults(configurable=True)
    console.add_workdir(parser)
    parser.add_argument(
        "--split", choices=("dev", "eval"), default="dev", help="development or evaluation set (default: %(default)s)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, metavar="N", help="evaluate the checkpoint of this step (default: newest)")
    which.add_argument("--watch", action="store_true", help="evaluate each new checkpoint until training has ended")
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="also train and evaluate the challenge's auto-encoder (once; takes minutes)",
    )
    parser.add_argument(
        "--sensitivity",
        action="store_true",
        help="also mix faults of known sizes into normal clips, and show which sizes are found",
    )
    console.add_run_choice(parser)


def _evaluate(options: argparse.Namespace) -> int:
    from asdjax.api import evaluate, prepare_evaluation, watch
    from asdjax.evaluation.summary import as_text

    how: dict[str, Any] = {
        "split": options.split,
        "baselines": options.baselines,
        "sensitivity": options.sensitivity,
        "overrides": options.overrides,
    }
    if options.only or options.part != (0, 1):
        for option in ("watch", "sensitivity"):
            if getattr(options, option):
                raise InputError(f"--{option}: expected without --part and --only, got it with one; leave it out")
        del how["sensitivity"]
        names = prepare_evaluation(options.workdir, part=options.part, only=options.only, step=options.step, **how)
        console.write(f"prepared: {', '.join(names) or 'no run'}; asdjax evaluate without --part gathers all parts")
        return DONE
    if options.watch:
        evaluations = watch(options.workdir, **how)
    else:
        evaluations = [evaluate(options.workdir, step=options.step, **how)]
    for results in evaluations:
        console.write(as_text(results.content, console.terminal_width()))
        console.write(f"\nresults, table and score files: {results.folder}")
        if results.report_removed:
            console.write("The report of the earlier evaluation was removed; asdjax report writes a new one.")
    return DONE


def add_report(commands: Any) -> None:
    """Add `asdjax report`."""
    parser = console.add_command(
        commands, "report", _report, "write one HTML file with the results of an evaluation and their explanation"
    )
    parser.epilog = "--config.data.store=DIR is the folder of the decoded audio, if it was moved."
    parser.set_defaults(configurable=True)
    console.add_workdir(parser)
    console.add_evaluated_split(parser)
    parser.add_argument(
        "--clips",
        type=_parse_clips,
        default=3,
        metavar="N",
        help="test clips to explain of each kind, and training clips to listen to (default: %(default)s)",
    )


def _parse_clips(text: str) -> int:
    if text.isdecimal() and int(text) <= _MOST_CLIPS:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected 0 to {_MOST_CLIPS}, got {text!r}")


def _report(options: argparse.Namespace) -> int:
    from asdjax.report.build_report import report
    from asdjax.runtime import jax_setup

    jax_setup.prepare()
    path = report(options.workdir, split=options.split, clips=options.clips, overrides=options.overrides)
    console.write(f"{path}: {path.stat().st_size / 1e6:.1f} MB, open it in a browser")
    return DONE


def add_compare(commands: Any) -> None:
    """Add `asdjax compare`."""
    parser = console.add_command(
        commands, "compare", _compare, "set an evaluation of DCASE 2021 beside the report's Table 2, cell by cell"
    )
    console.add_workdir(parser)
    parser.add_argument("--json", type=console.parse_path, metavar="F", help="also write the cells as JSON")


def _compare(options: argparse.Namespace) -> int:
    if options.json:
        console.require_writable(options.json)

    from asdjax.evaluation import report_table
    from asdjax.inference.stored_results import find_evaluation, read_results

    compared = report_table.compare(read_results(find_evaluation(options.workdir, "dev")))
    console.write(report_table.as_text(compared, console.terminal_width()))
    if options.json:
        console.write_json(options.json, report_table.as_json(compared))
    return DONE


def add_metrics(commands: Any) -> None:
    """Add `asdjax metrics`."""
    parser = console.add_command(
        commands, "metrics", _metrics, "compute the challenge's metrics for any folder of score files"
    )
    parser.add_argument("--year", type=int, required=True, metavar="Y", help="2020 to 2026")
    parser.add_argument(
        "--scores", type=console.parse_path, required=True, metavar="DIR", help="the folder of score files"
    )
    parser.add_argument("--truth", type=console.parse_path, metavar="DIR", help="the ground truth of an evaluation set")
    parser.add_argument("--json", type=console.parse_path, metavar="F", help="also write the metrics as JSON")


def _metrics(options: argparse.Namespace) -> int:
    if options.json:
        console.require_writable(options.json)

    from asdjax.api import official_metrics
    from asdjax.evaluation.submission_metrics import as_json, format_table

    metrics = official_metrics(options.year, options.scores, truth=options.truth)
    console.write(format_table(metrics, console.terminal_width()))
    if options.json:
        console.write_json(options.json, as_json(metrics))
    return DONE
