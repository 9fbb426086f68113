"""What an evaluation leaves behind: results.json, table.md, the challenge's score and decision files."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from asdjax.evaluation import bootstrap, ensembles, submission
from asdjax.evaluation.bootstrap import Interval
from asdjax.evaluation.metrics import FIGURES, Cell
from asdjax.evaluation.systems import System, machine_figures
from asdjax.evaluation.table import Row, as_markdown
from asdjax.files import replace_text
from asdjax.progress import track

BySeed = Mapping[int, Mapping[str, System]]


class Results(NamedTuple):
    """Where everything lies, and the rows of the table."""

    folder: Path
    rows: list[Row]


def write(folder: Path, year: int, by_seed: BySeed, about: Mapping[str, Any]) -> Results:
    """Write into an evaluation's folder, which is there; results.json comes last: where it is, the rest is whole.

    `about` is what results.json begins with. With several seeds a system's figures are means over them, and every
    seed has score files of its own. Raises InputError for names that no score file can hold; an earlier
    evaluation then stands, as it does where the score files cannot be written.
    """
    names = list(next(iter(by_seed.values())))
    intervals = _intervals(year, by_seed, names)
    rows = [_row(name, [systems[name] for systems in by_seed.values()], intervals[name]) for name in names]
    described = {
        name: _described([s[name] for s in by_seed.values()], list(by_seed), intervals[name]) for name in names
    }
    _write_scores(folder / "scores.partial", year, by_seed)
    (folder / "results.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "scores", ignore_errors=True)
    (folder / "scores.partial").rename(folder / "scores")
    replace_text(folder / "table.md", as_markdown(rows))
    replace_text(folder / "results.json", json.dumps({**about, "systems": described}, indent=1) + "\n")
    return Results(folder, rows)


def _write_scores(folder: Path, year: int, by_seed: BySeed) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left
    try:
        for seed, systems in by_seed.items():
            for name, system in systems.items():
                submission.write(folder / (name if len(by_seed) == 1 else f"{name}@{seed}"), year, system.clips)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _intervals(year: int, by_seed: BySeed, names: Sequence[str]) -> dict[str, Interval | None]:
    return {
        name: bootstrap.interval(year, [systems[name].clips for systems in by_seed.values()])
        for name in track(names, "intervals", len(names), "system", quiet=True)
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
    if len(of_seeds) == 1:
        entry["thresholds"] = {machine: limit._asdict() for machine, limit in first.thresholds.items()}
        entry["unscored_training_clips"] = first.unscored
        entry["members"] = first.members
    else:
        entry |= {"seeds": list(seeds), "spread": _spread([system.judgement.official for system in of_seeds])}
    return entry


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return mean(defined) if len(defined) == len(values) else None


def _mean_cells(of_seeds: Sequence[Sequence[Cell]]) -> list[Cell]:
    return [
        replace(cells[0], **{figure: _mean([getattr(cell, figure) for cell in cells]) for figure in FIGURES})
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


def _row(name: str, of_seeds: Sequence[System], interval: Interval | None) -> Row:
    by_machine = {machine: (means["auc"], means["pauc"]) for machine, means in _machines(of_seeds).items()}
    official = _mean([system.judgement.official for system in of_seeds])
    undefined = of_seeds[0].judgement.undefined
    return Row(name, by_machine, official, interval, of_seeds[0].selection == ensembles.LABELLED_TEST, undefined)
