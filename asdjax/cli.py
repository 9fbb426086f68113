"""asdjax <command>: flags, then one call. JAX is imported by the call, not here, so that --help answers at once."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from asdjax import __version__
from asdjax.errors import Diverged, InputError, Stopped
from asdjax.progress import say
from asdjax.stops import STOPPED, watched

DONE, FAILED, BAD_INPUT = 0, 1, 2

_OVERRIDE = "--config."
_CONFIG = "a .py file with get_config(), or dcase2021, own_machines, demo; --config.FIELD=VALUE overrides a field"


def command() -> NoReturn:
    """`asdjax`: main, then an end at once, so that no signal during Python's own long one spoils the exit code."""
    with watched():
        code = main()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = _parser()
    words, overrides = _split_overrides(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    if overrides and not options.configurable:
        parser.error(f"{_OVERRIDE}{next(iter(overrides))}: {options.command} takes no configuration")
    options.overrides = overrides
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else XLA talks into the progress bar of a long compilation
    try:
        with watched():
            return options.run(options)
    except InputError as error:
        return _failed(options, str(error), BAD_INPUT)
    except Stopped as stopped:
        return _failed(options, str(stopped), STOPPED)
    except Diverged as diverged:
        return _failed(options, str(diverged), FAILED)
    except Exception as error:  # whatever else: a defect of ours, still one line and exit code 1
        return _failed(options, f"{type(error).__name__}: {error} (--debug shows where)", FAILED)


def _failed(options: argparse.Namespace, message: str, code: int) -> int:
    if options.debug:
        raise
    say(f"asdjax {options.command}: {' '.join(message.split())}")
    return code


def _print(text: str) -> None:
    """What a command has to say; whoever read it may have had enough of it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """--config.FIELD=VALUE and --config.FIELD VALUE taken out of the other words."""
    words, overrides = [], {}
    remaining = iter(arguments)
    for word in remaining:
        if not word.startswith(_OVERRIDE):
            words.append(word)
            continue
        field, equals, value = word.removeprefix(_OVERRIDE).partition("=")
        overrides[field] = value if equals else next(remaining, "")
    return words, overrides


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asdjax",
        description="Detect machine faults by sound, trained on normal recordings only.",
        epilog="Exit codes: 0 done; 2 bad usage, configuration or data; 75 stopped by SIGTERM or Ctrl-C "
        "(run again; train goes on from what it saved); 1 anything else.",
    )
    parser.add_argument("--version", action="version", version=f"asdjax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_demo(commands)
    _add_synthesize(commands)
    _add_download(commands)
    _add_check(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_score(commands)
    _add_report(commands)
    _add_export(commands)
    _add_metrics(commands)
    return parser


def _add(commands: Any, name: str, run: Any, what: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run, configurable=False)
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _add_demo(commands: Any) -> None:
    parser = _add(commands, "demo", _demo, "synthesize small machines, train six variants in both phases, evaluate")
    parser.add_argument("--workdir", type=Path, default=Path("asdjax-demo"), help="default: %(default)s")


def _demo(options: argparse.Namespace) -> int:
    from asdjax.demo import demo

    _print(demo(options.workdir, _width()))
    return DONE


def _add_synthesize(commands: Any) -> None:
    parser = _add(commands, "synthesize", _synthesize, "write synthetic machines in the layout of DCASE 2021")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--machines", type=_names, default=(), metavar="A,B", help="default: all seven of 2021")
    parser.add_argument("--sections", type=int, default=3, help="per machine type (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip (default: %(default)s)")
    per_section = "per section (default: %(default)s)"
    parser.add_argument("--source-clips", type=int, default=100, help=f"source training clips {per_section}")
    parser.add_argument("--target-clips", type=int, default=3, help=f"target training clips {per_section}")
    parser.add_argument("--test-clips", type=int, default=20, help=f"of each label and domain, {per_section}")


def _synthesize(options: argparse.Namespace) -> int:
    from asdjax.corpus.machines import MACHINES
    from asdjax.corpus.synthesis import Recipe, synthesize

    recipe = Recipe(
        source_clips=options.source_clips,
        target_clips=options.target_clips,
        test_clips=options.test_clips,
        sections=options.sections,
        seed=options.seed,
        seconds=options.seconds,
    )
    number = synthesize(options.out, recipe, machines=options.machines or tuple(MACHINES))
    _print(f"{number} clips in {options.out}")
    return DONE


def _add_download(commands: Any) -> None:
    parser = _add(commands, "download", _download, "get a year's recordings from Zenodo, or unpack zips that are here")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--year", type=int, metavar="Y", help="of the challenge, from Zenodo's records")
    source.add_argument("--zips", type=Path, metavar="DIR", help="or a folder with the challenge's zips: no connection")
    parser.add_argument("--machines", type=_names, default=(), metavar="A,B", help="default: all that are there")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to fill")


def _download(options: argparse.Namespace) -> int:
    from asdjax.corpus.download import FOLDERS, download, unpack_zips

    if options.zips:
        number = unpack_zips(options.out, options.zips, options.machines)
    else:
        number = download(options.out, options.year, options.machines)
    roots = ",".join(str(options.out / folder) for folder in FOLDERS if (options.out / folder).is_dir())
    _print(f"{number} clips; next: asdjax check --config dcase2021 --config.data.root={roots}")
    return DONE


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="C", help=_CONFIG)
    parser.set_defaults(configurable=True)


def _add_check(commands: Any) -> None:
    parser = _add(commands, "check", _check, "list what is in a corpus and what is wrong with it")
    _add_config(parser)
    parser.add_argument("--json", type=Path, metavar="F", help="write the same as JSON")


def _check(options: argparse.Namespace) -> int:
    from asdjax import configfile
    from asdjax.corpus.access import check
    from asdjax.corpus.findings import as_json, format_table

    result = check(configfile.load(options.config, options.overrides))
    _print(format_table(result))
    if options.json:
        _write_json(options.json, as_json(result))
    return BAD_INPUT if result.errors else DONE


def _add_train(commands: Any) -> None:
    parser = _add(commands, "train", _train, "train every machine type's fleet; goes on where an earlier run ended")
    _add_config(parser)
    parser.add_argument("--workdir", type=Path, required=True, metavar="W")


def _train(options: argparse.Namespace) -> int:
    from asdjax import configfile

    config = configfile.load(options.config, options.overrides)

    from asdjax import runtime
    from asdjax.training.train import train

    runtime.prepare()
    train(config, options.workdir)
    _print(f"trained; next: asdjax evaluate --workdir {options.workdir}")
    return DONE


def _add_evaluate(commands: Any) -> None:
    parser = _add(commands, "evaluate", _evaluate, "score and judge the test clips with the models of a work directory")
    parser.epilog = (
        "--config.evaluate.FIELD=VALUE overrides how clips are scored, --config.data.root where they lie, "
        "--config.baselines.FIELD how the auto-encoder of --baselines is trained."
    )
    parser.set_defaults(configurable=True)
    parser.add_argument("--workdir", type=Path, required=True, metavar="W")
    parser.add_argument("--split", choices=("dev", "eval"), default="dev", help="labelled or unlabelled test clips")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, metavar="N", help="judge this checkpoint (default: the newest)")
    which.add_argument("--watch", action="store_true", help="judge each new checkpoint until training has ended")
    parser.add_argument(
        "--baselines", action="store_true", help="beside them: an auto-encoder, trained here, and mean log-spectra"
    )


def _evaluate(options: argparse.Namespace) -> int:
    from functools import partial

    from asdjax import runtime
    from asdjax.evaluation import choice
    from asdjax.evaluation.evaluate import Request, evaluate
    from asdjax.evaluation.table import as_text
    from asdjax.evaluation.watch import watch

    runtime.prepare()
    request = Request(options.split, partial(choice.trained, step=options.step), options.baselines)
    evaluations = (
        watch(options.workdir, request, options.overrides)
        if options.watch
        else [evaluate(options.workdir, request, options.overrides)]
    )
    for results in evaluations:
        _print(as_text(results.rows, _width()))
        _print(f"\nresults, table and score files: {results.folder}")
    return DONE


def _add_report(commands: Any) -> None:
    parser = _add(commands, "report", _report, "write what an evaluation found, and why, as one HTML file to look at")
    parser.epilog = "--config.data.store=DIR says where the decoded audio lies now."
    parser.set_defaults(configurable=True)
    parser.add_argument("--workdir", type=Path, required=True, metavar="W")
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
    from asdjax import runtime
    from asdjax.evaluation.report.report import report

    runtime.prepare()
    path = report(options.workdir, split=options.split, clips=options.clips, overrides=options.overrides)
    _print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, open it in a browser")
    return DONE


def _add_metrics(commands: Any) -> None:
    parser = _add(commands, "metrics", _metrics, "judge anybody's folder of score files like the challenge")
    parser.add_argument("--year", type=int, required=True, metavar="Y", help="2020 to 2026")
    parser.add_argument("--scores", type=Path, required=True, metavar="DIR")
    parser.add_argument("--truth", type=Path, metavar="DIR", help="truth of an evaluation set")
    parser.add_argument("--json", type=Path, metavar="F", help="write the figures as JSON")


def _metrics(options: argparse.Namespace) -> int:
    from asdjax.evaluation.judging import as_json, format_table, judge_folder

    judged = judge_folder(options.year, options.scores, options.truth)
    _print(format_table(judged, _width()))
    if options.json:
        _write_json(options.json, as_json(judged))
    return DONE


def _add_score(commands: Any) -> None:
    parser = _add(commands, "score", _score, "score new clips of a machine with what was evaluated: one line a clip")
    parser.epilog = "Other sampling rates and several channels: --config.data.on_mismatch=convert"
    parser.set_defaults(configurable=True)
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="WAV files; - reads paths from standard input")
    parser.add_argument("--workdir", type=Path, required=True, metavar="W")
    parser.add_argument("--machine", required=True, metavar="M", help="machine type")
    parser.add_argument("--section", required=True, metavar="S")
    parser.add_argument("--domain", choices=("source", "target"), help="only where banks or thresholds go by it")
    parser.add_argument("--system", metavar="NAME", help="of table.md (default: all models)")
    parser.add_argument("--split", choices=("dev", "eval"), help="default: dev if it was evaluated, else eval")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")


def _score(options: argparse.Namespace) -> int:
    from asdjax import configfile, runtime
    from asdjax.evaluation.detector import open_detector
    from asdjax.evaluation.score import from_stdin, score_all

    runtime.prepare()
    config = configfile.read(options.workdir, options.overrides, ("data.on_mismatch", "data.channel"))
    place = (options.machine, options.section, options.domain)
    detector = open_detector(config, options.workdir, options.split, options.system, *place)
    failed = score_all(config, detector, from_stdin(options.clips), options.json, _print)
    return BAD_INPUT if failed else DONE


def _add_export(commands: Any) -> None:
    parser = _add(commands, "export", _export, "write what was evaluated as functions that need JAX, not asdjax")
    parser.add_argument("--workdir", type=Path, required=True, metavar="W")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--machines", type=_names, default=(), metavar="A,B", help="default: all that were evaluated")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the clips (default: %(default)s)")
    parser.add_argument("--system", metavar="NAME", help="of table.md (default: all models)")
    parser.add_argument("--split", choices=("dev", "eval"), help="default: dev if it was evaluated, else eval")


def _export(options: argparse.Namespace) -> int:
    from asdjax import configfile, runtime
    from asdjax.evaluation.export import EXAMPLE, export

    runtime.prepare()
    files = export(
        configfile.read(options.workdir),
        options.workdir,
        options.out,
        split=options.split,
        system=options.system,
        machines=options.machines,
        seconds=options.seconds,
    )
    _print(f"{len(files)} functions in {options.out}; {options.out / EXAMPLE} shows how to call them")
    return DONE


def _width() -> int:
    return shutil.get_terminal_size().columns


def _write_json(path: Path, content: Any) -> None:
    try:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written ({error.strerror}); choose another place") from error
