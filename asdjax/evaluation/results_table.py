"""The table of systems: the report's Table 2 (harmonic means of AUC and pAUC by machine type) and overall figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asdjax.evaluation.metrics import Cell, mean_share
from asdjax.inference.stored_results import HELD_OUT, LABELLED_TEST
from asdjax.runtime import text_table

_OFFICIAL, _INTERVAL, _FOUND, _FALSE_ALARMS = "official", "95 % interval", "found", "false alarms"
_OVERALL = 4  # last columns, which are over all machine types
_TITLE = "AUC/pAUC in %"
#: Mark after the name of a system with selected models, by its selection.
MARKS = {LABELLED_TEST: "*", HELD_OUT: "+"}

# Note on LABELLED_TEST, by split.
_SELECTED_BY_LABELS = {
    "dev": "labelled test data: an upper bound, not a result",
    "eval": "labels of the development set's test clips, and evaluated on other clips",
}

#: Note below every table of systems.
SHARES_NOTE = (
    "Found, false alarms: shares of anomalous and of normal clips that raise an alarm, means over sections and domains."
)


@dataclass(frozen=True, kw_only=True)
class SystemRow:
    """A system's row. Figures are fractions, None where undefined.

    `figures` holds (AUC, pAUC) by machine type. `official` is the official score, `interval` its 95 % interval and
    `spread` its standard deviation over several seeds. `selection` names the data that selected the models. `undefined`
    counts undefined cells. `found` and `false_alarms` are means over cells.
    """

    system: str
    figures: Mapping[str, tuple[float | None, float | None]]
    official: float | None
    interval: tuple[float, float] | None
    selection: str
    undefined: int
    split: str = "dev"
    spread: float | None = None
    found: float | None = None
    false_alarms: float | None = None


def list_rows(results: Mapping[str, Any]) -> list[SystemRow]:
    """Return the rows of the systems in the content of a results.json."""
    return [_make_row(name, system, results["split"]) for name, system in results["systems"].items()]


def _make_row(name: str, system: Mapping[str, Any], split: str) -> SystemRow:
    cells = [Cell(**cell) for cell in system["cells"]]
    return SystemRow(
        system=name,
        figures={machine: (figures["auc"], figures["pauc"]) for machine, figures in system["machines"].items()},
        official=system["official"],
        interval=None if system["interval"] is None else tuple(system["interval"]),
        selection=system["selection"],
        undefined=system["undefined_cells"],
        split=split,
        spread=system.get("spread"),
        found=mean_share(cells, "found"),
        false_alarms=mean_share(cells, "false_alarms"),
    )


def as_markdown(rows: Sequence[SystemRow]) -> str:
    """Format the table for table.md."""
    head, *body = [[text.replace("|", r"\|") for text in texts] for texts in _format_cells(rows)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(texts) + " |" for texts in body]
    return "\n".join([*lines, "", *notes(rows), ""])


def as_text(rows: Sequence[SystemRow], width: int = 80) -> str:
    """Return the table for a terminal of `width` characters. Machine types that do not fit continue below."""
    table = text_table.format_table(_format_cells(rows), width, together=_OVERALL)
    return f"{table}\n\n{text_table.format_notes(notes(rows), width)}"


def _format_cells(rows: Sequence[SystemRow]) -> list[list[str]]:
    """Return the texts of the table's cells, with the header first."""
    machines = list(rows[0].figures)
    body = [
        [
            row.system + MARKS.get(row.selection, ""),
            *("/".join(map(percent, row.figures[machine])) for machine in machines),
            with_spread(row),
            as_range(row.interval),
            percent(row.found),
            percent(row.false_alarms),
        ]
        for row in rows
    ]
    return [[_TITLE, *machines, _OFFICIAL, _INTERVAL, _FOUND, _FALSE_ALARMS], *body]


def notes(rows: Sequence[SystemRow]) -> list[str]:
    """Return the notes below the table, a sentence or two each."""
    lines = [
        "By machine type: harmonic means over its sections and domains; official: the year's mean over all.",
        "Interval: of the official score over other test clips (bootstrap), not over other trainings.",
        SHARES_NOTE,
    ]
    if any(row.spread is not None for row in rows):
        lines.append("±: standard deviation over the seeds; figures are means over the seeds.")
    selections = {row.selection for row in rows}
    if LABELLED_TEST in selections:
        lines.append(f"{MARKS[LABELLED_TEST]} models chosen by {_SELECTED_BY_LABELS[rows[0].split]}.")
    if HELD_OUT in selections:
        lines.append(f"{MARKS[HELD_OUT]} models chosen by normal clips held out of training, without any label.")
    if any(row.undefined for row in rows):
        number = max(row.undefined for row in rows)
        lines.append(f"{number} cells are undefined (one class only or no labels) and enter no mean.")
    return lines


def with_spread(row: SystemRow) -> str:
    """Format the official score, with its standard deviation over several seeds: 67.44 ± 0.31."""
    return percent(row.official) + ("" if row.spread is None else f" ± {percent(row.spread)}")


def as_range(interval: tuple[float, float] | None) -> str:
    """Format an interval in percent: (0.6512, 0.6893) -> 65.12-68.93, undefined -> -."""
    return "-" if interval is None else "-".join(map(percent, interval))


def percent(fraction: float | None) -> str:
    """Format a fraction in percent: 0.6744 -> 67.44, undefined -> -."""
    return "-" if fraction is None else f"{100 * fraction:.2f}"
