"""A machine type's part of the page."""

from collections.abc import Sequence
from typing import NamedTuple

from asdjax.evaluation.clip_table import ClipRow
from asdjax.evaluation.results_table import percent
from asdjax.report import embedding_map, histograms, report_tables, roc
from asdjax.report.figures import Picture
from asdjax.report.piece_scores import Models
from asdjax.report.report_inputs import HEADLINE, ReportInputs
from asdjax.report.report_tables import Counts, Table

_LEAST_MAPPED = 3


class MachineSection(NamedTuple):
    """What the page shows of a machine type: figures as text (None without labels), decisions, a table of its cells
    (None without labels), pictures."""

    name: str
    auc: str | None
    pauc: str | None
    counts: Counts
    cells: Table | None
    pictures: list[Picture]


def machine(inputs: ReportInputs, models: Models, name: str) -> MachineSection:
    """A machine type's part, of the headline system and the seed that is shown."""
    rows = [row for row in inputs.rows if row.clip.machine == name]
    means = inputs.results["systems"][HEADLINE]["machines"].get(name, {"auc": None, "pauc": None})
    known = means["auc"] is not None
    return MachineSection(
        name,
        percent(means["auc"]) if known else None,
        percent(means["pauc"]) if known else None,
        report_tables.counts(rows),
        report_tables.cells(inputs, name) if known else None,
        _pictures(inputs, models, name, rows),
    )


def _pictures(inputs: ReportInputs, models: Models, name: str, rows: Sequence[ClipRow]) -> list[Picture]:
    test = [row.clip for row in rows if row.split == "test"]
    shown = []
    if curves := roc.curves(inputs.results["year"], test):
        shown.append(roc.roc(name, curves))
    shown.append(histograms.histograms(name, rows))
    if sum(clip.machine == name for clip in models.bank_clips) >= _LEAST_MAPPED:
        scores = {
            models.test_clips[models.number_of(clip.machine, clip.section, clip.domain, clip.name)]: clip.score
            for clip in test
        }
        key = embedding_map.typical_model(models, name, scores)
        shown.append(
            embedding_map.embedding_map(name, key.variant, embedding_map.make_map(models, key, name, list(scores)))
        )
    return shown
