"""Official metrics compared with the organisers' published results and scikit-learn."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from scipy.stats import hmean
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from asdjax.data.official_files import find_rules
from asdjax.errors import InputError
from asdjax.evaluation.metrics import (
    FIGURES,
    FLOOR,
    Cell,
    Figures,
    compute_machine_means,
    compute_metrics,
    compute_overall_means,
)
from asdjax.evaluation.submission import read
from asdjax.inference.scored_clip import ScoredClip

EXACT = 1e-9


def clip(
    score: float,
    label: Literal["normal", "anomaly"] | None = "normal",
    domain: Literal["source", "target"] | None = "source",
    decision: bool | None = None,
    section: str = "00",
    machine: str = "fan",
) -> ScoredClip:
    return ScoredClip(f"{score}.wav", machine, section, domain, label, score, decision)


def random_clips(seed: int, sections: tuple[str, ...] = ("00", "01")) -> list[ScoredClip]:
    rng = np.random.default_rng(seed)
    return [
        clip(float(rng.normal(label == "anomaly")), label, domain, bool(rng.random() < 0.5), section)
        for section in sections
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for _ in range(rng.integers(20, 40))
    ]


def published_rows(path: Path) -> Iterator[tuple[str, list[str], list[float]]]:
    """Yield machine type (or ""), names and figures of each row of a published result."""
    machine = ""
    for fields in csv.reader(path.read_text().splitlines()):
        if len(fields) == 1:
            machine = fields[0]
        elif not fields:
            machine = ""
        elif fields[-1][0].isdigit():
            names = [field for field in fields if not field or not field[0].isdigit() or len(field) == 2]
            yield machine, names, [float(field) for field in fields[len(names) :]]


def figures(row: Cell | Figures) -> list[float | None]:
    return [getattr(row, figure) for figure in FIGURES]


def test_2021_equals_the_published_result(shared_data: Path) -> None:
    folder = shared_data / "official/2021/dev_scores"
    metrics = compute_metrics(2021, read(folder, 2021))
    cells = {(c.machine, c.section, c.domain): c for c in metrics.cells}
    means = {**compute_machine_means(metrics), "": compute_overall_means(metrics)}
    compared = 0
    for machine, names, published in published_rows(folder / "result.csv"):
        if names[0] in ("00", "01", "02"):
            ours = cells[machine, names[0], names[1]]
            compared += 1
        else:
            ours = means[machine].arithmetic if "arithmetic" in names[0] else means[machine].harmonic
        assert figures(ours) == pytest.approx(published, abs=EXACT), (machine, names)
    assert compared == len(cells) == 42
    assert metrics.undefined == 0
    every = [value for c in metrics.cells for value in (c.auc, c.pauc)]
    assert metrics.official == pytest.approx(hmean(np.array(every, float)), abs=EXACT)


def test_2020_equals_the_published_result(shared_data: Path) -> None:
    folder = shared_data / "official/2020/dev_scores"
    metrics = compute_metrics(2020, read(folder, 2020))
    rows = list(published_rows(folder / "result.csv"))
    assert [names[0] for _, names, _ in rows] == ["00", "02", "04", "06", "Average"]
    fan = {c.section: c for c in metrics.cells if c.machine == "fan"}
    for _, (name,), published in rows:
        ours = compute_machine_means(metrics)["fan"].arithmetic if name == "Average" else fan[name]
        assert figures(ours)[:2] == pytest.approx(published, abs=EXACT)
    every = [value for c in metrics.cells for value in (c.auc, c.pauc)]
    assert metrics.official == pytest.approx(np.mean(np.array(every, float)), abs=EXACT)
    assert {c.domain for c in metrics.cells} == {"source"}


@pytest.mark.parametrize("year", [2022, 2023, 2024, 2025, 2026])
def test_from_2022_domains_share_the_anomalies_of_auc_and_pauc_but_not_of_decisions(year: int) -> None:
    """The organisers' evaluators of 2022, 2023 and 2024 do so."""
    clips = random_clips(seed=year)
    metrics = compute_metrics(year, clips)
    official = []
    for section in ("00", "01"):
        here = [c for c in clips if c.section == section]
        joint = roc_auc_score([c.label == "anomaly" for c in here], [c.score for c in here], max_fpr=0.1)
        official.append(joint)
        for domain in ("source", "target"):
            ranked = [c for c in here if c.domain == domain or c.label == "anomaly"]
            truth = [c.label == "anomaly" for c in ranked]
            auc = roc_auc_score(truth, [c.score for c in ranked])
            own = [c for c in here if c.domain == domain]
            decided = precision_recall_fscore_support(
                [c.label == "anomaly" for c in own], [c.decision for c in own], average="binary"
            )
            (cell,) = (c for c in metrics.cells if (c.section, c.domain) == (section, domain))
            assert figures(cell) == pytest.approx([auc, joint, *decided[:3]], abs=EXACT)
            official.append(auc)
    assert metrics.official == pytest.approx(hmean(official), abs=EXACT)


