"""Files of an evaluation: results.json, table.md, the challenge's files, clip scores, embeddings."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from types import MappingProxyType
from typing import Any, NamedTuple

from asdjax.evaluation import bootstrap, clip_table, submission, summary
from asdjax.evaluation.bootstrap import Interval
from asdjax.evaluation.metrics import FIGURES, SHARES, Cell
from asdjax.evaluation.systems import System, compute_machine_figures
from asdjax.fleet.runs import add_seed
from asdjax.inference import stored_embeddings, stored_results
from asdjax.runtime.files import add_checksum, compute_sha256, write_to_disk
from asdjax.runtime.progress import log, track

BySeed = Mapping[int, Mapping[str, System]]

NO_SYSTEMS: Mapping[str, System] = MappingProxyType({})

_WRITTEN = ("scores", "clips")
_TEXTS = ("table.md", stored_results.FILE)
_EARLIER = "earlier."
#: Folders that an evaluation replaces. Each is first written as `<name>.partial`.
FOLDERS = (*_WRITTEN, *stored_embeddings.STORED)


class Results(NamedTuple):
    """A written evaluation: its folder, the content of results.json, and whether it removed an earlier one's report."""

    folder: Path
    content: dict[str, Any]
    report_removed: bool


def write(
    folder: Path, year: int, by_seed: BySeed, about: Mapping[str, Any], joint: Mapping[str, System] = NO_SYSTEMS
) -> Results:
    """Write systems into an evaluation's existing folder. results.json comes last, so with it all files are complete.

    results.json holds `about`, the SHA-256 of each clips/<system>.csv, and the systems. With several seeds a system's
    figures are means over them, and every seed has its own files. A system that a seed lacks is left out and logged.
    `joint` are systems of all seeds together. Prepared folders `<name>.partial` of FOLDERS are moved to their places.

    Raises InputError for names that no score file can hold. An earlier evaluation then remains, as it does when files
    cannot be written.
    """
    by_seed = keep_common(by_seed)
    systems = {name: [one[name] for one in by_seed.values()] for name in next(iter(by_seed.values()))}
    systems |= {name: [system] for name, system in joint.items()}
    intervals = _compute_intervals(year, systems)
    entries = {
        name: _make_entry(per_seed, list(by_seed) if name not in joint else [], intervals[name])
        for name, per_seed in systems.items()
    }
    files = {
        add_seed(name, seed, by_seed): system
        for seed, seed_systems in by_seed.items()
        for name, system in seed_systems.items()
    } | dict(joint)
    with _swept_after_an_error(folder):
        clips = _write_files(folder, year, files, about["config"]["evaluate"]["threshold_per"])
        content = add_checksum({**about, "clips": clips, "systems": entries})
        write_to_disk(folder / "table.md.partial", summary.as_markdown(content))
        write_to_disk(folder / f"{stored_results.FILE}.partial", json.dumps(content, indent=1) + "\n")
        old = Path(tempfile.mkdtemp(prefix=_EARLIER, dir=folder))
    return Results(folder, content, _replace_earlier(folder, old))


def _replace_earlier(folder: Path, old: Path) -> bool:
    """Move the prepared files to their places, results.json last, and the earlier ones into the empty folder `old`.

    No step needs space on the disk. Returns True if a report of the earlier evaluation was removed.
    """
    reported = (folder / "report.html").exists()
    for name in (stored_results.FILE, "report.html"):
        (folder / name).unlink(missing_ok=True)
    for name in (*FOLDERS, *_TEXTS):
        partial = folder / f"{name}.partial"
        if partial.exists():
            if (folder / name).exists():
                (folder / name).rename(old / name)  # a network disk may refuse to remove files that are open
            partial.replace(folder / name)
    for earlier in folder.glob(f"{_EARLIER}*"):  # includes those that could not be removed before
        shutil.rmtree(earlier, ignore_errors=True)
    return reported


def keep_common(by_seed: BySeed) -> BySeed:
    """Return the systems that every seed has, and log the others."""
    for name in dict.fromkeys(name for systems in by_seed.values() for name in systems):
        if lacking := [str(seed) for seed, systems in by_seed.items() if name not in systems]:
            log(f"{name}: left out, seed {', '.join(lacking)} lacks it")
    return {
        seed: {name: system for name, system in systems.items() if all(name in other for other in by_seed.values())}
        for seed, systems in by_seed.items()
    }


