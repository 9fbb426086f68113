"""One program over several processes: the bits of one process, one end for all, and none that waits for the dead."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import PROJECT, overrides, with_these_networks

from asdjax.fleet import checkpoints, metric_log
from asdjax.runtime.interrupts import STOPPED

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shallow")]

_ASDJAX = "from asdjax.__main__ import command; command()"
SHORT = {"train__checkpoint_every_steps": "3", "phase2__strategies": "full"}
LONG = {**SHORT, "phase1__steps": "5000"}
LINES = ("phase1", "phase2_full")

Start = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def start(corpus: Path, tmp_path: Path) -> Iterator[Start]:
    """Start some processes of one program (one: a process alone) in a work directory; they are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(
        number: int, workdir: Path, devices: int = 1, each: Sequence[dict[str, str]] = (), **changes: str
    ) -> list[subprocess.Popen[str]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = str(PROJECT / "configs" / "dcase2021.py")
        words = ["train", "--config", config, "--workdir", str(workdir)]
        environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        processes = []
        for i in range(number):
            others = ["--processes", f"{number}", "--process", f"{i}", "--coordinator", f"127.0.0.1:{port}"]
            fields = overrides(corpus, **changes, **(each[i] if each else {}))
            command = [sys.executable, "-c", with_these_networks(_ASDJAX), *words, *fields]
            command += others if number > 1 else []
            with (tmp_path / f"errors{len(started)}").open("w") as errors:
                process = subprocess.Popen(
                    command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=errors, text=True
                )
            processes.append(process)
            started.append(process)
        return processes

    yield run
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def _codes(processes: list[subprocess.Popen[str]], timeout_s: float = 240) -> list[int]:
    return [process.wait(timeout_s) for process in processes]


def _wait_for_step(workdir: Path, step: int) -> None:
    log = workdir / "fan" / metric_log.FILE
    for _ in range(2400):
        if any(row["step"] > step for row in metric_log.read(log) if "loss" in row):
            return
        time.sleep(0.1)
    raise AssertionError(f"step {step} was not reached")


def _read(workdir: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the digests of the last models, and every logged loss."""
    lines = [workdir / "fan" / line for line in LINES]
    digests = [checkpoints.read_digest(line, checkpoints.list_steps(line)[-1]) for line in lines]
    rows = metric_log.read(workdir / "fan" / metric_log.FILE)
    return digests, [row["loss_hex"] for row in rows if "loss_hex" in row]


@pytest.mark.parametrize("resident", ["device", "host"])
def test_two_processes_give_the_bits_of_one_with_two_devices(start: Start, tmp_path: Path, resident: str):
    changes = {**SHORT, "train__holdout_fraction": "0.25", "data__resident": resident}
    assert _codes(start(1, tmp_path / "one", devices=2, **changes)) == [0]
    assert _codes(start(2, tmp_path / "two", **changes)) == [0, 0]
    digests, losses = _read(tmp_path / "one")
    assert (digests, losses) == _read(tmp_path / "two")
    assert len(losses) == 9
    events = [row for row in metric_log.read(tmp_path / "two" / "fan" / metric_log.FILE) if row.get("event")]
    assert [row["processes"] for row in events] == [2, 2]


def test_a_signal_to_one_stops_all_at_a_step_and_any_number_goes_on(start: Start, tmp_path: Path):
    workdir, line = tmp_path / "run", tmp_path / "run" / "fan" / "phase1"
    stopped_at = []
    for number, signalled in ((2, 1), (1, 0), (4, 3)):
        processes = start(number, workdir, **LONG)
        _wait_for_step(workdir, stopped_at[-1] + 3 if stopped_at else 3)
        processes[signalled].send_signal(signal.SIGTERM)
        assert _codes(processes, 60) == [STOPPED] * number
        stopped_at.append(checkpoints.list_steps(line)[-1])
    log = workdir / "fan" / metric_log.FILE
    begun = [(row["event"], row["step"], row.get("processes", 1)) for row in metric_log.read(log) if row.get("event")]
    assert begun == [("started", 0, 2), ("resumed", stopped_at[0], 1), ("resumed", stopped_at[1], 4)]
    steps = [row["step"] for row in metric_log.read(log) if "loss" in row]
    assert steps == list(range(1, stopped_at[-1] + 1))


@pytest.mark.parametrize("killed", [0, 1])
def test_the_others_end_within_ten_seconds_of_a_kill(start: Start, tmp_path: Path, killed: int):
    processes = start(2, tmp_path / "run", **LONG)
    _wait_for_step(tmp_path / "run", 3)
    processes[killed].kill()
    assert processes[1 - killed].wait(10) not in (0, STOPPED)


def test_the_others_end_within_the_patience_if_one_is_stuck(start: Start, tmp_path: Path):
    processes = start(2, tmp_path / "run", **LONG, parallel__patience_minutes="0.2")
    _wait_for_step(tmp_path / "run", 3)
    processes[1].send_signal(signal.SIGSTOP)
    assert processes[0].wait(30) == 1
    assert "no step has ended for" in (tmp_path / "errors0").read_text()


def start_unlike(start: Start, workdir: Path, field: str, first: str, second: str) -> list[subprocess.Popen[str]]:
    """Start two processes that differ in one field."""
    return start(2, workdir, **SHORT, each=[{field: first}, {field: second}])


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("optimizer__learning_rate", ("0.01", "0.5"), "process 1: config.optimizer.learning_rate: expected 0.01 as in"),
        ("data__root", ("", "/nowhere"), "/nowhere"),
    ],
)
def test_what_differs_in_one_process_ends_all_with_its_name(
    start: Start, corpus: Path, tmp_path: Path, field: str, values: tuple[str, str], message: str
):
    first, second = (value or str(corpus) for value in values)
    begun = time.monotonic()
    assert _codes(start_unlike(start, tmp_path / "run", field, first, second), 60) == [2, 2]
    assert time.monotonic() - begun < 45
    for i in range(2):
        assert message in (tmp_path / f"errors{i}").read_text().splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_start_without_a_checkpoint_can_be_changed(start: Start, tmp_path: Path):
    assert _codes(start(1, tmp_path / "run", **SHORT, optimizer__learning_rate="1e30")) == [3]
    assert not list((tmp_path / "run").glob("fan/phase1/*.json"))
    assert _codes(start(2, tmp_path / "run", **SHORT)) == [0, 0]


def test_all_end_alike_by_an_error_and_each_says_why(start: Start, tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert _codes(start(2, tmp_path / "file", **SHORT)) == [2, 2]
    for i in range(2):
        lines = (tmp_path / f"errors{i}").read_text().splitlines()
        assert [line for line in lines if "expected a folder" in line] == lines[-1:]
    assert _codes(start(2, tmp_path / "run", **SHORT, optimizer__learning_rate="1e30")) == [3, 3]
    events = [json.loads(line) for line in (tmp_path / "run" / "fan" / metric_log.FILE).read_text().splitlines()]
    assert [row["event"] for row in events if row.get("event") in ("diverged", "failed")] == ["diverged", "failed"]


def test_groups_of_devices_are_refused(start: Start, tmp_path: Path):
    assert _codes(start(2, tmp_path / "run", **SHORT, parallel__device_groups="2")) == [2, 2]
    assert "train parts (--part I/N) in processes of their own" in (tmp_path / "errors1").read_text()
    assert not (tmp_path / "run").exists()
