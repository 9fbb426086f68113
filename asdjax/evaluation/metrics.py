"""The official figures of every year: numbers in, numbers out, no files.

Formulas: the organisers' evaluators of DCASE 2020 to 2025 Task 2 (2026: as 2025), which compute AUC and pAUC
with `sklearn.metrics.roc_auc_score`. All figures are fractions in [0, 1].
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import fsum
from typing import NamedTuple

from asdjax.data.clips import Domain, Label
from asdjax.data.official_files import find_rules

FIGURES = ("auc", "pauc", "precision", "recall", "f1")
SHARES = ("false_alarms", "found")
MAX_FALSE_POSITIVE_RATE = 0.1  # of the pAUC
FLOOR = sys.float_info.epsilon  # under a denominator, and under every value of a harmonic mean


@dataclass(frozen=True, slots=True)
class ScoredClip:
    """A test clip, what a system said of it, and the truth where it is known.

    `score` is finite, higher = more anomalous; `decision` True = anomaly, None = the system decided nothing.
    """

    name: str
    machine: str
    section: str
    domain: Domain | None
    label: Label | None
    score: float
    decision: bool | None


@dataclass(frozen=True, slots=True)
class Figures:
    """AUC, pAUC, precision, recall and F1 as fractions; None where undefined."""

    auc: float | None
    pauc: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Cell:
    """The figures of one machine type, section and domain. From 2022 on `pauc` is the section's joint one.

    `false_alarms` and `found` are the shares of its normal and of its anomalous clips that the system decided to be
    anomalous; None where it has no clip of that label, or one without a decision.
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


class Part(NamedTuple):
    """The clips of a cell: its `own`, at least one, those `ranked` by the AUC, and those that the pAUC ranks `jointly`.

    `own` enter precision, recall, F1 and the shares. `ranked` is empty where a domain is needed and unknown.
    """

    domain: Domain | None
    own: list[ScoredClip]
    ranked: list[ScoredClip]
    jointly: list[ScoredClip]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Every cell, sorted by machine type, section, domain, and the official score over the defined ones.

    `undefined` counts the cells without AUC or without pAUC: none of their missing values enters a mean.
    """

    year: int
    cells: tuple[Cell, ...]
    official: float | None
    undefined: int


@dataclass(frozen=True, slots=True)
class Means:
    """Arithmetic and harmonic mean, figure by figure, over the cells where the figure is defined."""

    arithmetic: Figures
    harmonic: Figures


def compute_metrics(year: int, clips: Iterable[ScoredClip]) -> Metrics:
    """Every figure of a year's official evaluator, from clips in any order.

    2020: per section; official = arithmetic mean of all AUC and pAUC (ours: it ranked by averages).
    2021: per section and domain; official = harmonic mean of all AUC and pAUC.
    2022 on: the AUC of a domain takes its normals and the anomalies of both domains, pAUC takes the whole section;
    official = harmonic mean of all AUC and, once per section, pAUC. Precision, recall and F1 of a domain take its own
    normals and its own anomalies.

    A figure is undefined (None) where normals or anomalies are missing, or a label it needs is unknown; from
    2022 on an unknown domain leaves only the pAUC and the shares. Precision, recall and F1 also need every decision.

    Raises InputError for an unknown year, ValueError for a score that is not finite.
    """
    cells = tuple(_cell(part) for part in split_parts(year, clips))
    values = _defined(_column(cells, "auc", year) + _column(cells, "pauc", year))
    mean = arithmetic_mean if find_rules(year) == 2020 else harmonic_mean
    undefined = sum(cell.auc is None or cell.pauc is None for cell in cells)
    return Metrics(year, cells, mean(values), undefined)


def split_parts(year: int, clips: Iterable[ScoredClip]) -> Iterator[Part]:
    """Which clips each cell judges by the year's rules, sorted by machine type, section, domain, whatever their order.

    Raises InputError for an unknown year.
    """
    split = _PARTS[find_rules(year)]
    in_order = sorted(clips, key=lambda c: (c.machine, c.section, c.domain or "unknown", c.name))
    for _, section in groupby(in_order, key=lambda c: (c.machine, c.section)):
        yield from split(list(section))


def machine_means(judgement: Metrics) -> dict[str, Means]:
    """Machine type -> means over its cells, as the organisers' result files (one pAUC a section from 2022)."""
    by_machine = groupby(judgement.cells, key=lambda cell: cell.machine)
    return {machine: _means(tuple(cells), judgement.year) for machine, cells in by_machine}


