"""Selection of the checkpoints of a run."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from asdjax.config.fields import default_config
from asdjax.data.clips import Clip, Corpus
from asdjax.data.tasks import Task, make_tasks
from asdjax.errors import InputError
from asdjax.evaluation import checkpoint_selection
from asdjax.fleet import checkpoints
from asdjax.fleet.runs import Run


def source_only(machine: str) -> Task:
    clips = [Clip(Path(f"{section}.wav"), machine, section, "train", "source", "normal") for section in ("00", "01")]
    (task,) = make_tasks(Corpus("dcase2021", tuple(clips)), "section")
    return task


def test_a_run_without_phase_2_is_judged_by_phase_1_which_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoints, "list_steps", lambda line: [10**6])
    monkeypatch.setattr(checkpoints, "verify", lambda line, step: None)
    monkeypatch.setattr(checkpoints, "read_digest", lambda line, step: f"{line.name} {step}")
    run = Run("fan", source_only("fan"), 0, tmp_path / "fan")
    clips = [
        Clip(Path(f"{section}_{domain}.wav"), "pump", section, "train", domain, "normal")
        for section in ("00", "01")
        for domain in ("source", "target")
    ]
    other = Run("pump", make_tasks(Corpus("dcase2021", tuple(clips)), "section")[0], 0, tmp_path / "pump")
    for lines, logged in [((), True), (("phase1", "phase2_full"), True), (("phase1",), False)]:
        config = default_config()
        config.evaluate.lines = lines
        assert checkpoint_selection.select_trained(config, [run, other])["fan"] == [
            checkpoint_selection.SelectedCheckpoint("", "phase1", 10**6, "phase1 1000000")
        ]
        assert ("fan: has no phase 2, evaluating phase 1 alone" in capsys.readouterr().err) == logged


def test_a_line_that_no_run_has_is_refused_where_it_is_asked_for_by_name(tmp_path: Path) -> None:
    run = Run("fan", source_only("fan"), 0, tmp_path / "fan")
    config = default_config()
    config.evaluate.lines = ("phase2_full",)
    with pytest.raises(InputError, match=r"config\.evaluate\.lines: expected any of phase1, got phase2_full"):
        checkpoint_selection.select_trained(config, [run])


def test_a_fleet_that_was_trained_again_to_the_same_steps_has_new_checkpoints(tmp_path: Path) -> None:
    """`--watch` must evaluate them like later steps."""
    run = Run("fan", source_only("fan"), 0, tmp_path / "fan")
    selections = []
    for value in (1.0, 1.0, 2.0):
        shutil.rmtree(run.folder, ignore_errors=True)
        checkpoints.save(run.folder / "phase1", 3, {"model": {"a": np.full(2, value)}}, 1)
        selections.append(checkpoint_selection.select_newest(default_config(), [run]))
    assert selections[0] == selections[1] != selections[2]
    assert [one.step for selection in selections for one in selection["fan"]] == [3, 3, 3]
