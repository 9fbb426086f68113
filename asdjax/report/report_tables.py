"""The report's tables and sentences, from results.json and the headline system's clips."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from asdjax.evaluation.clip_table import ClipRow
from asdjax.evaluation.metrics import Cell, mean_share
from asdjax.evaluation.results_table import MARKS, SystemRow, as_range, notes, percent, with_spread
from asdjax.inference import thresholds
from asdjax.inference.ensembles import ALL, ALL_SEEDS, TOP, TOP_HELD_OUT
from asdjax.report.report_inputs import HEADLINE, ReportInputs

_RULES = {
    thresholds.GAMMA: "gamma distribution",
    thresholds.EMPIRICAL: "of the scores themselves",
    thresholds.SCALED: "gamma distribution with the shape of the section's other domain",
}
_AVERAGED = {"score": "scores", "rank": "ranks among training scores", "zscore": "z-scores by training scores"}
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
    found: int
    normals: int
    alarms: int


def counts(rows: Sequence[ClipRow]) -> Counts:
    """Over test clips."""
    clips = [row.clip for row in rows if row.split == "test"]
    anomalies = [clip for clip in clips if clip.label == "anomaly"]
    normals = [clip for clip in clips if clip.label == "normal"]
    called, found, alarms = (sum(clip.decision is True for clip in some) for some in (clips, anomalies, normals))
    return Counts(len(clips), called, len(anomalies), found, len(normals), alarms)


def system_rows(results: Mapping[str, Any]) -> list[SystemRow]:
    """The systems of results.json as rows of the report's Table 2."""
    return [
        SystemRow(
            system=name,
            figures={machine: (figures["auc"], figures["pauc"]) for machine, figures in system["machines"].items()},
            official=system["official"],
            interval=None if system["interval"] is None else tuple(system["interval"]),
            selection=system["selection"],
            undefined=system["undefined_cells"],
            split=results["split"],
            spread=system.get("spread"),
            found=mean_share(_cells(system), "found"),
            false_alarms=mean_share(_cells(system), "false_alarms"),
        )
        for name, system in results["systems"].items()
    ]


def systems(inputs: ReportInputs) -> Table:
    """All systems."""
    rows = system_rows(inputs.results)
    machines = list(rows[0].figures)
    head = ["System", "Kind", "Official", "95 % interval", "Found", "False alarms", *machines]
    lines = [
        Line(
            [
                row.system + MARKS.get(row.selection, ""),
                kind_of(row.system, inputs),
                with_spread(row),
                as_range(row.interval).replace("-", "–"),
                percent(row.found),
                percent(row.false_alarms),
                *(" / ".join(map(percent, row.figures[machine])) for machine in machines),
            ],
            row.system == HEADLINE,
        )
        for row in rows
    ]
    below = ["All figures in %. By machine type: AUC / pAUC.", *notes(rows)]
    if len(inputs.seeds) > 1:
        below.append(f"Means over the seeds {', '.join(map(str, inputs.seeds))}.")
    return Table(head, lines, below)


def kind_of(system: str, inputs: ReportInputs) -> str:
    """Single model, ensemble or baseline."""
    if system in _ENSEMBLES:
        return "ensemble"
    return "single model" if system.split("@")[0] in inputs.config.variants else "baseline"


def cells(inputs: ReportInputs, machine: str) -> Table:
    """The headline system's cells of a machine type."""
    of_machine = [cell for cell in _cells(inputs.results["systems"][HEADLINE]) if cell.machine == machine]
    figures = ("auc", "pauc", "found", "false_alarms", "precision", "recall", "f1")
    lines = [
        Line([cell.section, cell.domain or "–", *(percent(getattr(cell, name)) for name in figures)], False)
        for cell in of_machine
    ]
    head = ["Section", "Domain", "AUC", "pAUC", "Found", "False alarms", "Precision", "Recall", "F1"]
    return Table(head, lines, ["All figures in %."])


def _cells(system: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of a system of results.json."""
    return [Cell(**cell) for cell in system["cells"]]


def limits(inputs: ReportInputs) -> Table:
    """The thresholds of the headline system, of the seed that is shown, and what they mean for training clips."""
    percentile = inputs.config.evaluate.threshold_percentile
    every_domain = "not given" if inputs.config.evaluate.threshold_per == "section_domain" else "all"
    lines = [
        Line(
            [
                limit["machine"],
                limit["section"] or "all",
                limit["domain"] or every_domain,
                f"{percentile:g}th percentile, {_RULES[limit['rule']]}",
                f"{limit['value']:.4g}",
                str(limit["clips"]),
                percent(limit["false_alarms"]),
            ],
            False,
        )
        for limit in inputs.detector["thresholds"]
    ]
    head = ["Machine type", "Section", "Domain", "Rule", "Threshold", "Training clips", "Above it (%)"]
    below = [
        "A clip whose score is above the threshold is called anomalous. Above it: the share of normal training clips "
        "that would be false alarms, each scored without its own pieces."
    ]
    if inputs.config.evaluate.threshold_per == "section_domain":
        below.append("Domain not given: what decides new clips of which only the section is known.")
    return Table(head, lines, below)


def headline(inputs: ReportInputs) -> str:
    """The official score, its interval and how it was selected; without one, why, and what is known all the same."""
    system = inputs.results["systems"][HEADLINE]
    what = f"{HEADLINE}, {_what(inputs)} of each machine type,"
    if system["official"] is None:
        return f"{what} {_unjudged(counts(inputs.rows))}"
    interval = f" (95 % interval {as_range(tuple(system['interval'])).replace('-', '–')})" if system["interval"] else ""
    over = f", the mean over {len(inputs.seeds)} seeds," if len(inputs.seeds) > 1 else ""
    return (
        f"{what} reaches an official score of {percent(system['official'])} of 100{interval}{over} by the rules of "
        f"{inputs.results['year']}; nothing in it was chosen by test labels."
    )


def _what(inputs: ReportInputs) -> str:
    """What the headline system averages, of how many models."""
    numbers = sorted({len(names) for names in inputs.detector["members"].values()})
    if numbers == [1]:
        return "the score of the one model"
    models = f"{numbers[0]} models" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} models"
    return f"the mean of the {_AVERAGED[inputs.config.evaluate.ensemble]} of the {models}"


def _unjudged(told: Counts) -> str:
    """What can be said without an official score."""
    if not told.clips:
        return "has had no test clips to judge. Below are its training clips' scores and thresholds."
    if not told.normals + told.anomalies:
        return (
            f"was asked about {told.clips} clips whose labels are not known. So no figure can tell how well it does; "
            "below are its scores, thresholds and decisions."
        )
    if not told.anomalies and told.normals == told.clips:
        share = percent(told.alarms / told.normals)
        return (
            f"was asked about {told.clips} clips, all of them normal, and calls {told.alarms} of them anomalous: a "
            f"false-alarm rate of {share} %. How many faults it catches cannot be told without any."
        )
    return (
        f"was asked about {told.clips} clips, {told.normals} known to be normal and {told.anomalies} to be anomalies, "
        f"but no section and domain has both and all its labels. It calls {told.alarms} of these normal clips and "
        f"{told.found} of these anomalies anomalous."
    )