def overall_means(judgement: Metrics) -> Means:
    """Means over the cells of all machine types, each cell weighing the same."""
    return _means(judgement.cells, judgement.year)


def mean_share(cells: Iterable[Cell], share: str) -> float | None:
    """Return the arithmetic mean of one of SHARES over the cells that have it; None where none has."""
    return arithmetic_mean(_defined(getattr(cell, share) for cell in cells))


def arithmetic_mean(values: Sequence[float]) -> float | None:
    """None for no values."""
    return fsum(values) / len(values) if values else None


def harmonic_mean(values: Sequence[float]) -> float | None:
    """None for no values; each value floored at the float epsilon, as the organisers' evaluators do."""
    return len(values) / fsum(1 / max(value, FLOOR) for value in values) if values else None


def _domains(section: list[ScoredClip]) -> list[Domain | None]:
    return list(dict.fromkeys(clip.domain for clip in section))


def _parts_2020(section: list[ScoredClip]) -> Iterator[Part]:
    yield Part("source", section, section, section)


def _parts_2021(section: list[ScoredClip]) -> Iterator[Part]:
    for domain in _domains(section):
        own = [clip for clip in section if clip.domain == domain]
        yield Part(domain, own, own, own)


def _parts_2022(section: list[ScoredClip]) -> Iterator[Part]:
    domains = _domains(section)
    candidates = [] if None in domains else section
    for domain in domains:
        own = [clip for clip in section if clip.domain == domain]
        ranked = [clip for clip in candidates if clip.domain == domain or clip.label != "normal"]
        yield Part(domain, own, ranked, section)


_PARTS = {2020: _parts_2020, 2021: _parts_2021, 2022: _parts_2022}


def _cell(part: Part) -> Cell:
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


def judgeable(clips: Sequence[ScoredClip]) -> bool:
    """Whether AUC and pAUC are defined: every label is known, and both are there."""
    return {clip.label for clip in clips} == {"normal", "anomaly"}


def _auc(clips: list[ScoredClip], max_fpr: float | None = None) -> float | None:
    """With `max_fpr` the McClish-standardised partial AUC, which may fall below 0.5."""
    if not judgeable(clips):
        return None
    from sklearn.metrics import roc_auc_score  # late: `score` judges nothing, and it takes 1.3 s to import

    anomalous = [clip.label == "anomaly" for clip in clips]
    return float(roc_auc_score(anomalous, [clip.score for clip in clips], max_fpr=max_fpr))


def _decision_figures(clips: list[ScoredClip]) -> tuple[float | None, float | None, float | None]:
    """Precision, recall and F1 of the class anomaly; 0 where nothing was decided anomalous."""
    if not judgeable(clips) or any(clip.decision is None for clip in clips):
        return None, None, None
    alarms = [clip for clip in clips if clip.decision]
    hits = sum(clip.label == "anomaly" for clip in alarms)
    precision = hits / max(len(alarms), FLOOR)
    recall = hits / sum(clip.label == "anomaly" for clip in clips)
    return precision, recall, 2 * precision * recall / max(precision + recall, FLOOR)


def alarm_share(clips: Iterable[ScoredClip], label: Label) -> float | None:
    """Return the share of a label's clips that were decided anomalous; None for no such clip or an undecided one."""
    decisions = [clip.decision for clip in clips if clip.label == label]
    return None if not decisions or None in decisions else sum(map(bool, decisions)) / len(decisions)


def _column(cells: Sequence[Cell], figure: str, year: int) -> list[float | None]:
    """One figure of every cell, except that from 2022 on the joint pAUC appears once per section."""
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
