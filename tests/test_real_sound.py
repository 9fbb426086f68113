"""The same commands on real recordings: what must hold whatever the figures are."""

import csv
import json
from pathlib import Path

import pytest
from conftest import DEEP, PROJECT, overrides

from asdjax.cli.main import main

# a third of a clip's pieces: it is the way that is shown, not the figures
SHORT = {
    "width": str(DEEP),
    "phase1__steps": "2",
    "phase2__steps": "2",
    "phase2__strategies": "full",
    "evaluate__stride_frames": "128",
}


def run(command: str, root: Path, *words: str) -> int:
    config = str(PROJECT / "configs" / "dcase2021.py")
    return main([command, "--config", config, *words, *overrides(root, **SHORT)])


def results(workdir: Path) -> dict:
    return json.loads((workdir / "evaluation" / "dev" / "results.json").read_text())


@pytest.mark.slow
def test_uav_trains_both_phases_and_is_judged(shared_data: Path, tmp_path: Path):
    root = shared_data / "sounds" / "uav"
    assert run("train", root, "--workdir", str(tmp_path)) == 0
    rows = [json.loads(line) for line in (tmp_path / "UAVsquare" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["phase"], row["step"]) for row in rows if "loss" in row][1::2] == [("phase1", 2), ("phase2_full", 2)]
    assert main(["evaluate", "--workdir", str(tmp_path)]) == 0
    scores = tmp_path / "evaluation" / "dev" / "scores" / "all_mean"
    for kind in ("anomaly_score", "decision_result"):
        for section in ("00", "01"):
            for domain in ("source", "target"):
                file = scores / f"{kind}_UAVsquare_section_{section}_{domain}_test.csv"
                names = [name for name, _ in csv.reader(file.read_text().splitlines())]
                clips = (root / "UAVsquare" / f"{domain}_test").glob(f"section_{section}_*.wav")
                assert names == sorted(clip.name for clip in clips)
                assert len(names) == 50
    assert len(list(scores.iterdir())) == 8
    system = results(tmp_path)["systems"]["all_mean"]
    assert system["undefined_cells"] == 0
    assert 0 < system["official"] < 1


@pytest.mark.slow
def test_dcase2023_is_one_fleet_of_phase_1_with_undefined_cells(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("train", shared_data / "sounds" / "dcase2023", "--workdir", str(tmp_path)) == 0
    assert "all: phase 2 is left out, as no section has target training clips" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "all").glob("phase*")] == ["phase1"]
    assert main(["evaluate", "--workdir", str(tmp_path)]) == 0
    got = results(tmp_path)
    assert got["year"] == 2022
    system = got["systems"]["all_mean"]
    assert {cell["machine"] for cell in system["cells"]} == {
        path.name for path in (shared_data / "sounds" / "dcase2023").iterdir() if path.is_dir()
    }
    undefined = [cell for cell in system["cells"] if cell["auc"] is None or cell["pauc"] is None]
    assert len(undefined) == system["undefined_cells"] > 0
    assert f"{len(undefined)} cells are undefined" in capsys.readouterr().out


def test_dcase2020s_one_section_with_training_clips_has_the_simple_detectors(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = shared_data / "sounds" / "dcase2020"
    run("check", root)
    listed = capsys.readouterr().out
    assert all(machine in listed for machine in ("ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"))
    workdir = tmp_path / "run"
    assert run("train", root, "--workdir", str(workdir)) == 0
    assert "no models of slider, only the simple detectors" in capsys.readouterr().err
    assert main(["evaluate", "--workdir", str(workdir)]) == 0
    got = results(workdir)
    assert got["year"] == 2020
    (cell,) = got["systems"]["combined"]["cells"]
    assert (cell["machine"], cell["section"]) == ("slider", "00")
    assert 0 <= cell["auc"] <= 1