def test_2022_by_hand() -> None:
    clips = [
        clip(1, "normal", "source", False),
        clip(3, "normal", "target", True),
        clip(2, "anomaly", "source", True),
        clip(4, "anomaly", "target", True),
    ]
    source, target = compute_metrics(2022, clips).cells
    assert (source.auc, target.auc) == (1.0, 0.5)  # 2 and 4 above 1; 4, but not 2, above 3
    assert (source.precision, source.recall, source.f1) == (1.0, 1.0, 1.0)
    assert (target.precision, target.recall, target.f1) == pytest.approx((1 / 2, 1.0, 2 / 3))
    assert source.pauc == target.pauc == pytest.approx(0.5 * (1 + (0.05 - 0.005) / (0.1 - 0.005)))


def test_from_2022_a_system_deaf_in_one_domain_shows_there() -> None:
    detected = [clip(1, "normal", "source", False), clip(9, "anomaly", "source", True)]
    missed = [clip(2, "normal", "target", False), clip(8, "anomaly", "target", False)]
    source, target = compute_metrics(2023, detected + missed).cells
    assert (source.precision, source.recall, source.f1, source.found) == (1, 1, 1, 1)
    assert (target.precision, target.recall, target.f1, target.found) == (0, 0, 0, 0)


def test_from_2022_a_domain_without_anomalies_of_its_own_has_auc_but_no_recall() -> None:
    clips = [c for c in random_clips(8, ("00",)) if (c.domain, c.label) != ("target", "anomaly")]
    source, target = compute_metrics(2024, clips).cells
    assert None not in figures(source)
    assert target.auc is not None
    assert target.precision is target.recall is target.f1 is target.found is None
    assert target.false_alarms is not None


@pytest.mark.parametrize("year", [2020, 2021, 2022, 2026])
def test_shares_of_found_faults_and_false_alarms_are_a_domains_own(year: int) -> None:
    clips = random_clips(seed=year)
    for cell in compute_metrics(year, clips).cells:
        own = [c for c in clips if c.section == cell.section and (year == 2020 or c.domain == cell.domain)]
        shares = [np.mean([c.decision for c in own if c.label == label]) for label in ("normal", "anomaly")]
        assert [cell.false_alarms, cell.found] == pytest.approx(shares, abs=EXACT)


@pytest.mark.parametrize("domain", ["source", None])
def test_shares_need_clips_of_that_label_and_their_decisions_alone(domain: Literal["source"] | None) -> None:
    decided = [clip(1, "normal", domain, True), clip(2, "normal", domain, False), clip(3, None, domain, True)]
    for year in (2021, 2022):
        (cell,) = compute_metrics(year, decided).cells
        assert (cell.false_alarms, cell.found) == (0.5, None)
        (cell,) = compute_metrics(year, [*decided, clip(4, "anomaly", domain, None)]).cells
        assert (cell.false_alarms, cell.found) == (0.5, None)


