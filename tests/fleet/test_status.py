"""The status of runs, read from files alone."""

import json
import shutil
import socket
import time
from pathlib import Path

import pytest

from asdjax.cli.main import main
from asdjax.fleet import metric_log
from asdjax.fleet.status import MOST_LISTED, RunStatus, as_json, as_text, read_status
from asdjax.runtime.files import locked_folder

pytestmark = pytest.mark.usefixtures("shallow")


def status_of(workdir: Path) -> RunStatus:
    (run,) = read_status(workdir)
    return run


def add_row(workdir: Path, **row: object) -> None:
    with (workdir / "fan" / metric_log.FILE).open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_a_trained_run_is_done(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert status_of(trained) == RunStatus(
        run="fan",
        state="done",
        phase="phase2_last_block",
        steps=12,
        of=12,
        seconds_left=None,
        where=socket.gethostname(),
        why="",
    )
    assert main(["status", "--workdir", str(trained)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("1 run: 1 done\n")
    assert "12 of 12" in text
    assert main(["status", "--workdir", str(trained), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["done"], content["runs"][0]["run"]) == (1, "fan")


def test_a_run_between_its_phases_is_stopped_or_running_with_its_time_left(trained: Path):
    for file in (trained / "fan").glob("phase2_last_block/*.json"):
        file.unlink()
    lines = (trained / "fan" / metric_log.FILE).read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["phase"] != "phase2_last_block"]
    (trained / "fan" / metric_log.FILE).write_text("\n".join(kept) + "\n")
    add_row(trained, phase="phase2_last_block", step=1, time=time.time() - 1000, step_seconds=2.0)
    stopped = status_of(trained)
    assert (stopped.state, stopped.steps, stopped.of, stopped.seconds_left) == ("stopped", 9, 12, None)
    with locked_folder(trained / "fan"):
        running = status_of(trained)
    assert (running.state, running.steps, running.seconds_left) == ("running", 10, 4.0)
    add_row(trained, phase="phase2_last_block", step=2, time=time.time(), step_seconds=2.0)
    assert status_of(trained).state == "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asdjax.fleet.status.is_locked", lambda folder: None)  # on a disk that cannot lock
        assert status_of(trained).state == "running"
        add_row(trained, phase="phase2_last_block", step=2, time=time.time(), holdout_loss={})
        assert (status_of(trained).state, status_of(trained).seconds_left) == ("running", 2.0)
    assert status_of(trained).state == "stopped"
    add_row(trained, event="resumed", phase="phase2_last_block", step=2, time=time.time(), host="another")
    assert status_of(trained).state == "running"  # its locks may not be seen from here


def test_a_failed_run_says_why(trained: Path):
    for file in (trained / "fan").glob("phase2_last_block/*.json"):
        file.unlink()
    metric_log.append_failure(trained / "fan", "the loss is not finite", 3)
    failed = status_of(trained)
    assert (failed.state, failed.why) == ("failed", "the loss is not finite")
    assert "the loss is not finite" in as_text([failed], 80)
    with locked_folder(trained / "fan"):  # by a process that may still train another run before
        assert (status_of(trained).state, status_of(trained).why) == ("waiting", "")
        with metric_log.MetricLog(trained / "fan") as log:
            log.begin("phase1", 0)
        assert status_of(trained).state == "running"
    (trained / "fan" / "task.json").write_text("{}")
    assert "task.json: expected a training-set manifest" in status_of(trained).why


def test_a_run_that_a_process_has_locked_but_not_started_is_waiting(trained: Path):
    shutil.rmtree(trained / "fan")
    with locked_folder(trained / "fan"):
        assert status_of(trained).state == "waiting"


def test_a_folder_without_a_training_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["status", "--workdir", str(tmp_path)]) == 2
    assert "got no such file; give the work directory of one" in capsys.readouterr().err


def test_of_thousands_of_runs_each_state_lists_some():
    waiting = RunStatus(run="m", state="waiting", phase="", steps=None, of=None, seconds_left=None, where="", why="")
    text = as_text([waiting] * 4200, 80)
    assert text.startswith("4200 runs: 4200 waiting\n")
    assert f"and {4200 - MOST_LISTED} more" in text
    assert len(as_json([waiting] * 4200)["runs"]) == 4200
