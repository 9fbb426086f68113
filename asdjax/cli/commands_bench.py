"""asdjax bench: its parts, each with what it is compared with."""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import DONE
from asdjax.errors import InputError
from asdjax.perf import bench_table
from asdjax.runtime.files import locked_folder

_FLEET = "fleet"

Measure = Callable[[int | None], Iterator[dict[str, Any]]]
"""Of so many repeats, or None for the usual ones, a record each time that it has grown."""

AsText = Callable[[dict[str, Any]], str]
"""The table that people read of a record."""


def add_bench(commands: Any) -> None:
    """Add `asdjax bench` to the commands of the parser."""
    what = "measure how fast training, signal, search and storage are here"
    parser = commands.add_parser("bench", help=what, allow_abbrev=False)
    console.add_debug(parser, default=argparse.SUPPRESS)
    parser.description = "Measure how fast this machine is at what takes time; run it while nothing else runs."
    parts = parser.add_subparsers(dest="part", required=True, metavar="part")
    _add_train(parts)
    signal = _add(parts, "signal", _signal, "crops to pieces, mixup included, against librosa.stft on whole clips")
    _add_batch(signal)
    _add_against(signal)
    _add(parts, "knn", _knn, "nearest neighbours, against scikit-learn and, where it is installed, faiss")
    _add(parts, "store", _store, "decoding clips into a store and cutting crops, against librosa and soundfile")


def _add(parts: Any, name: str, run: Callable[[argparse.Namespace], int], what: str) -> argparse.ArgumentParser:
    parser = console.add_command(parts, name, run, what)
    parser.add_argument(
        "--json", type=console.path, metavar="F", help="write the figures as JSON, each time there are more"
    )
    parser.add_argument("--repeats", metavar="N", help="turns of each rival (default: by time, 3 or more)")
    return parser


def _add_train(parts: Any) -> None:
    parser = _add(parts, "train", _train, "training steps and embedding, of each variant alone and of all six")
    parser.epilog = (
        "Programs are compiled anew each time; JAX_COMPILATION_CACHE_DIR=DIR keeps them, and compile times then tell "
        "how long reading takes."
    )
    _add_batch(parser)
    parser.add_argument(
        "--variants", type=console.names, metavar="A,B", help=f"any of the six, and {_FLEET} for all in one program"
    )
    _add_against(parser)
    parser.add_argument(
        "--fleets-per-program", metavar="N", help="measure N fleets in one program too, in turn with one"
    )
    parser.add_argument(
        "--profile",
        type=console.path,
        metavar="DIR",
        help="trace each program of one fleet into DIR, and print where its time goes; needs a clone of the repository",
    )


def _add_batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", metavar="N,N", help="pieces of a step (default: 48, on a CPU 8,48)")


def _add_against(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against",
        choices=("torch",),
        help="compare with PyTorch under $TORCH_PYTHON; needs a clone of the repository",
    )


def _train(options: argparse.Namespace) -> int:
    from asdjax.config.fields import VARIANTS

    every = (*VARIANTS, _FLEET)
    chosen = every if options.variants is None else tuple(dict.fromkeys(options.variants))
    unknown = [name for name in chosen if name not in every]
    if unknown or not chosen:
        raise InputError(f"--variants: expected any of {', '.join(every)}, got {', '.join(unknown) or 'none'}")
    batches = _batches(options)
    fleets = 1
    if options.fleets_per_program is not None:
        fleets = _number("--fleets-per-program", options.fleets_per_program, least=2, most=1000)
    if options.profile:
        _require_folder(options.profile)

    def measure(repeats: int | None) -> Iterator[dict[str, Any]]:
        from asdjax.perf import bench_train

        request = bench_train.BenchRequest(
            subjects=chosen,
            batches=batches,
            against_torch=options.against == "torch",
            repeats=repeats,
            fleets_per_program=fleets,
            traces=options.profile,
        )
        return bench_train.bench(request)

    return _report(options, measure, bench_table.format_training)


def _signal(options: argparse.Namespace) -> int:
    batches = _batches(options)

    def measure(repeats: int | None) -> Iterator[dict[str, Any]]:
        from asdjax.perf import bench_features

        yield bench_features.bench(batches, options.against == "torch", repeats)

    return _report(options, measure, bench_table.format_signal)


def _knn(options: argparse.Namespace) -> int:
    def measure(repeats: int | None) -> Iterator[dict[str, Any]]:
        from asdjax.perf import bench_knn

        yield bench_knn.bench(repeats)

    return _report(options, measure, bench_table.format_knn)


def _store(options: argparse.Namespace) -> int:
    def measure(repeats: int | None) -> Iterator[dict[str, Any]]:
        from asdjax.perf import bench_store

        yield bench_store.bench(repeats)

    return _report(options, measure, bench_table.format_store)


def _report(options: argparse.Namespace, measure: Measure, as_text: AsText) -> int:
    """Measure, write the JSON each time that it has grown, print its table in the end."""
    repeats = _number("--repeats", options.repeats) if options.repeats is not None else None
    if options.json:
        console.require_writable(options.json)
    if getattr(options, "against", None):  # two processes share an accelerator's memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    from asdjax.runtime import jax_setup

    jax_setup.pin_numbers()
    jax_setup.require_device()
    record = {}
    for record in measure(repeats):
        if options.json:
            console.write_json(options.json, record)
    console.write(as_text(record))
    return DONE


def _require_folder(path: Path) -> None:
    """Make the folder of traces, not only after minutes of work.

    Raises InputError where they could not be written.
    """
    try:
        with locked_folder(path):
            pass
    except InputError as error:
        raise InputError(f"--profile {error}") from error


def _batches(options: argparse.Namespace) -> tuple[int, ...]:
    if options.batch is None:
        return ()
    return tuple(sorted({_number("--batch", word) for word in options.batch.split(",")}))


def _number(flag: str, text: str, *, least: int = 1, most: int = 1_000_000) -> int:
    if text.isascii() and text.isdecimal() and least <= int(text) <= most:
        return int(text)
    raise InputError(f"{flag}: expected a whole number from {least} to {most}, got {text!r}")
