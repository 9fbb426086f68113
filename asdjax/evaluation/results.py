"""What an evaluation leaves behind: results.json, table.md, the challenge's files, every clip's score, embeddings."""

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

from asdjax.errors import InputError
from asdjax.evaluation import bootstrap, clip_table, submission
from asdjax.evaluation.bootstrap import Interval
from asdjax.evaluation.metrics import FIGURES, SHARES, Cell, mean_share
from asdjax.evaluation.results_table import SystemRow, as_markdown
from asdjax.evaluation.systems import System, machine_figures
from asdjax.inference import stored_embeddings
from asdjax.runtime.files import add_checksum, refused, sha256_of, verify_checksum, write_to_disk
from asdjax.runtime.progress import log, track

BySeed = Mapping[int, Mapping[str, System]]

NO_SYSTEMS: Mapping[str, System] = MappingProxyType({})

_WRITTEN = ("scores", "clips")
_TEXTS = ("table.md", "results.json")
SPLITS = ("dev", "eval")
_EARLIER = "earlier."
FOLDERS = (*_WRITTEN, stored_embeddings.FOLDER)
"""What an evaluation replaces whole: each is written as `<name>.partial` first."""


class Results(NamedTuple):
    """Where everything lies, the rows of the table, and whether the report of an earlier evaluation has gone."""

    folder: Path
    rows: list[SystemRow]
    report_removed: bool


def write(
    folder: Path, year: int, by_seed: BySeed, about: Mapping[str, Any], joint: Mapping[str, System] = NO_SYSTEMS
) -> Results:
    """Write into an evaluation's folder, which is there; results.json comes last: where it is, the rest is whole.

    `about` is what results.json begins with; then come the SHA-256 of each clips/<system>.csv, and the systems. With
    several seeds a system's figures are means over them, and every seed has files of its own; a system that not all of
    them have is left out, and it is said; `joint` are systems of all seeds together. What else was prepared as a folder
    `<name>.partial`, see FOLDERS, takes its place too. Raises InputError for names that no score file can hold; an
    earlier evaluation then stands, as it does where files cannot be written.
    """
    by_seed = _of_all_seeds(by_seed)
    of_seeds = {name: [systems[name] for systems in by_seed.values()] for name in next(iter(by_seed.values()))}
    of_seeds |= {name: [system] for name, system in joint.items()}
    intervals = _intervals(year, of_seeds)
    split = about.get("split", "dev")
    rows = [_row(name, systems, intervals[name], split) for name, systems in of_seeds.items()]
    described = {
        name: _described(systems, list(by_seed) if name not in joint else [], intervals[name])
        for name, systems in of_seeds.items()
    }
    files = {
        name if len(by_seed) == 1 else f"{name}@{seed}": system
        for seed, systems in by_seed.items()
        for name, system in systems.items()
    } | dict(joint)
    with _swept_after_an_error(folder):
        clips = _write_files(folder, year, files, about["settings"]["threshold_per"])
        content = add_checksum({**about, "clips": clips, "systems": described})
        write_to_disk(folder / "table.md.partial", as_markdown(rows))
        write_to_disk(folder / "results.json.partial", json.dumps(content, indent=1) + "\n")
        old = Path(tempfile.mkdtemp(prefix=_EARLIER, dir=folder))
    return Results(folder, rows, _replace_earlier(folder, old))


def _replace_earlier(folder: Path, old: Path) -> bool:
    """Move what was prepared to its place, results.json last, and what was there to an empty folder, which goes: no
    step takes any space on the disk. Returns whether there was a report of the earlier evaluation, which is gone
    then."""
    reported = (folder / "report.html").exists()
    for told_of_before in ("results.json", "report.html"):
        (folder / told_of_before).unlink(missing_ok=True)
    for name in (*FOLDERS, *_TEXTS):
        partial = folder / f"{name}.partial"
        if partial.exists():
            if (folder / name).exists():
                (folder / name).rename(old / name)  # where a file of it is open, a network's disk may not let it go yet
            partial.replace(folder / name)
    for gone in folder.glob(f"{_EARLIER}*"):  # one that could not go before, too
        shutil.rmtree(gone, ignore_errors=True)
    return reported


def folder_of(workdir: Path, split: str | None) -> Path:
    """Where an evaluation of a split lies; of `split` None the labelled one, if it was evaluated, else the other.

    Raises InputError where nothing was evaluated.
    """
    folders = [workdir / "evaluation" / name for name in ([split] if split else SPLITS)]
    for folder in folders:
        if (folder / "results.json").is_file():
            return folder
    words = f" --split {split}" if split else ""
    raise InputError(f"{folders[0]}: nothing was evaluated yet; run asdjax evaluate --workdir {workdir}{words} first")


def of_seed(described: Mapping[str, Any], seed: int | None) -> Mapping[str, Any]:
    """What results.json tells of a system's thresholds and members: its own, or with several seeds those of one."""
    return described["by_seed"][str(seed)] if "by_seed" in described else described


def read(folder: Path) -> dict[str, Any]:
    """results.json of an evaluation; raises InputError where nothing was evaluated, or it is damaged."""
    file = folder / "results.json"
    try:
        found = verify_checksum(file.read_text())
        if "clips" not in found:
            raise ValueError("of an earlier version of asdjax")
        return found
    except FileNotFoundError:
        raise InputError(f"{file}: no such file, nothing was evaluated yet; run asdjax evaluate first") from None
    except OSError as error:
        raise refused(error, file) or error from None
    except ValueError as error:
        raise InputError(f"{file}: {error}; run asdjax evaluate again") from error


