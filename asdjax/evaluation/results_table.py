"""The report's Table 2 for a run: harmonic means of AUC and pAUC by machine type, in percent."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from asdjax.inference.ensembles import HELD_OUT, LABELLED_TEST
from asdjax.runtime import text_table

_OFFICIAL, _INTERVAL, _FOUND, _FALSE_ALARMS = "official", "95 % interval", "found", "false alarms"
_OVERALL = 4  # columns, the last, that are over all machine types
_TITLE = "AUC/pAUC in %"
MARKS = {LABELLED_TEST: "*", HELD_OUT: "+"}
"""Behind the name of a system whose models were chosen, by what chose them."""

CHOSEN_BY_LABELS = {
    "dev": "labelled test data: an upper bound, not a result",
    "eval": "labels of the development set's test clips, and judged on other clips",
}
"""What LABELLED_TEST says of a split."""

#: Below every table of systems.
SHARES_NOTE = (
    "Found, false alarms: shares of anomalous and of normal clips that raise an alarm, means over sections and domains."
)


class SystemRow(NamedTuple):
    """A system's line: (AUC, pAUC) by machine type, the official score and its 95 % interval, what chose its models,
    how many cells are undefined, of which split the clips are, over several seeds the official score's standard
    deviation, and the means over cells of the shares of faults found and of false alarms. Figures are fractions, None
    where undefined."""

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


def as_markdown(rows: Sequence[SystemRow]) -> str:
    """The table for table.md."""
    head, *body = [[text.replace("|", r"\|") for text in texts] for texts in _texts(rows)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(texts) + " |" for texts in body]
    return "\n".join([*lines, "", *notes(rows), ""])


def as_text(rows: Sequence[SystemRow], width: int = 80) -> str:
    """Return the table for a terminal of `width` characters. Machine types that do not fit continue below."""
    table = text_table.format_table(_texts(rows), width, together=_OVERALL)
    return f"{table}\n\n{text_table.format_notes(notes(rows), width)}"


def _texts(rows: Sequence[SystemRow]) -> list[list[str]]:
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
    """What stands below the table, a sentence or two each."""
    lines = [
        "By machine type: harmonic means over its sections and domains; official: the year's mean over all.",
        "Interval: of the official score over other test clips (bootstrap), not over other trainings.",
        SHARES_NOTE,
    ]
    if any(row.spread is not None for row in rows):
        lines.append("±: standard deviation over the seeds, whose mean the figures are.")
    selections = {row.selection for row in rows}
    if LABELLED_TEST in selections:
        lines.append(f"{MARKS[LABELLED_TEST]} models chosen by {CHOSEN_BY_LABELS[rows[0].split]}.")
    if HELD_OUT in selections:
        lines.append(f"{MARKS[HELD_OUT]} models chosen by normal clips held out of training, without any label.")
    if any(row.undefined for row in rows):
        number = max(row.undefined for row in rows)
        lines.append(f"{number} cells are undefined (one class only or no labels) and enter no mean.")
    return lines


def with_spread(row: SystemRow) -> str:
    """The official score, over several seeds with its standard deviation: 67.44 ± 0.31."""
    return percent(row.official) + ("" if row.spread is None else f" ± {percent(row.spread)}")


def as_range(interval: tuple[float, float] | None) -> str:
    """For people: (0.6512, 0.6893) -> 65.12-68.93, undefined -> -."""
    return "-" if interval is None else "-".join(map(percent, interval))


def percent(fraction: float | None) -> str:
    """For people: 0.6744 -> 67.44, undefined -> -."""
    return "-" if fraction is None else f"{100 * fraction:.2f}"
