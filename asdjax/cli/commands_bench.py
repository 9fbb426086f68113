"""Command `bench`: the speed of training, signal processing, search and storage, next to other libraries."""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import DONE
from asdjax.errors import InputError
from asdjax.runtime.files import locked_folder

_FLEET = "fleet"

#: Takes the number of repeats (None: the usual one) and yields the record each time it has grown.
Measure = Callable[[int | None], Iterator[dict[str, Any]]]

#: Formats a record as the table to print.
FormatRecord = Callable[[dict[str, Any]], str]


def add_bench(commands: Any) -> None:
    """Add `asdjax bench`."""
    summary = "measure the speed of training, signal processing, search and storage on this machine"
    parser = commands.add_parser("bench", help=summary, allow_abbrev=False)
    console.add_debug(parser, default=argparse.SUPPRESS)
    parser.description = "Measure the speed of this machine. Run it while nothing else runs."
    parts = parser.add_subparsers(dest="part", required=True, metavar="part")
    _add_train(parts)
    signal = _add(parts, "signal", _signal, "clips to spectrogram pieces, mixup included, next to librosa.stft")
    _add_batch(signal)
    _add_against(signal)
    _add(parts, "knn", _knn, "nearest neighbours, next to scikit-learn and, if installed, faiss")
    _add(parts, "checkpoint", _checkpoint, "saving and restoring a fleet, and its share of the training time")
    _add(parts, "store", _store, "decoding clips into a store and cutting pieces, next to librosa and soundfile")


def _add(parts: Any, name: str, run: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
    parser = console.add_command(parts, name, run, summary)
    parser.add_argument(
        "--json", type=console.parse_path, metavar="F", help="write the results as JSON, each time there are more"
    )
    parser.add_argument(
        "--repeats", metavar="N", help="measurements of each program (default: as time allows, 3 or more)"
    )
    return parser


def _add_train(parts: Any) -> None:
    parser = _add(parts, "train", _train, "training steps and embedding, of each variant alone and of all six together")
    parser.epilog = (
        "Every program is compiled for the measurement. With JAX_COMPILATION_CACHE_DIR=DIR compiled programs are kept; "
        "the compile times are then the times of reading them."
    )
    _add_batch(parser)
    parser.add_argument(
        "--variants",
        type=console.parse_names,
        metavar="A,B",
        help=f"any of the six, and {_FLEET} for all in one program (default: all of these)",
    )
    _add_against(parser)
    parser.add_argument(
        "--fleets-per-program", metavar="N", help="measure N fleets in one program too, in turn with one"
    )
    parser.add_argument(
        "--profile",
        type=console.parse_path,
        metavar="DIR",
        help="trace each program of one fleet into DIR, and print where its time goes; needs a clone of the repository",
    )


def _add_batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", metavar="N,N", help="pieces per step (default: 48; on a CPU 8,48)")


def _add_against(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against",
        choices=("torch",),
        help="compare with PyTorch under $TORCH_PYTHON; needs a clone of the repository",
    )


def _train(options: argparse.Namespace) -> int:
    from asdjax.config.fields import VARIANTS
    from asdjax.perf import bench_table

    known = (*VARIANTS, _FLEET)
    subjects = known if options.variants is None else tuple(dict.fromkeys(options.variants))
    unknown = [name for name in subjects if name not in known]
    if unknown or not subjects:
        raise InputError(f"--variants: expected any of {', '.join(known)}, got {', '.join(unknown) or 'none'}")
    batches = _parse_batches(options.batch)
    fleets = 1
    if options.fleets_per_program is not None:
        fleets = _parse_number("--fleets-per-program", options.fleets_per_program, least=2, most=1000)
    if options.profile:
        _require_folder(options.profile)

    def measure(repeats: int | None) -> Iterator[dict[str, Any]]:
        """Yield the record each time that it has grown."""
        from asdjax.perf import bench_train

        request = bench_train.BenchRequest(
            subjects=subjects,
            batches=batches,
            against_torch=options.against == "torch",
            repeats=repeats,
            fleets_per_program=fleets,
            traces=options.profile,
        )
        return bench_train.bench(request)

    return _measure(options, measure, bench_table.format_training)


def _signal(options: argparse.Namespace) -> int:
    from asdjax.perf import bench_table

    batches = _parse_batches(options.batch)

    def measure(repeats: int | None) -> Iterator[dict[str, Any]]:
        from asdjax.perf import bench_features

        yield bench_features.bench(batches, options.against == "torch", repeats)

    return _measure(options, measure, bench_table.format_signal)


def _knn(options: argparse.Namespace) -> int:
    from asdjax.perf import bench_table

    def measure(repeats: int | None) -> Iterator[dict[str, Any]]:
        from asdjax.perf import bench_knn

        yield bench_knn.bench(repeats)

    return _measure(options, measure, bench_table.format_knn)


def _store(options: argparse.Namespace) -> int:
    from asdjax.perf import bench_table

    def measure(repeats: int | None) -> Iterator[dict[str, Any]]:
        from asdjax.perf import bench_store

        yield bench_store.bench(repeats)

    return _measure(options, measure, bench_table.format_store)


def _checkpoint(options: argparse.Namespace) -> int:
    from asdjax.perf import bench_table

    def measure(repeats: int | None) -> Iterator[dict[str, Any]]:
        from asdjax.perf import bench_checkpoint

        yield bench_checkpoint.bench(repeats)

    return _measure(options, measure, bench_table.format_checkpoint)


def _measure(options: argparse.Namespace, measure: Measure, format_record: FormatRecord) -> int:
    """Measure, write the JSON file each time there are more results, and print the table at the end."""
    repeats = None if options.repeats is None else _parse_number("--repeats", options.repeats)
    if options.json:
        console.require_writable(options.json)
    if getattr(options, "against", None):  # PyTorch needs a share of the accelerator's memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    from asdjax.runtime import jax_setup

    jax_setup.pin_numbers()
    jax_setup.require_device()
    record = {}
    for record in measure(repeats):
        if options.json:
            console.write_json(options.json, record)
    console.write(format_record(record))
    return DONE


def _require_folder(path: Path) -> None:
    """Make the folder of traces. Raises InputError, before minutes of work, if it cannot be written."""
    try:
        with locked_folder(path):
            pass
    except InputError as error:
        raise InputError(f"--profile {error}") from error


def _parse_batches(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    return tuple(sorted({_parse_number("--batch", word) for word in text.split(",")}))


def _parse_number(flag: str, text: str, *, least: int = 1, most: int = 1_000_000) -> int:
    if text.isascii() and text.isdecimal() and least <= int(text) <= most:
        return int(text)
    raise InputError(f"{flag}: expected a whole number from {least} to {most}, got {text!r}")
