"""Metrics of a submission folder, and their table."""

from pathlib import Path

import pytest

from asdjax.errors import InputError
from asdjax.evaluation.metrics import FIGURES, compute_metrics
from asdjax.evaluation.submission import read
from asdjax.evaluation.submission_metrics import FolderMetrics, as_json, format_table, score_folder
from asdjax.inference.scored_clip import ScoredClip


def test_a_folder_is_read_and_judged(shared_data: Path) -> None:
    folder = shared_data / "official/2021/dev_scores"
    assert score_folder(2021, folder).cells == compute_metrics(2021, read(folder, 2021)).cells
    with pytest.raises(InputError, match="expected its truth"):
        score_folder(2021, folder, shared_data / "official/2021/eval_truth")


def test_a_wrong_year_is_named_before_a_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="year: expected 2020 to 2026, got 2019"):
        score_folder(2019, tmp_path / "nowhere")


def test_the_table_shows_percent(shared_data: Path) -> None:
    table = format_table(score_folder(2021, shared_data / "official/2021/dev_scores"))
    rows = [line.split() for line in table.splitlines()]
    assert rows[0] == ["ToyCar", "AUC", "pAUC", "precision", "recall", "F1"]
    assert rows[1] == ["00", "source", "66.58", "50.84", "50.00", "100.00", "66.67"]
    assert ["harmonic", "mean", "62.02", "52.33", "50.00", "100.00", "66.67"] in rows
    assert ["arithmetic", "mean", "63.60", "53.60", "60.24", "53.45", "51.35"] in rows
    assert table.splitlines()[-2].startswith("official score 2021: 57.39 ")
    low, high = table.splitlines()[-1].removeprefix("95 % interval over test clips: ").split()[0].split("-")
    assert 56 < float(low) < 57.39 < float(high) < 59
    assert "undefined" not in table


def half_defined() -> FolderMetrics:
    clips = [
        ScoredClip("a.wav", "a_machine_with_a_very_long_name_indeed", "00", "source", "normal", 0.0, None),
        ScoredClip("b.wav", "a_machine_with_a_very_long_name_indeed", "00", "source", "anomaly", 1.0, None),
        ScoredClip("c.wav", "fan", "00", "source", "anomaly", 1.0, None),
    ]
    return without_interval(2021, clips)


def without_interval(year: int, clips: list[ScoredClip]) -> FolderMetrics:
    metrics = compute_metrics(year, clips)
    return FolderMetrics(metrics.year, metrics.cells, metrics.official, metrics.undefined, None)


def test_undefined_cells_are_shown_and_counted() -> None:
    lines = format_table(half_defined()).splitlines()
    assert lines[1].split() == ["00", "source", "100.00", "100.00", "-", "-", "-"]
    assert lines[6].split() == ["00", "source", "-", "-", "-", "-", "-"]
    assert lines[-2].startswith("official score 2021: 100.00 ")
    assert lines[-1].startswith("undefined (-), in no mean: 1 of 2 cells")


def test_json_has_the_cells_of_results_json() -> None:
    content = as_json(half_defined())
    assert set(content) == {"year", "official", "interval", "cells"}
    assert all(
        set(cell) == {"machine", "section", "domain", *FIGURES, "false_alarms", "found"} for cell in content["cells"]
    )
    assert [cell["auc"] for cell in content["cells"]] == [1, None]
    assert (content["official"], content["interval"]) == (1, None)


def test_nothing_defined() -> None:
    table = format_table(without_interval(2022, [ScoredClip("a.wav", "fan", "00", None, None, 1.0, True)]))
    assert "official score 2022: - " in table
    assert "undefined (-), in no mean: 1 of 1 cells" in table


@pytest.mark.parametrize("width", [70, 80, 200])
def test_the_table_keeps_its_width(width: int) -> None:
    lines = format_table(half_defined(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert "…" in format_table(half_defined(), 70)
