"""Official metrics of every year, from scored clips.

Source: the organisers' evaluators of DCASE 2020 to 2025 Task 2 (2026: as 2025), which compute AUC and pAUC with
`sklearn.metrics.roc_auc_score`. All figures are fractions in [0, 1].
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import fsum
from typing import NamedTuple

from asdjax.data.clips import Domain, Label
from asdjax.data.official_files import find_rules
from asdjax.inference.scored_clip import ScoredClip

FIGURES = ("auc", "pauc", "precision", "recall", "f1")
SHARES = ("false_alarms", "found")
#: Upper end of the false positive rate of the pAUC.
MAX_FALSE_POSITIVE_RATE = 0.1
#: Smallest denominator, and smallest value in a harmonic mean, as in the organisers' evaluators.
FLOOR = sys.float_info.epsilon


@dataclass(frozen=True, slots=True)
class Figures:
    """Values of AUC, pAUC, precision, recall and F1 as fractions; None where undefined."""

    auc: float | None
    pauc: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Cell:
    """The figures of one machine type, section and domain. From 2022 on `pauc` is that of the whole section.

    `false_alarms` and `found` are the shares of normal and of anomalous clips with the decision "anomaly": false and
    true positive rate. They are None if there is no clip of that label, or one without a decision. Unlike `recall`,
    `found` needs no normal clips and no known domain.
    """

    machine: str
    section: str
    domain: Domain | None
    auc: float | None
    pauc: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    false_alarms: float | None
    found: float | None


class CellClips(NamedTuple):
    """The clips of a cell.

    `own`, at least one clip, enter precision, recall, F1 and the shares. `ranked` enter the AUC; they are empty if a
    domain is needed and unknown. `jointly` enter the pAUC.
    """

    domain: Domain | None
    own: list[ScoredClip]
    ranked: list[ScoredClip]
    jointly: list[ScoredClip]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Every cell, sorted by machine type, section and domain, and the official score over the defined figures.

    `undefined` counts the cells without AUC or pAUC. Undefined figures enter no mean.
    """

    year: int
    cells: tuple[Cell, ...]
    official: float | None
    undefined: int


@dataclass(frozen=True, slots=True)
class Means:
    """Arithmetic and harmonic means of each figure over the cells where it is defined."""

    arithmetic: Figures
    harmonic: Figures


def compute_metrics(year: int, clips: Iterable[ScoredClip]) -> Metrics:
    """Compute the figures of a year's official evaluator from clips in any order.

    2020: cells per section; official = arithmetic mean of all AUC and pAUC (ours; the challenge ranked by averages).
    2021: cells per section and domain; official = harmonic mean of all AUC and pAUC.
    2022 on: the AUC of a domain takes its normal clips and the anomalies of both domains; the pAUC takes the whole
    section; official = harmonic mean of all AUC and, once per section, pAUC. Precision, recall and F1 of a domain take
    its own clips.

    A figure is None if normal or anomalous clips are missing, or if the label of one of its clips is unknown. From 2022
    on, an unknown domain leaves only the pAUC and the shares. Precision, recall and F1 also need every decision.

    Raises InputError for an unknown year and ValueError for a score that is not finite.
    """
    cells = tuple(_make_cell(part) for part in split_cells(year, clips))
    values = _defined(_column(cells, "auc", year) + _column(cells, "pauc", year))
    mean = arithmetic_mean if find_rules(year) == 2020 else harmonic_mean
    undefined = sum(cell.auc is None or cell.pauc is None for cell in cells)
    return Metrics(year, cells, mean(values), undefined)


def split_cells(year: int, clips: Iterable[ScoredClip]) -> Iterator[CellClips]:
    """Yield the clips of each cell by the year's rules, sorted by machine type, section and domain.

    Raises InputError for an unknown year.
    """
    split = _SPLITS[find_rules(year)]
    in_order = sorted(clips, key=lambda c: (c.machine, c.section, c.domain or "unknown", c.name))
    for _, section in groupby(in_order, key=lambda c: (c.machine, c.section)):
        yield from split(list(section))


def compute_machine_means(metrics: Metrics) -> dict[str, Means]:
    """Return means over the cells of each machine type, with one pAUC per section from 2022, as the organisers do."""
    by_machine = groupby(metrics.cells, key=lambda cell: cell.machine)
    return {machine: _means(tuple(cells), metrics.year) for machine, cells in by_machine}


def compute_overall_means(metrics: Metrics) -> Means:
    """Return means over the cells of all machine types, with equal weights."""
    return _means(metrics.cells, metrics.year)