def _write_files(folder: Path, year: int, systems: Mapping[str, System], per: str) -> dict[str, str]:
    """Write the score files and clip table of each system into folders `<name>.partial`.

    Returns the SHA-256 of each system's clip table.
    """
    make_partial(folder, *_WRITTEN)
    for name, system in systems.items():
        submission.write(folder / "scores.partial" / name, year, system.clips)
        submission.verify(folder / "scores.partial" / name, year, system.clips)
        clip_table.write(folder / "clips.partial" / f"{name}.csv", system, per)
    return {name: compute_sha256(folder / "clips.partial" / f"{name}.csv") for name in systems}


@contextlib.contextmanager
def _swept_after_an_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        remove_partial(folder, *_WRITTEN)
        for name in _TEXTS:
            (folder / f"{name}.partial").unlink(missing_ok=True)
        raise


def make_partial(folder: Path, *names: str) -> None:
    """Make empty folders `<name>.partial`, and remove those of a killed evaluation."""
    remove_partial(folder, *names)
    for name in names:
        (folder / f"{name}.partial").mkdir(parents=True)


def remove_partial(folder: Path, *names: str) -> None:
    """Remove the folders `<name>.partial` of an evaluation."""
    for name in names:
        shutil.rmtree(folder / f"{name}.partial", ignore_errors=True)


def _compute_intervals(year: int, systems: Mapping[str, Sequence[System]]) -> dict[str, Interval | None]:
    return {
        name: bootstrap.compute_interval(year, [system.clips for system in systems[name]])
        for name in track(systems, "intervals", len(systems), "system", quiet=True)
    }


def _make_entry(per_seed: Sequence[System], seeds: Sequence[int], interval: Interval | None) -> dict[str, Any]:
    """Return a system's entry of results.json."""
    first = per_seed[0]
    entry: dict[str, Any] = {
        "official": _mean([system.metrics.official for system in per_seed]),
        "interval": interval,
        "selection": first.selection,
        "undefined_cells": first.metrics.undefined,
        "machines": _average_machines(per_seed),
        "cells": [asdict(cell) for cell in _average_cells([system.metrics.cells for system in per_seed])],
    }
    if len(seeds) <= 1:
        return entry | _make_detector_entry(first, None, ())
    return entry | {
        "seeds": list(seeds),
        "spread": _spread([system.metrics.official for system in per_seed]),
        "by_seed": {
            seed: {
                "official": system.metrics.official,
                "machines": _average_machines([system]),
                **_make_detector_entry(system, seed, seeds),
            }
            for seed, system in zip(seeds, per_seed, strict=True)
        },
    }


def _make_detector_entry(system: System, seed: int | None, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the part of the entry that each of several seeds has of its own."""
    return {
        "thresholds": stored_results.encode_thresholds(system.thresholds),
        "unscored_training_clips": system.unscored,
        "members": {
            machine: [add_seed(name, seed, seeds) for name in names] for machine, names in system.members.items()
        },
        "baselines": list(system.baselines),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return mean(defined) if len(defined) == len(values) else None


def _average_cells(per_seed: Sequence[Sequence[Cell]]) -> list[Cell]:
    return [
        replace(cells[0], **{figure: _mean([getattr(cell, figure) for cell in cells]) for figure in FIGURES + SHARES})
        for cells in zip(*per_seed, strict=True)
    ]


def _spread(officials: Sequence[float | None]) -> float | None:
    """Return the standard deviation over seeds."""
    defined = [value for value in officials if value is not None]
    return stdev(defined) if len(defined) == len(officials) else None


def _average_machines(per_seed: Sequence[System]) -> dict[str, dict[str, float | None]]:
    """Return the entries of the report's Table 2, averaged over seeds."""
    figures = [compute_machine_figures(system.metrics) for system in per_seed]
    return {
        machine: {"auc": _mean([f[machine][0] for f in figures]), "pauc": _mean([f[machine][1] for f in figures])}
        for machine in figures[0]
    }
