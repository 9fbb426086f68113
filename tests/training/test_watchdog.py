"""The watchdog ends a stuck process, and no other."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import PROJECT

from asdjax.training.watchdog import Watchdog

# a program whose first steps end at once, and then one after {pause} s; it stands stopped for a while in between
_PROGRAM = """
import time
from asdjax.training.watchdog import Watchdog
with Watchdog("fan phase1", 0.5) as watchdog:
    time.sleep(1)  # compiling
    watchdog.beat()
    print("begun", flush=True)
    time.sleep({pause})
    watchdog.beat()
print("done")
"""


def _start(pause_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PROGRAM.format(pause=pause_s)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_stuck_process_ends_with_the_stacks_of_its_threads():
    process = _start(60)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (1, "begun\n")
    _, line, *stacks = errors.splitlines()
    assert "fan phase1: no step has ended for" in line
    assert "config.parallel.patience_minutes" in line
    assert any('File "<string>"' in stack for stack in stacks)  # where the main thread was


def test_a_process_that_was_stopped_for_a_while_goes_on():
    process = _start(0.2)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(2)
    os.kill(process.pid, signal.SIGCONT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "done\n", "")


def test_usually_slow_steps_get_more_time(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 10.0, 20.0, 900.0])
    monkeypatch.setattr("asdjax.training.watchdog.monotonic", lambda: next(clock))
    watchdog = Watchdog("fan phase1", 60)
    assert watchdog._limit_s() == 60
    for _ in range(4):
        watchdog.beat()
    assert watchdog._limit_s() == 30 * 10
