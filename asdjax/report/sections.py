"""Part of the page about one machine type."""

from collections.abc import Sequence
from dataclasses import dataclass

from asdjax.evaluation.clip_table import ClipRow
from asdjax.evaluation.results_table import percent
from asdjax.report import embedding_map, histograms, report_tables, roc
from asdjax.report.figures import Picture
from asdjax.report.piece_scores import ExplainedDetectors
from asdjax.report.report_inputs import ReportInputs
from asdjax.report.report_tables import DecisionCounts, ReportTable
from asdjax.report.sensitivity_picture import make_sensitivity_picture

_FEWEST_MAPPED = 3


@dataclass(frozen=True, kw_only=True)
class MachineSection:
    """Metrics, decisions, table and pictures of a machine type. Metrics and table are None without labels."""

    name: str
    auc: str | None
    pauc: str | None
    counts: DecisionCounts
    cells: ReportTable | None
    pictures: list[Picture]


def make_section(inputs: ReportInputs, models: ExplainedDetectors, machine: str) -> MachineSection:
    """Return a machine type's part of the page, for the headline system."""
    rows = [row for row in inputs.rows if row.clip.machine == machine]
    means = inputs.system["machines"].get(machine, {"auc": None, "pauc": None})
    known = means["auc"] is not None
    return MachineSection(
        name=machine,
        auc=percent(means["auc"]) if known else None,
        pauc=percent(means["pauc"]) if known else None,
        counts=report_tables.count_decisions(rows),
        cells=report_tables.make_cells_table(inputs, machine) if known else None,
        pictures=_make_pictures(inputs, models, machine, rows),
    )


def _make_pictures(
    inputs: ReportInputs, models: ExplainedDetectors, machine: str, rows: Sequence[ClipRow]
) -> list[Picture]:
    test = [row for row in rows if row.split == "test"]
    pictures = []
    if measured := inputs.list_sensitivity(machine):
        pictures.append(make_sensitivity_picture(machine, measured))
    if curves := roc.compute_curves(inputs.results["year"], [row.clip for row in test]):
        pictures.append(roc.make_roc_picture(machine, curves))
    pictures.append(histograms.make_histograms_picture(machine, rows))
    if sum(clip.machine == machine for clip in models.bank_clips) >= _FEWEST_MAPPED:
        scores = {models.test_clips[models.find_number(row)]: row.clip.score for row in test}
        key = embedding_map.find_typical_model(models, machine, scores)
        shown = embedding_map.make_map(models, key, machine, list(scores))
        pictures.append(embedding_map.make_map_picture(machine, key.variant, shown))
    return pictures
