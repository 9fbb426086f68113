"""The report's Table 2 beside an evaluation of ours."""

import json
from pathlib import Path
from typing import Any

import pytest

from asdjax.cli.main import main
from asdjax.errors import InputError
from asdjax.evaluation.report_table import TABLE_2, as_text, compare
from asdjax.inference import stored_results
from asdjax.runtime.files import add_checksum

MACHINES = ("ToyCar", "ToyTrain", "fan", "gearbox", "pump", "slider", "valve")


def entry(shift: float, system: str = "all_mean", machines: tuple[str, ...] = MACHINES) -> dict[str, Any]:
    """Return a system whose cells lie `shift` points above the report's."""
    cells = {
        m: {"auc": (TABLE_2[system][m][0] + shift) / 100, "pauc": (TABLE_2[system][m][1] + shift) / 100}
        for m in machines
    }
    return {"official": 0.6 + shift / 100, "machines": cells}


def results(*shifts: float, **changes: Any) -> dict[str, Any]:
    system = entry(sum(shifts) / len(shifts))
    if len(shifts) > 1:
        system |= {
            "seeds": list(range(len(shifts))),
            "by_seed": {str(i): entry(shift) for i, shift in enumerate(shifts)},
        }
    return {"layout": "dcase2021", "split": "dev", "systems": {"all_mean": system}, **changes}


@pytest.mark.parametrize(
    ("system", "official"),
    [("best_single", 67.94), ("top3_mean", 68.10), ("top5_mean", 68.20), ("all_mean", 67.44)],
)
def test_the_report_s_cells_have_the_report_s_official_scores(system: str, official: float):
    """The challenge published these scores, rounded."""
    content = results(0.0)
    content["systems"] = {system: entry(0.0, system)}
    (overall,) = [one for one in compare(content) if one.figure == "official"]
    assert overall.report == pytest.approx(official, abs=0.005)


def test_every_cell_stands_beside_ours_with_the_spread_of_the_seeds():
    compared = compare(results(-1.0, 2.0))
    assert len(compared) == 15
    first = compared[0]
    assert (first.machine, first.figure, first.report) == ("ToyCar", "AUC", 77.69)
    assert first.seeds == pytest.approx((76.69, 79.69))
    assert all(one.is_within for one in compared[:14])
    text = as_text(compared, 80)
    assert "14 of 15 of the report's figures are within the spread of the seeds." in text
    assert ["ToyCar", "AUC", "77.69", "78.19", "76.69-79.69", "yes"] in map(str.split, text.splitlines())
    assert max(map(len, text.splitlines())) <= 80


def test_a_figure_outside_of_all_seeds_is_not_within_and_one_seed_has_no_spread():
    assert not any(one.is_within for one in compare(results(1.0, 2.0))[:14])
    single = compare(results(1.0))
    assert {one.is_within for one in single} == {None}
    assert "are within" not in as_text(single, 80)


def test_a_part_of_the_machine_types_has_no_overall_figure():
    content = results(0.0)
    content["systems"] = {"all_mean": entry(0.0, machines=("fan", "pump"))}
    assert [(one.machine, one.figure) for one in compare(content)] == [
        ("fan", "AUC"),
        ("fan", "pAUC"),
        ("pump", "AUC"),
        ("pump", "pAUC"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "dcase2022"}, "expected an evaluation of the development set of 2021, got the split dev of"),
        ({"layout": "manifest"}, "in the layout manifest"),
        ({"split": "eval"}, "got the split eval"),
        ({"systems": {}}, "expected any of ToyCar, ToyTrain"),
    ],
)
def test_another_evaluation_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        compare(results(0.0, **changes))


def test_the_command_prints_the_table_and_writes_its_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "run" / "evaluation" / "dev"
    folder.mkdir(parents=True)
    rest = {key: {} for key in stored_results._REQUIRED}
    (folder / "results.json").write_text(json.dumps(add_checksum({**rest, **results(0.0, 1.0)})))
    assert main(["compare", "--workdir", str(tmp_path / "run"), "--json", str(tmp_path / "cells.json")]) == 0
    assert "Submission 4, all_mean" in capsys.readouterr().out
    cells = json.loads((tmp_path / "cells.json").read_text())
    assert cells[0] == {
        "system": "all_mean",
        "machine": "ToyCar",
        "figure": "AUC",
        "report": 77.69,
        "seeds": pytest.approx([77.69, 78.69]),
        "within": True,
    }
