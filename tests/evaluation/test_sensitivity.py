"""Sensitivity: the faults found in the user's own clips, by the scores that a training clip would get."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import shallow_networks

from asdjax.cli.main import main
from asdjax.evaluation import mixed_clips
from asdjax.evaluation.sensitivity import Found, Sensitivity
from asdjax.inference import stored_results

KINDS = ["impacts", "tones", "noise", "louder part"]


@pytest.fixture(scope="module")
def evaluated(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a read-only evaluation folder with sensitivity, of a copy of the trained work directory."""
    workdir = Path(shutil.copytree(trained_once, tmp_path_factory.mktemp("sensitivity") / "run"))
    with shallow_networks():
        words = ["evaluate", "--workdir", str(workdir), "--sensitivity", "--config.evaluate.sensitivity_clips=4"]
        assert main(words) == 0
        assert main(["report", "--workdir", str(workdir), "--clips", "0"]) == 0
    return workdir / "evaluation" / "dev"


def test_every_system_without_selection_is_measured_on_every_kind_and_size(evaluated: Path):
    measured = stored_results.read_results(evaluated)["sensitivity"]
    assert list(measured) == ["mean_log_mel", "mean_std_log_mel", "resnet50_512", "all_mean", "combined"]
    for of_system in measured.values():
        (machine,) = of_system.values()
        assert 0 <= machine["auc"] <= 1
        assert list(machine["kinds"]) == KINDS
        for kind in machine["kinds"].values():
            assert [one["size_db"] for one in kind["sizes"]] == list(mixed_clips.SIZES_DB)
            for one in kind["sizes"]:
                assert one["clips"] == 4
                low, high = one["interval"]
                assert 0 <= low <= one["share"] <= high <= 1


def test_loud_faults_are_found_by_the_simple_detectors_and_quiet_ones_are_not(evaluated: Path):
    kinds = stored_results.read_results(evaluated)["sensitivity"]["mean_std_log_mel"]["fan"]["kinds"]
    shares = np.array([[one["share"] for one in kind["sizes"]] for kind in kinds.values()])
    assert shares[:, -1].mean() >= shares[:, 0].mean() + 0.25


def test_table_and_report_have_it(evaluated: Path):
    table = (evaluated / "table.md").read_text()
    assert "| finds faults from (dB) | impacts | tones | noise | louder part | AUC |" in table
    assert "| fan combined |" in table
    page = (evaluated / "report.html").read_text()
    assert "Share of the faults mixed into normal clips of fan that all_mean, mean_log_mel, mean_std_log_mel" in page


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], -12.0),
        ([0.9, 0.2, 0.8, 0.9], -12.0),
        ([0.1, 0.2, 0.8, 0.7], None),
        ([0.8, 0.8, 0.8, 1.0], -24.0),
    ],
)
def test_the_smallest_size_is_one_from_which_on_all_are_found(shares: list[float], expected: float | None):
    sizes = [
        Found(size, share, (0.0, 1.0), 10) for size, share in zip((-24.0, -18.0, -12.0, -6.0), shares, strict=True)
    ]
    assert Sensitivity(auc=0.5, kinds={"tones": sizes}, scores={}).find_smallest("tones") == expected


@pytest.mark.usefixtures("shallow")
def test_an_evaluation_without_it_says_that_it_drops_it(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    workdir = Path(shutil.copytree(evaluated.parents[1], tmp_path / "run"))
    for said in (True, False):
        capsys.readouterr()
        assert main(["evaluate", "--workdir", str(workdir)]) == 0
        assert ("--sensitivity measures it again" in capsys.readouterr().err) == said


def test_parts_are_prepared_without_it(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "--workdir", str(trained), "--part", "1/2", "--sensitivity"]) == 2
    assert "--sensitivity: expected without --part" in capsys.readouterr().err
