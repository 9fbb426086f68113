"""Launcher launch/local: the real configuration, shrunk, from a corpus to evaluated score files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEEP, PROJECT, overrides

LOCAL = PROJECT / "launch" / "local"


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    """Run launch/local with this environment's `asdjax` on the PATH."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run([LOCAL, *words], env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_dcase2021_shrunk_trains_two_steps_of_each_phase_and_is_evaluated(corpus: Path, tmp_path: Path):
    config = str(PROJECT / "configs" / "dcase2021.py")
    shrunk = overrides(corpus, width=str(DEEP), phase1__steps="2", phase2__steps="2", phase2__strategies="full")
    ran = launch(config, str(tmp_path / "run"), *shrunk)
    assert ran.returncode == 0, ran.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "fan" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["phase"], row["step"]) for row in rows if "loss" in row] == [
        ("phase1", 1),
        ("phase1", 2),
        ("phase2_full", 1),
        ("phase2_full", 2),
    ]
    results = json.loads((tmp_path / "run" / "evaluation" / "dev" / "results.json").read_text())
    assert results["checkpoints"] == {"fan/phase2_full": 2}
    assert "all_mean" in ran.stdout


def test_a_failure_is_not_followed_by_an_evaluation(tmp_path: Path):
    ran = launch(str(tmp_path / "nowhere.py"), str(tmp_path / "run"))
    assert ran.returncode == 2
    assert "asdjax train:" in ran.stderr
    assert "asdjax evaluate:" not in ran.stderr


def test_without_arguments_it_tells_its_usage():
    ran = launch()
    assert ran.returncode == 2
    assert "launch/local CONFIG WORKDIR" in ran.stderr
