"""Tables and sentences of the report, from results.json and the headline system's clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from asdjax.evaluation.clip_table import ClipRow
from asdjax.evaluation.metrics import Cell
from asdjax.evaluation.results_table import MARKS, as_range, list_rows, notes, percent, with_spread
from asdjax.inference import thresholds
from asdjax.inference.ensembles import OF_ALL_SEEDS, TOP, TOP_HELD_OUT
from asdjax.report.report_inputs import ReportInputs

_RULES = {
    thresholds.GAMMA: "gamma distribution",
    thresholds.EMPIRICAL: "of the scores themselves",
    thresholds.PREDICTED: "predicted from these and the spread of the section's other domain",
}
_AVERAGED = {"score": "scores", "rank": "ranks among training scores", "zscore": "z-scores by training scores"}
_ENSEMBLES = {*OF_ALL_SEEDS, *OF_ALL_SEEDS.values(), *TOP, *TOP_HELD_OUT}


class TableRow(NamedTuple):
    """Texts of a table row. The headline system's row is strong."""

    texts: list[str]
    strong: bool = False


class ReportTable(NamedTuple):
    """Column headings, rows, and notes below the table."""

    head: list[str]
    rows: list[TableRow]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class DecisionCounts:
    """Numbers of clips by decision and label. Clips of unknown label count only in `clips` and `alarms`."""

    clips: int
    alarms: int
    anomalies: int
    found: int
    normals: int
    false_alarms: int


def count_decisions(rows: Sequence[ClipRow]) -> DecisionCounts:
    """Count the decisions on test clips."""
    clips = [row.clip for row in rows if row.split == "test"]
    anomalies = [clip for clip in clips if clip.label == "anomaly"]
    normals = [clip for clip in clips if clip.label == "normal"]
    alarms, found, false_alarms = (sum(clip.decision is True for clip in some) for some in (clips, anomalies, normals))
    return DecisionCounts(
        clips=len(clips),
        alarms=alarms,
        anomalies=len(anomalies),
        found=found,
        normals=len(normals),
        false_alarms=false_alarms,
    )


def make_systems_table(inputs: ReportInputs) -> ReportTable:
    """Return the table of all systems, with AUC and pAUC by machine type."""
    rows = list_rows(inputs.results)
    machines = list(rows[0].figures)
    head = ["System", "Kind", "Official", "95 % interval", "Found", "False alarms", *machines]
    table_rows = [
        TableRow(
            [
                row.system + MARKS.get(row.selection, ""),
                _name_kind(row.system, inputs),
                with_spread(row),
                format_interval(row.interval),
                percent(row.found),
                percent(row.false_alarms),
                *(" / ".join(map(percent, row.figures[machine])) for machine in machines),
            ],
            row.system == inputs.headline,
        )
        for row in rows
    ]
    below = ["All values in %. By machine type: AUC / pAUC.", *notes(rows)]
    if len(inputs.seeds) > 1:
        below.append(f"Means over the seeds {', '.join(map(str, inputs.seeds))}.")
    return ReportTable(head, table_rows, below)


def _list_cells(system: Mapping[str, Any]) -> list[Cell]:
    return [Cell(**cell) for cell in system["cells"]]


def _name_kind(system: str, inputs: ReportInputs) -> str:
    if system in _ENSEMBLES:
        return "ensemble"
    return "single model" if system.split("@")[0] in inputs.config.variants else "baseline"


def make_cells_table(inputs: ReportInputs, machine: str) -> ReportTable:
    """Return the table of a machine type's sections and domains, for the headline system."""
    columns = {
        "AUC": "auc",
        "pAUC": "pauc",
        "Found": "found",
        "False alarms": "false_alarms",
        "Precision": "precision",
        "Recall": "recall",
        "F1": "f1",
    }
    rows = [
        TableRow([cell.section, cell.domain or "–", *(percent(getattr(cell, field)) for field in columns.values())])
        for cell in _list_cells(inputs.system)
        if cell.machine == machine
    ]
    return ReportTable(["Section", "Domain", *columns], rows, ["All values in %."])


