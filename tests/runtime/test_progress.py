"""Tests of progress: a bar on a terminal, lines elsewhere, nothing on standard output."""

import contextlib
import os
import re
import subprocess
import sys
import termios
import threading
import time

import pytest

from asdjax.runtime import progress as module
from asdjax.runtime.progress import log, progress, track, wrap


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the clock by seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_where_nobody_watches_one_line_says_how_long_it_took(capsys: pytest.CaptureFixture[str], clock: list[float]):
    for number in track(range(3), "store fan", 3, "clip"):
        clock[0] += 2
        assert number in range(3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "store fan: 3 of 3 clips in 6.0 s\n"


def test_what_is_waited_for_is_said_at_once(capsys: pytest.CaptureFixture[str]):
    with progress("fan phase1", 9, "step") as shown:
        shown.set_status("compiling")
        assert capsys.readouterr().err == "fan phase1: compiling\n"


def test_a_long_wait_says_a_line_now_and_then(capsys: pytest.CaptureFixture[str], clock: list[float]):
    """A line has the newest note, the rate and the time left.

    Neither steps before a resume nor the first step, which compiles, count for the rate.
    """
    with progress("fan phase1", 1000, "step", done=500) as shown:
        clock[0] += 50
        shown.update(1, "loss 9.00")
        for step in range(99):
            clock[0] += 0.5
            logged = ("loss 1.00", ["1024: a 0.50", " 512: a 1.50"]) if step % 7 == 0 else ()
            shown.update(1, *logged)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "fan phase1: 501 of 1000 steps; loss 9.00",
        "fan phase1: 541 of 1000 steps, 2 a second, 03:49 left; loss 1.00",
        "  1024: a 0.50",
        "   512: a 1.50",
        "fan phase1: 581 of 1000 steps, 2 a second, 03:29 left; loss 1.00",
        "  1024: a 0.50",
        "   512: a 1.50",
        "fan phase1: 600 of 1000 steps in 99.5 s; loss 1.00",
    ]


def test_a_wait_that_ends_in_an_error_says_how_far_it_came(capsys: pytest.CaptureFixture[str]):
    with contextlib.suppress(ValueError), progress("fan", 9, "step") as shown:
        shown.update(4)
        raise ValueError
    assert capsys.readouterr().err.startswith("fan: 4 of 9 steps in ")
    with contextlib.suppress(ValueError), progress("fan", 9, "step"):
        raise ValueError
    assert capsys.readouterr().err == ""


def test_a_long_first_step_says_that_it_is_still_at_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.01)
    with progress("fan phase1", 9, "step") as shown:
        shown.set_status("compiling")
        err = waited_for("still at it", capsys)
        assert "fan phase1: still at it after 0 s (compiling)\n" in err
        shown.update(1, "loss 1.00")
        assert threads() == 0
        capsys.readouterr()
        time.sleep(0.05)
        assert capsys.readouterr().err == ""


def waited_for(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    err, end = "", time.monotonic() + 30
    while text not in err and time.monotonic() < end:
        time.sleep(0.01)
        err += capsys.readouterr().err
    return err


def threads() -> int:
    return sum(thread.name == "progress" for thread in threading.enumerate())


@pytest.mark.parametrize("watched", [True, False])
def test_a_wait_that_ends_before_its_first_step_leaves_no_thread(monkeypatch: pytest.MonkeyPatch, watched: bool):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    with contextlib.suppress(KeyboardInterrupt), progress("fan", 9, "step") as shown:
        shown.set_status("compiling")
        assert threads() == 1
        raise KeyboardInterrupt
    assert threads() == 0


def test_on_a_terminal_a_bar_stands_with_rate_and_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("fan phase1", 4, "step") as shown:
        shown.set_status("compiling")
        assert "compiling" in capsys.readouterr().err
        shown.update(4, "loss 1.00")
        log("a line between")
    err = capsys.readouterr().err
    assert "a line between\n" in err
    *_, bar, note = err.rstrip("\n").split("\n")
    assert bar.split("\r")[-1].startswith("fan phase1 4/4 ")
    assert "step/s" in bar
    assert note.split("\r")[-1] == "  loss 1.00"
    assert "in 0.0 s" not in err


def test_neither_rate_nor_time_left_count_the_first_step_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: list[float]
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("fan phase1", 101, "step") as shown:
        shown.set_status("compiling")
        clock[0] += 500
        for _ in range(51):
            shown.update(1, "loss 1.00")
            clock[0] += 0.5
        clock[0] -= 0.5
        shown.set_status("held-out clips")  # draws the bar again
        log("")
        err = capsys.readouterr().err
    assert "<00:25,  2.00 step/s" in err.split("fan phase1 51/101")[-1]


ON_A_TERMINAL = """
import time
from asdjax.runtime import progress
from asdjax.runtime.progress import log

progress.SECONDS_BETWEEN_TICKS = 0.1
with progress.progress("gearbox@1 phase2_last_block", 5000, "step", 1200) as shown:
    shown.set_status("first step, which may take minutes to compile")
    time.sleep(1.3)
    for step in range(8):
        time.sleep(0.11)
        lines = [f"{h}: mobilefacenet 3.21 12 %, resnet50 3.22 11 %, efficientnet_b0 3.20 10 %" for h in (1024, " 512")]
        shown.update(1, *(("4321 pieces/s, loss 3.21, acc. 12 %", lines) if step % 3 == 0 else ()))
    log("a line between")
"""


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_no_line_is_wider_than_the_terminal_and_figures_stay_whole(columns: int):
    out = on_a_terminal(ON_A_TERMINAL, columns)
    lines = (re.sub(r"\x1b\[\w+", "", line).rstrip() for line in re.split(r"[\r\n]", out))
    drawn = [line for line in lines if line]
    assert max(map(len, drawn)) < columns
    text = " ".join(" ".join(drawn).split())
    if columns >= 60:
        assert "  first step, which may take minutes to compile" in drawn
        assert re.search(r"g.*_block 1208/5000 .*\d\d:\d\d<\d\d:\d\d, +[\d.]+ step/s", text)
        assert "  4321 pieces/s, loss 3.21, acc. 12 %" in drawn
    assert any(line.lstrip().removesuffix(",") == "efficientnet_b0 3.20 10 %" for line in drawn) is (columns < 80)
    clocks = set(re.findall(r" 1200/5000 .*?(\d\d:\d\d)<", out))
    assert {"00:00", "00:01"} <= clocks  # it ticked
    assert drawn[-1] == "  4321 pieces/s, loss 3.21, acc. 12 %"  # stays


def on_a_terminal(code: str, columns: int) -> str:
    """Run a program with a terminal as its standard error, and return what it writes there."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # on Linux, at the end
            while part := os.read(ours, 65536):
                seen += part
    os.close(ours)
    assert process.returncode == 0
    return seen.decode()


def test_a_text_is_broken_behind_commas_and_elsewhere_only_where_it_must_be():
    assert wrap("1024: a 3.2 12 %, b 1.0 9 %, c 0.1 3 %", 28) == ["1024: a 3.2 12 %, b 1.0 9 %,", "      c 0.1 3 %"]
    assert wrap("first step, which may take minutes to compile", 30) == [
        "first step, which may take",
        "      minutes to compile",
    ]
