"""The report's tables and sentences, from results.json and the headline system's clips."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from asdjax.evaluation import thresholds
from asdjax.evaluation.clip_table import Row
from asdjax.evaluation.ensembles import ALL, ALL_SEEDS, HELD_OUT, LABELLED_TEST, TOP, TOP_HELD_OUT
from asdjax.evaluation.metrics import Cell
from asdjax.evaluation.report.inputs import HEADLINE, Inputs
from asdjax.evaluation.table import MARKS, as_range, notes, percent
from asdjax.evaluation.table import Row as SystemRow

_SELECTED = {
    LABELLED_TEST: "its models were chosen by labelled test data, so this is an upper bound, not a result",
    HELD_OUT: "its models were chosen by normal clips held out of training, without any label of a fault",
}
_RULES = {thresholds.GAMMA: "gamma distribution", thresholds.EMPIRICAL: "of the scores themselves"}
_ENSEMBLES = {ALL, ALL_SEEDS, *TOP, *TOP_HELD_OUT}


class Line(NamedTuple):
    """A table row as text; the headline system's is strong."""

    texts: list[str]
    strong: bool


class Table(NamedTuple):
    """Column heads, rows, and what stands below."""

    head: list[str]
    lines: list[Line]
    notes: list[str]


class Counts(NamedTuple):
    """How clips of known label, and all, were decided."""

    clips: int
    called: int
    anomalies: int
    caught: int
    normals: int
    alarms: int


def counts(rows: Sequence[Row]) -> Counts:
    """Over test clips."""
    clips = [row.clip for row in rows if row.split == "test"]
    anomalies = [clip for clip in clips if clip.label == "anomaly"]
    normals = [clip for clip in clips if clip.label == "normal"]
    called, caught, alarms = (sum(clip.decision is True for clip in some) for some in (clips, anomalies, normals))
    return Counts(len(clips), called, len(anomalies), caught, len(normals), alarms)


def system_rows(results: Mapping[str, Any]) -> list[SystemRow]:
    """The systems of results.json as rows of the report's Table 2."""
    return [
        SystemRow(
            name,
            {machine: (figures["auc"], figures["pauc"]) for machine, figures in system["machines"].items()},
            system["official"],
            None if system["interval"] is None else tuple(system["interval"]),
            system["selection"],
            system["undefined_cells"],
        )
        for name, system in results["systems"].items()
    ]


def systems(inputs: Inputs) -> Table:
    """All systems; with several seeds the spread over them."""
    rows = system_rows(inputs.results)
    machines = list(rows[0].figures)
    several = len(inputs.seeds) > 1
    head = ["System", "Kind", "Official", "95 % interval", *(["Spread over seeds"] if several else []), *machines]
    lines = [
        Line(
            [
                row.system + MARKS.get(row.selection, ""),
                kind_of(row.system, inputs),
                percent(row.official),
                as_range(row.interval).replace("-", "–"),
                *([percent(inputs.results["systems"][row.system].get("spread"))] if several else []),
                *(" / ".join(map(percent, row.figures[machine])) for machine in machines),
            ],
            row.system == HEADLINE,
        )
        for row in rows
    ]
    below = ["All figures in %. By machine type: AUC / pAUC.", *notes(rows)]
    if several:
        below.append(f"Means over the seeds {', '.join(map(str, inputs.seeds))}.")
    return Table(head, lines, below)


def kind_of(system: str, inputs: Inputs) -> str:
    """Single model, ensemble or baseline."""
    if system in _ENSEMBLES:
        return "ensemble"
    return "single model" if system.split("@")[0] in inputs.config.variants else "baseline"


def cells(inputs: Inputs, machine: str) -> Table:
    """The headline system's cells of a machine type."""
    of_machine = [cell for cell in _cells(inputs) if cell.machine == machine]
    figures = ("auc", "pauc", "precision", "recall", "f1")
    lines = [
        Line([cell.section, cell.domain or "–", *(percent(getattr(cell, name)) for name in figures)], False)
        for cell in of_machine
    ]
    return Table(["Section", "Domain", "AUC", "pAUC", "Precision", "Recall", "F1"], lines, ["All figures in %."])


def _cells(inputs: Inputs) -> list[Cell]:
    return [Cell(**cell) for cell in inputs.results["systems"][HEADLINE]["cells"]]


def limits(inputs: Inputs) -> Table:
    """The thresholds of the headline system, of the seed that is shown, and what they mean for training clips."""
    per, percentile = inputs.config.evaluate.threshold_per, inputs.config.evaluate.threshold_percentile
    groups: dict[thresholds.Group, list[Row]] = {}
    for row in inputs.rows:
        if row.split == "train":
            groups.setdefault(thresholds.GROUPS[per](row.clip), []).append(row)
    lines = []
    for (machine, section, domain), rows in sorted(groups.items(), key=repr):
        fitted = thresholds.fit([row.clip.score for row in rows], percentile)
        place = [machine, section or "all", domain or "all"]
        rule = f"{percentile:g}th percentile, {_RULES[fitted.rule]}"
        share = percent(fitted.false_alarms)
        lines.append(Line([*place, rule, f"{rows[0].threshold:.4g}", str(fitted.clips), share], False))
    head = ["Machine type", "Section", "Domain", "Rule", "Threshold", "Training clips", "Above it (%)"]
    below = [
        "A clip whose score is above the threshold is called anomalous. Above it: the share of normal training clips "
        "that would be false alarms, each scored without its own pieces."
    ]
    return Table(head, lines, below)


def headline(inputs: Inputs) -> str:
    """The official score, its interval and how it was selected, in one sentence."""
    system = inputs.results["systems"][HEADLINE]
    number = len(inputs.fleets[0].steps) * len(inputs.config.variants)
    what = f"{HEADLINE}, the mean of the scores of {_all(number)} of each machine type,"
    if system["official"] is None:
        return (
            f"{what} was asked about {counts(inputs.rows).clips} clips whose labels are not known. So no figure can "
            "tell how well it does; below are its scores, thresholds and decisions."
        )
    interval = f" (95 % interval {as_range(tuple(system['interval'])).replace('-', '–')})" if system["interval"] else ""
    over = f", the mean over {len(inputs.seeds)} seeds," if len(inputs.seeds) > 1 else ""
    chosen = _SELECTED.get(system["selection"], "nothing in it was chosen by test labels")
    return (
        f"{what} reaches an official score of {percent(system['official'])} of 100{interval}{over} by the rules of "
        f"{inputs.results['year']}; {chosen}."
    )


def _all(number: int) -> str:
    return "the one model" if number == 1 else f"the {number} models"