def make_thresholds_table(inputs: ReportInputs) -> ReportTable:
    """Return the table of the headline system's thresholds, with the false alarms they cause on training clips."""
    percentile = inputs.config.evaluate.threshold_percentile
    by_domain = inputs.config.evaluate.threshold_per == "section_domain"
    rows = [
        TableRow(
            [
                threshold["machine"],
                threshold["section"] or "all",
                threshold["domain"] or ("not given" if by_domain else "all"),
                f"{percentile:g}th percentile, {_RULES[threshold['rule']]}",
                f"{threshold['value']:.4g}",
                str(threshold["clips"]),
                percent(threshold["false_alarms"]),
            ]
        )
        for threshold in inputs.detector["thresholds"]
    ]
    head = ["Machine type", "Section", "Domain", "Rule", "Threshold", "Training clips", "Above it (%)"]
    below = [
        "A clip whose score is above the threshold is called anomalous. Above it: the share of normal training clips "
        "that would be false alarms. Each of them is scored without its own pieces in the bank."
    ]
    if by_domain:
        below.append("Domain not given: the threshold for new clips whose domain is unknown.")
    return ReportTable(head, rows, below)


def write_headline(inputs: ReportInputs) -> str:
    """Return the official score with its interval as a sentence, or what is known of the decisions without a score."""
    system = f"{inputs.headline}, {_describe_average(inputs)} of each machine type,"
    official = inputs.system["official"]
    if official is None:
        return f"{system} {_describe_decisions(count_decisions(inputs.rows))}"
    interval = inputs.system["interval"]
    interval_text = f" (95 % interval {format_interval(tuple(interval))})" if interval else ""
    seeds = f", the mean over {len(inputs.seeds)} seeds," if len(inputs.seeds) > 1 else ""
    return (
        f"{system} reaches an official score of {percent(official)} of 100{interval_text}{seeds} by the rules of "
        f"{inputs.results['year']}. No test label was used to choose anything in it."
    )


def format_interval(interval: tuple[float, float] | None) -> str:
    """Return an interval in percent, with an en dash."""
    return as_range(interval).replace("-", "–")


def _describe_average(inputs: ReportInputs) -> str:
    all_numbers = {len(names) for names in inputs.detector["members"].values()}
    numbers = sorted(all_numbers - {0})
    if not numbers:
        return f"the detector by {' and '.join(inputs.detector['baselines'])}"
    models = f"{numbers[0]} models" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} models"
    average = f"the mean of the {_AVERAGED[inputs.config.evaluate.ensemble]} of the {models}"
    if numbers == [1]:
        average = "the score of the one model"
    if simple := inputs.detector["baselines"]:
        without = " (without models: these alone)" if 0 in all_numbers else ""
        return f"{average} together with {' and '.join(simple)}{without}"
    return average


def _describe_decisions(counts: DecisionCounts) -> str:
    """Return the end of a headline without an official score."""
    if not counts.clips:
        return "had no test clips. Its thresholds and the scores of its training clips are below."
    if not counts.normals + counts.anomalies:
        return (
            f"scored {counts.clips} clips whose labels are not known. Without labels its quality cannot be measured. "
            "Its scores, thresholds and decisions are below."
        )
    if not counts.anomalies and counts.normals == counts.clips:
        share = percent(counts.false_alarms / counts.normals)
        return (
            f"scored {counts.clips} clips, all of them normal, and calls {counts.false_alarms} of them anomalous: a "
            f"false-alarm rate of {share} %. Without faulty clips, the share of faults it finds cannot be measured."
        )
    return (
        f"scored {counts.clips} clips, of which {counts.normals} are known to be normal and {counts.anomalies} "
        f"anomalous. It calls {counts.false_alarms} of the normal clips and {counts.found} of the anomalies anomalous. "
        "No section and domain has clips of both labels with every label known, so there is no official score."
    )