def mean_share(cells: Iterable[Cell], share: str) -> float | None:
    """Return the arithmetic mean of one of SHARES over the cells where it is defined; None without any."""
    return arithmetic_mean(_defined(getattr(cell, share) for cell in cells))


def arithmetic_mean(values: Sequence[float]) -> float | None:
    """Return the arithmetic mean, or None without values."""
    return fsum(values) / len(values) if values else None


def harmonic_mean(values: Sequence[float]) -> float | None:
    """Return the harmonic mean of values clipped at FLOOR, or None without values."""
    return len(values) / fsum(1 / max(value, FLOOR) for value in values) if values else None


def _domains(section: list[ScoredClip]) -> list[Domain | None]:
    return list(dict.fromkeys(clip.domain for clip in section))


def _split_2020(section: list[ScoredClip]) -> Iterator[CellClips]:
    yield CellClips("source", section, section, section)


def _split_2021(section: list[ScoredClip]) -> Iterator[CellClips]:
    for domain in _domains(section):
        own = [clip for clip in section if clip.domain == domain]
        yield CellClips(domain, own, own, own)


def _split_2022(section: list[ScoredClip]) -> Iterator[CellClips]:
    domains = _domains(section)
    candidates = [] if None in domains else section
    for domain in domains:
        own = [clip for clip in section if clip.domain == domain]
        ranked = [clip for clip in candidates if clip.domain == domain or clip.label != "normal"]
        yield CellClips(domain, own, ranked, section)


_SPLITS = {2020: _split_2020, 2021: _split_2021, 2022: _split_2022}


def _make_cell(part: CellClips) -> Cell:
    precision, recall, f1 = _decision_figures(part.own if part.ranked else [])
    return Cell(
        machine=part.own[0].machine,
        section=part.own[0].section,
        domain=part.domain,
        auc=_auc(part.ranked),
        pauc=_auc(part.jointly, max_fpr=MAX_FALSE_POSITIVE_RATE),
        precision=precision,
        recall=recall,
        f1=f1,
        false_alarms=alarm_share(part.own, "normal"),
        found=alarm_share(part.own, "anomaly"),
    )


def has_both_classes(clips: Sequence[ScoredClip]) -> bool:
    """Return True if every label is known and both occur, so that AUC and pAUC are defined."""
    return {clip.label for clip in clips} == {"normal", "anomaly"}


def _auc(clips: list[ScoredClip], max_fpr: float | None = None) -> float | None:
    """Return the AUC or, with `max_fpr`, the McClish-standardised partial AUC, which may be below 0.5."""
    if not has_both_classes(clips):
        return None
    from sklearn.metrics import roc_auc_score  # late: slow to import, and `score` does not need it

    anomalous = [clip.label == "anomaly" for clip in clips]
    return float(roc_auc_score(anomalous, [clip.score for clip in clips], max_fpr=max_fpr))


def _decision_figures(clips: list[ScoredClip]) -> tuple[float | None, float | None, float | None]:
    """Return precision, recall and F1 of the class anomaly; 0 without a decision "anomaly"."""
    if not has_both_classes(clips) or any(clip.decision is None for clip in clips):
        return None, None, None
    alarms = [clip for clip in clips if clip.decision]
    hits = sum(clip.label == "anomaly" for clip in alarms)
    precision = hits / max(len(alarms), FLOOR)
    recall = hits / sum(clip.label == "anomaly" for clip in clips)
    return precision, recall, 2 * precision * recall / max(precision + recall, FLOOR)


def alarm_share(clips: Iterable[ScoredClip], label: Label) -> float | None:
    """Return the share of a label's clips with the decision "anomaly"; None without clips or for a missing decision."""
    decisions = [clip.decision for clip in clips if clip.label == label]
    return None if not decisions or None in decisions else sum(map(bool, decisions)) / len(decisions)


def _column(cells: Sequence[Cell], figure: str, year: int) -> list[float | None]:
    """Return one figure of every cell. From 2022 on the pAUC appears once per section."""
    if figure == "pauc" and find_rules(year) == 2022:
        return list({(cell.machine, cell.section): cell.pauc for cell in cells}.values())
    return [getattr(cell, figure) for cell in cells]


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _means(cells: Sequence[Cell], year: int) -> Means:
    columns = {figure: _defined(_column(cells, figure, year)) for figure in FIGURES}
    return Means(
        arithmetic=Figures(**{figure: arithmetic_mean(column) for figure, column in columns.items()}),
        harmonic=Figures(**{figure: harmonic_mean(column) for figure, column in columns.items()}),
    )