def require_same(folder: Path, found: Mapping[str, Any]) -> None:
    """Raise InputError where results.json of an evaluation, `found` earlier, is another one by now, and so what has
    been read since."""
    try:
        same = read(folder) == found
    except InputError:  # gone for the moment in which another takes its place
        same = False
    if not same:
        raise InputError(f"{folder}: was evaluated anew meanwhile; run the same command again")


def _of_all_seeds(by_seed: BySeed) -> BySeed:
    """The systems that every seed has; says which are left out."""
    for name in dict.fromkeys(name for systems in by_seed.values() for name in systems):
        if lacking := [str(seed) for seed, systems in by_seed.items() if name not in systems]:
            log(f"{name}: left out, seed {', '.join(lacking)} lacks it")
    return {
        seed: {name: system for name, system in systems.items() if all(name in other for other in by_seed.values())}
        for seed, systems in by_seed.items()
    }


def _write_files(folder: Path, year: int, systems: Mapping[str, System], per: str) -> dict[str, str]:
    """What there is a file or folder of for each system, all in folders `<name>.partial`; returns the SHA-256 of each
    system's clips/<system>.csv."""
    fresh(folder, *_WRITTEN)
    for name, system in systems.items():
        submission.write(folder / "scores.partial" / name, year, system.clips)
        submission.verify(folder / "scores.partial" / name, year, system.clips)
        clip_table.write(folder / "clips.partial" / f"{name}.csv", system, per)
    return {name: sha256_of(folder / "clips.partial" / f"{name}.csv") for name in systems}


@contextlib.contextmanager
def _swept_after_an_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sweep(folder, *_WRITTEN)
        for name in _TEXTS:
            (folder / f"{name}.partial").unlink(missing_ok=True)
        raise


def fresh(folder: Path, *names: str) -> None:
    """Make the folders `<name>.partial` of an evaluation, empty, whatever a kill left in them."""
    sweep(folder, *names)
    for name in names:
        (folder / f"{name}.partial").mkdir(parents=True)


def sweep(folder: Path, *names: str) -> None:
    """Remove the folders `<name>.partial` of an evaluation."""
    for name in names:
        shutil.rmtree(folder / f"{name}.partial", ignore_errors=True)


def _intervals(year: int, of_seeds: Mapping[str, Sequence[System]]) -> dict[str, Interval | None]:
    return {
        name: bootstrap.interval(year, [system.clips for system in of_seeds[name]])
        for name in track(of_seeds, "intervals", len(of_seeds), "system", quiet=True)
    }


def _described(of_seeds: Sequence[System], seeds: Sequence[int], interval: Interval | None) -> dict[str, Any]:
    """A system's entry of results.json."""
    first = of_seeds[0]
    entry: dict[str, Any] = {
        "official": _mean([system.judgement.official for system in of_seeds]),
        "interval": interval,
        "selection": first.selection,
        "undefined_cells": first.judgement.undefined,
        "machines": _machines(of_seeds),
        "cells": [asdict(cell) for cell in _mean_cells([system.judgement.cells for system in of_seeds])],
    }
    if len(seeds) <= 1:
        return entry | _detector(first, "")
    return entry | {
        "seeds": list(seeds),
        "spread": _spread([system.judgement.official for system in of_seeds]),
        "by_seed": {seed: _detector(system, f"@{seed}") for seed, system in zip(seeds, of_seeds, strict=True)},
    }


def _detector(system: System, suffix: str) -> dict[str, Any]:
    """What a system decides by, which each seed has of its own; `suffix`: of its models' names."""
    limits = [
        {"machine": machine, "section": section, "domain": domain, **limit._asdict()}
        for (machine, section, domain), limit in system.thresholds.items()
    ]
    members = {machine: [f"{name}{suffix}" for name in names] for machine, names in system.members.items()}
    return {"thresholds": limits, "unscored_training_clips": system.unscored, "members": members}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return mean(defined) if len(defined) == len(values) else None


def _mean_cells(of_seeds: Sequence[Sequence[Cell]]) -> list[Cell]:
    return [
        replace(cells[0], **{figure: _mean([getattr(cell, figure) for cell in cells]) for figure in FIGURES + SHARES})
        for cells in zip(*of_seeds, strict=True)
    ]


def _spread(officials: Sequence[float | None]) -> float | None:
    """Standard deviation over seeds."""
    defined = [value for value in officials if value is not None]
    return stdev(defined) if len(defined) == len(officials) else None


def _machines(of_seeds: Sequence[System]) -> dict[str, dict[str, float | None]]:
    """The entries of the report's Table 2: by machine type harmonic means of AUC and pAUC, averaged over seeds."""
    figures = [machine_figures(system.judgement) for system in of_seeds]
    return {
        machine: {"auc": _mean([f[machine][0] for f in figures]), "pauc": _mean([f[machine][1] for f in figures])}
        for machine in figures[0]
    }


def _row(name: str, of_seeds: Sequence[System], interval: Interval | None, split: str) -> SystemRow:
    by_machine = {machine: (means["auc"], means["pauc"]) for machine, means in _machines(of_seeds).items()}
    officials = [system.judgement.official for system in of_seeds]
    spread = _spread(officials) if len(of_seeds) > 1 else None
    undefined = of_seeds[0].judgement.undefined
    cells = _mean_cells([system.judgement.cells for system in of_seeds])
    return SystemRow(
        name,
        by_machine,
        _mean(officials),
        interval,
        of_seeds[0].selection,
        undefined,
        split,
        spread,
        mean_share(cells, "found"),
        mean_share(cells, "false_alarms"),
    )
