"""How good it is: a work directory judged and explained, anybody's score files judged."""

import argparse
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import DONE
from asdjax.errors import InputError


def add_evaluate(commands: Any) -> None:
    """Add `asdjax evaluate` to the commands of the parser."""
    parser = console.add_command(
        commands, "evaluate", _evaluate, "score and judge the test clips with the models of a work directory"
    )
    parser.epilog = (
        "--config.evaluate.FIELD=VALUE overrides how clips are scored, --config.data.root where they lie, "
        "--config.baselines.FIELD how the auto-encoder of --baselines is trained."
    )
    parser.set_defaults(configurable=True)
    parser.add_argument("--workdir", type=console.path, required=True, metavar="W")
    parser.add_argument("--split", choices=("dev", "eval"), default="dev", help="labelled or unlabelled test clips")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, metavar="N", help="judge this checkpoint (default: the newest)")
    which.add_argument("--watch", action="store_true", help="judge each new checkpoint until training has ended")
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="beside them and mean_log_mel: the challenge's auto-encoder, trained here once, which takes minutes",
    )


def _evaluate(options: argparse.Namespace) -> int:
    _require_read(options)
    from functools import partial

    from asdjax.evaluation import checkpoint_selection
    from asdjax.evaluation.evaluate import EvaluationRequest, evaluate
    from asdjax.evaluation.results_table import as_text
    from asdjax.evaluation.watch_checkpoints import watch
    from asdjax.runtime import jax_setup

    jax_setup.prepare()
    request = EvaluationRequest(
        options.split, partial(checkpoint_selection.select_trained, step=options.step), options.baselines
    )
    evaluations = (
        watch(options.workdir, request, options.overrides)
        if options.watch
        else [evaluate(options.workdir, request, options.overrides)]
    )
    for results in evaluations:
        console.write(as_text(results.rows, console.width()))
        console.write(f"\nresults, table and score files: {results.folder}")
        if results.report_removed:
            console.write("report.html was of an earlier evaluation and is gone; asdjax report writes a new one")
    return DONE


def _require_read(options: argparse.Namespace) -> None:
    """See that no field of the baselines is given to an evaluation without them."""
    for field in options.overrides:
        if field.startswith("baselines.") and not options.baselines:
            raise InputError(
                f"--config.{field}: expected --baselines beside it, as nothing else reads it; give --baselines, or "
                "leave the field out"
            )


def add_report(commands: Any) -> None:
    """Add `asdjax report` to the commands of the parser."""
    parser = console.add_command(
        commands, "report", _report, "write what an evaluation found, and why, as one HTML file to look at"
    )
    parser.epilog = "--config.data.store=DIR says where the decoded audio lies now."
    parser.set_defaults(configurable=True)
    parser.add_argument("--workdir", type=console.path, required=True, metavar="W")
    parser.add_argument("--split", choices=("dev", "eval"), help="default: dev if it was evaluated, else eval")
    parser.add_argument(
        "--clips", type=_few, default=3, metavar="N", help="explained of each kind (default: %(default)s)"
    )


def _few(text: str) -> int:
    """0 to 20; argparse tells what else came."""
    if text.isdecimal() and int(text) <= 20:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected 0 to 20, got {text!r}")


def _report(options: argparse.Namespace) -> int:
    from asdjax.report.build_report import report
    from asdjax.runtime import jax_setup

    jax_setup.prepare()
    path = report(options.workdir, split=options.split, clips=options.clips, overrides=options.overrides)
    console.write(f"{path}: {path.stat().st_size / 1e6:.1f} MB, open it in a browser")
    return DONE


def add_metrics(commands: Any) -> None:
    """Add `asdjax metrics` to the commands of the parser."""
    parser = console.add_command(
        commands, "metrics", _metrics, "judge anybody's folder of score files like the challenge"
    )
    parser.add_argument("--year", type=int, required=True, metavar="Y", help="2020 to 2026")
    parser.add_argument("--scores", type=console.path, required=True, metavar="DIR")
    parser.add_argument("--truth", type=console.path, metavar="DIR", help="truth of an evaluation set")
    parser.add_argument("--json", type=console.path, metavar="F", help="write the figures as JSON")


def _metrics(options: argparse.Namespace) -> int:
    if options.json:
        console.require_writable(options.json)

    from asdjax.evaluation.submission_metrics import as_json, format_table, score_folder

    judged = score_folder(options.year, options.scores, options.truth)
    console.write(format_table(judged, console.width()))
    if options.json:
        console.write_json(options.json, as_json(judged))
    return DONE
