"""Checkpoints by time, written while training goes on."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import PROJECT, overrides, train_tiny, with_these_networks

from asdjax.config.fields import default_config
from asdjax.errors import InputError, InUse, NoSpace
from asdjax.fleet import checkpoints
from asdjax.training import checkpoint_saver, loop, phase_runs
from asdjax.training.checkpoint_saver import CheckpointSaver

pytestmark = pytest.mark.usefixtures("shallow")

LINES = ("phase1", "phase2_full", "phase2_last_block")


def figures(workdir: Path) -> list[tuple]:
    rows = [json.loads(line) for line in (workdir / "fan" / "metrics.jsonl").read_text().splitlines()]
    return [(row["phase"], row["step"], row["loss_hex"]) for row in rows if "loss" in row]


@pytest.fixture
def saver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CheckpointSaver:
    monkeypatch.setattr(phase_runs, "make_origin", lambda run: None)
    run: Any = SimpleNamespace(
        log=SimpleNamespace(flush=lambda: None, path=Path(__file__)),
        run=SimpleNamespace(folder=tmp_path / "fan"),
        phase=SimpleNamespace(name="phase1"),
    )
    return CheckpointSaver(default_config(), [run])


def test_saves_by_time_change_no_bit(corpus: Path, trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved, save = [], phase_runs.save
    monkeypatch.setattr(phase_runs, "save", lambda run, step, *rest: saved.append(step) or save(run, step, *rest))
    words = {"train__checkpoint_every_minutes": "1e-9", "train__checkpoint_every_steps": "0"}
    assert train_tiny(corpus, tmp_path / "run", **words) == 0
    assert saved == [2, 3, 4, 5, 6, 2, 3, 2, 3]  # the time runs from the end of the first step
    assert figures(tmp_path / "run") == figures(trained_once)
    for line in LINES:
        last = checkpoints.list_steps(trained_once / "fan" / line)[-1]
        by_time, by_steps = (
            checkpoints.read_digest(workdir / "fan" / line, last) for workdir in (tmp_path / "run", trained_once)
        )
        assert by_time == by_steps


def test_without_an_interval_in_steps_only_time_and_the_end_of_a_phase_save(corpus: Path, tmp_path: Path):
    assert train_tiny(corpus, tmp_path / "run", train__checkpoint_every_steps="0") == 0
    assert [checkpoints.list_steps(tmp_path / "run" / "fan" / line) for line in LINES] == [[6], [3], [3]]


def test_the_end_of_a_phase_has_no_velocity(trained_once: Path):
    phase1 = trained_once / "fan" / "phase1"
    before, last = checkpoints.list_steps(phase1)
    assert sorted(path.name for path in (phase1 / str(before)).iterdir()) == ["model", "optimizer"]
    assert [path.name for path in (phase1 / str(last)).iterdir()] == ["model"]


def test_steps_go_on_during_a_save_and_the_next_save_waits(saver: CheckpointSaver, monkeypatch: pytest.MonkeyPatch):
    go_on, done = threading.Event(), []

    def slow(run: object, step: int, *_: object) -> None:
        assert go_on.wait(60)
        done.append(step)

    monkeypatch.setattr(checkpoint_saver.phase_runs, "save", slow)
    state: Any = None
    with saver:
        saver.start({0: state}, [5])
        assert done == []  # the loop goes on meanwhile
        threading.Timer(0.2, go_on.set).start()
        saver.start({0: state}, [6])
        assert done == [5]  # a late save delays the next one, and is not skipped
    assert done == [5, 6]


def test_a_save_that_fails_is_an_error_of_the_training(saver: CheckpointSaver, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise NoSpace("the disk is full")

    monkeypatch.setattr(checkpoint_saver.phase_runs, "save", fail)
    state: Any = None
    with pytest.raises(NoSpace, match="the disk is full"), saver:
        saver.start({0: state}, [5])


def test_an_error_of_the_training_comes_before_that_of_its_save(
    saver: CheckpointSaver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object) -> None:
        raise NoSpace("the disk is full")

    monkeypatch.setattr(checkpoint_saver.phase_runs, "save", fail)
    state: Any = None

    def train() -> None:
        with saver:
            saver.start({0: state}, [5])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert "the newest checkpoint was not saved: the disk is full" in capsys.readouterr().err


def test_a_removed_work_directory_is_noticed(saver: CheckpointSaver, tmp_path: Path):
    run: Any = SimpleNamespace(log=SimpleNamespace(path=tmp_path / "gone"), run=SimpleNamespace(folder=tmp_path))
    saver._runs = [run]
    state: Any = None
    with saver, pytest.raises(InputError, match="expected the files of this training, got none any more"):
        saver.start({0: state}, [5])


def test_a_save_is_due_by_the_clock(saver: CheckpointSaver, monkeypatch: pytest.MonkeyPatch):
    seconds = 100.0
    monkeypatch.setattr(checkpoint_saver, "monotonic", lambda: seconds)
    assert not saver.is_due()
    seconds += 599
    assert not saver.is_due()
    seconds += 1
    assert saver.is_due()
    assert loop.is_due(3, 0, 10) is False
    assert loop.is_due(10, 0, 10) is True


def test_of_two_processes_on_a_disk_without_locks_the_later_one_ends(
    saver: CheckpointSaver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its own steps are no reason; a newer one that it did not save is."""

    def save(run: Any, step: int, *_: object) -> None:
        (tmp_path / "fan" / "phase1" / f"{step}.json").touch()

    (tmp_path / "fan" / "phase1").mkdir(parents=True)
    monkeypatch.setattr(checkpoint_saver.phase_runs, "save", save)
    state: Any = None
    with saver:
        saver.start({0: state}, [5])
        saver.start({0: state}, [10])
        saver.wait()
        save(None, 12)
        with pytest.raises(InUse, match="fan: another asdjax process saves checkpoints of this run"):
            saver.start({0: state}, [15])


@pytest.mark.slow
def test_without_locks_a_second_training_of_a_run_ends_with_75(corpus: Path, tmp_path: Path):
    """Two processes train the same run on a disk whose flock is not implemented; one of them goes on to the end."""
    code = (
        "import errno, fcntl, os, sys\n"
        "def flock(*_): raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))\n"
        "fcntl.flock = flock\n"
        "from asdjax.cli.main import command\n"
        "command()\n"
    )
    words = ["train", "--config", str(PROJECT / "configs" / "dcase2021.py"), "--workdir", str(tmp_path / "run")]
    words += overrides(corpus, phase1__steps="3000", phase2__steps="2", train__log_every_steps="50")
    words += ["--config.train.checkpoint_every_steps=20"]
    command = [sys.executable, "-c", with_these_networks(code), *words]
    first = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL)
    while not checkpoints.list_steps(tmp_path / "run" / "fan" / "phase1"):
        assert first.poll() is None
        time.sleep(0.1)
    second = subprocess.run(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True, timeout=300)
    first.terminate()
    codes = first.wait(60), second.returncode
    assert codes == (75, 75), second.stderr
    assert "another asdjax process is at work there" in second.stderr
