"""The report's Table 2 beside an evaluation: each machine type's AUC and pAUC, with the spread of our seeds."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

from asdjax.errors import InputError
from asdjax.evaluation.results_table import percent
from asdjax.inference import ensembles
from asdjax.runtime import text_table

#: Harmonic means of AUC and pAUC in % by system and machine type: Zhou 2021, Table 2, development set.
TABLE_2: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "best_single": {
        "ToyCar": (76.12, 62.65),
        "ToyTrain": (72.00, 59.92),
        "fan": (76.61, 71.45),
        "gearbox": (80.58, 55.32),
        "pump": (71.66, 62.74),
        "slider": (81.67, 68.16),
        "valve": (70.11, 56.23),
    },
    "top3_mean": {
        "ToyCar": (77.34, 62.81),
        "ToyTrain": (71.42, 60.43),
        "fan": (76.26, 70.91),
        "gearbox": (80.68, 55.59),
        "pump": (72.73, 62.89),
        "slider": (81.48, 68.50),
        "valve": (69.82, 56.41),
    },
    "top5_mean": {
        "ToyCar": (78.03, 65.37),
        "ToyTrain": (71.30, 60.49),
        "fan": (75.10, 70.58),
        "gearbox": (80.26, 55.22),
        "pump": (71.73, 62.71),
        "slider": (81.65, 68.82),
        "valve": (69.99, 56.83),
    },
    ensembles.ALL: {
        "ToyCar": (77.69, 64.20),
        "ToyTrain": (70.90, 58.98),
        "fan": (72.97, 69.03),
        "gearbox": (79.71, 54.00),
        "pump": (71.37, 62.67),
        "slider": (80.88, 68.45),
        "valve": (69.38, 57.20),
    },
}
_SUBMISSIONS = {system: f"Submission {number}" for number, system in enumerate(TABLE_2, start=1)}
_OVERALL = "all cells"
_FIGURES = ("AUC", "pAUC")


class Compared(NamedTuple):
    """A cell of Table 2 beside ours: the report's figure and that of each seed, in %.

    `machine` is _OVERALL for the harmonic mean of a submission's fourteen cells, whose `figure` is "official".
    """

    system: str
    machine: str
    figure: str
    report: float
    seeds: tuple[float, ...]

    @property
    def is_within(self) -> bool | None:
        """Return True if the report's figure is between our lowest and highest seed; None for a single seed."""
        return min(self.seeds) <= self.report <= max(self.seeds) if len(self.seeds) > 1 else None


def compare(results: Mapping[str, Any]) -> list[Compared]:
    """Return the cells of Table 2 that an evaluation has, from the content of its results.json.

    Raises InputError for an evaluation of another layout or split, and for one without any machine type of Table 2.
    """
    if (results["layout"], results["split"]) != ("dcase2021", "dev"):
        raise InputError(
            f"results.json: expected an evaluation of the development set of 2021, got the split {results['split']} of "
            f"recordings in the layout {results['layout']}; evaluate those of the challenge"
        )
    compared = [one for system in TABLE_2 if system in results["systems"] for one in _compare_system(results, system)]
    if not compared:
        raise InputError(
            f"results.json: expected any of {', '.join(TABLE_2[ensembles.ALL])} with figures, got none; evaluate the "
            "challenge's recordings"
        )
    return compared


def _compare_system(results: Mapping[str, Any], system: str) -> Iterator[Compared]:
    entry = results["systems"][system]
    by_seed = list(entry.get("by_seed", {0: entry}).values())
    machines = [name for name in TABLE_2[system] if name in entry["machines"]]
    for machine in machines:
        for figure, reported in zip(_FIGURES, TABLE_2[system][machine], strict=True):
            values = [one["machines"][machine][figure.lower()] for one in by_seed]
            if None not in values:
                yield Compared(system, machine, figure, reported, tuple(100 * value for value in values))
    officials = [one["official"] for one in by_seed]
    if len(machines) == len(TABLE_2[system]) and None not in officials:
        cells = [value for pair in TABLE_2[system].values() for value in pair]
        reported = len(cells) / sum(1 / value for value in cells)
        yield Compared(system, _OVERALL, "official", reported, tuple(100 * value for value in officials))


def as_text(compared: Sequence[Compared], width: int) -> str:
    """Return the comparison as a table for a terminal of `width` characters."""
    rows: list[list[str]] = []
    for system, name in _SUBMISSIONS.items():
        of_system = [one for one in compared if one.system == system]
        if of_system:
            rows += [[]] if rows else []
            rows.append([f"{name}, {system}", "", "report", "ours", "seeds", "within"])
            rows += map(_format_row, of_system)
    known = [one.is_within for one in compared if one.is_within is not None]
    notes = [
        "Harmonic means over sections and domains in %; all cells: the official score. ours: mean over seeds; seeds: "
        "lowest and highest; within: is the report's figure between these?"
    ]
    if known:
        notes.append(f"{sum(known)} of {len(known)} of the report's figures are within the spread of the seeds.")
    table = text_table.format_table(rows, width, left=2)
    return f"{table}\n\n{text_table.format_notes(notes, width)}"


def _format_row(one: Compared) -> list[str]:
    low, high = min(one.seeds), max(one.seeds)
    within = {None: "-", True: "yes", False: "no"}[one.is_within]
    spread = f"{low:.2f}-{high:.2f}" if len(one.seeds) > 1 else "-"
    return [f"  {one.machine}", one.figure, f"{one.report:.2f}", percent(mean(one.seeds) / 100), spread, within]


def as_json(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """Return the content of `asdjax compare --json`: a dict per cell."""
    return [{**one._asdict(), "within": one.is_within} for one in compared]