def test_means_take_a_joint_pauc_once_per_section() -> None:
    source_only = [c for c in random_clips(1, ("02",)) if c.domain == "source"]
    metrics = compute_metrics(2023, random_clips(0, ("00",)) + source_only)
    first, second, third = (c.pauc for c in metrics.cells)
    assert first == second != third
    assert first is not None
    assert third is not None
    assert compute_overall_means(metrics).arithmetic.pauc == pytest.approx((first + third) / 2)


def test_the_floor_is_the_float_epsilon() -> None:
    worst = [clip(0, "anomaly", decision=False), clip(1, "normal", decision=False)]
    metrics = compute_metrics(2021, worst)
    (cell,) = metrics.cells
    assert (cell.auc, cell.precision, cell.recall, cell.f1) == (0.0, 0.0, 0.0, 0.0)
    assert cell.pauc is not None
    assert metrics.official == pytest.approx(2 / (1 / FLOOR + 1 / cell.pauc), rel=1e-12)
    assert compute_machine_means(metrics)["fan"].harmonic.recall == FLOOR == np.finfo(float).eps


@pytest.mark.parametrize("year", [2020, 2021, 2022])
def test_one_class_is_undefined_counted_and_in_no_mean(year: int) -> None:
    whole = random_clips(3, ("00",))
    broken = [clip(1.0, "normal", section="01"), clip(2.0, "normal", section="01")]
    metrics = compute_metrics(year, broken + whole)
    assert figures(metrics.cells[-1]) == [None] * 5
    assert metrics.undefined == 1
    assert metrics.official == compute_metrics(year, whole).official
    assert compute_overall_means(metrics) == compute_overall_means(compute_metrics(year, whole))


@pytest.mark.parametrize("year", [2020, 2021, 2022])
def test_without_labels_nothing_is_defined(year: int) -> None:
    clips = [clip(score, label=None) for score in (1.0, 2.0)]
    metrics = compute_metrics(year, clips)
    assert metrics.official is None
    assert metrics.undefined == len(metrics.cells) == 1
    assert compute_metrics(year, []).official is None


def test_one_unlabelled_clip_leaves_its_cell_undefined() -> None:
    metrics = compute_metrics(2021, [*random_clips(4), clip(0.5, label=None, domain="target")])
    undefined = [(c.section, c.domain) for c in metrics.cells if c.auc is None]
    assert undefined == [("00", "target")]


def test_unknown_domains_leave_only_the_joint_pauc_and_the_shares() -> None:
    metrics = compute_metrics(2023, [clip(c.score, c.label, None) for c in random_clips(5, ("00",))])
    (cell,) = metrics.cells
    assert cell.domain is None
    assert cell.auc is cell.precision is cell.recall is cell.f1 is None
    assert metrics.official == pytest.approx(cell.pauc)


def test_a_missing_decision_leaves_only_precision_recall_f1_undefined() -> None:
    clips = random_clips(6, ("00",))
    metrics = compute_metrics(2022, [*clips, clip(0.1, "anomaly", decision=None)])
    source, target = metrics.cells
    assert None not in (source.auc, source.pauc, *figures(target))
    assert source.precision is source.recall is source.f1 is source.found is None
    assert metrics.undefined == 0


def test_input_order_changes_nothing() -> None:
    clips = random_clips(7)
    shuffled = [clips[i] for i in np.random.default_rng(0).permutation(len(clips))]
    assert compute_metrics(2022, shuffled) == compute_metrics(2022, clips)


def test_years() -> None:
    assert [find_rules(year) for year in (2020, 2021, 2022, 2026)] == [2020, 2021, 2022, 2022]
    for year in (2019, 2027):
        with pytest.raises(InputError, match=f"year: expected 2020 to 2026, got {year}"):
            compute_metrics(year, [])


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        compute_metrics(2021, [clip(math.nan), clip(1.0, "anomaly")])
