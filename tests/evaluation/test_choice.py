"""Which checkpoints make the models of a run."""

from pathlib import Path

import pytest

from asdjax.config import default
from asdjax.corpus.tasks import Task
from asdjax.evaluation import choice
from asdjax.training import checkpoints
from asdjax.training.runs import Run


def test_a_run_without_phase_2_is_judged_by_phase_1_which_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoints, "steps", lambda line: [10**6])
    monkeypatch.setattr(checkpoints, "verify", lambda line, step: None)
    run = Run("fan", Task("fan", ("fan",), (), (), (), ()), 0, tmp_path / "fan")
    for lines, told in [((), True), (("phase1", "phase2_full"), True), (("phase1",), False)]:
        config = default()
        config.evaluate.lines = lines
        assert choice.trained(config, [run]) == {"fan": [choice.Checkpoint("", "phase1", 10**6)]}
        assert ("fan: has no phase 2, evaluating phase 1 alone" in capsys.readouterr().err) == told
