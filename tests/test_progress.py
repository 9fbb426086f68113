"""How far a long wait has come: a bar where somebody watches, lines elsewhere, never on standard output."""

import contextlib
import sys

import pytest

from asdjax import progress as module
from asdjax.progress import progress, say, track


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, to be moved by hand."""
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
        shown.mention("compiling")
        assert capsys.readouterr().err == "fan phase1: compiling\n"


def test_a_long_wait_says_a_line_now_and_then(capsys: pytest.CaptureFixture[str], clock: list[float]):
    """With rate and time left; neither steps done before a resume nor the first, which compiles, count in these."""
    with progress("fan phase1", 1000, "step", done=500) as shown:
        clock[0] += 50
        shown.advance(1, "loss 9.00")
        for _ in range(99):
            clock[0] += 0.5
            shown.advance(1, "loss 1.00", ["1024: a 0.50", " 512: a 1.50"])
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "fan phase1: 501 of 1000 steps; loss 9.00",
        "fan phase1: 541 of 1000 steps, 2 a second, 03:49 left; loss 1.00",
        "  1024: a 0.50",
        "   512: a 1.50",
        "fan phase1: 581 of 1000 steps, 2 a second, 03:29 left; loss 1.00",
        "  1024: a 0.50",
        "   512: a 1.50",
        "fan phase1: 600 of 1000 steps in 99.5 s",
    ]


def test_a_wait_that_ends_in_an_error_says_how_far_it_came(capsys: pytest.CaptureFixture[str]):
    with contextlib.suppress(ValueError), progress("fan", 9, "step") as shown:
        shown.advance(4)
        raise ValueError
    assert capsys.readouterr().err.startswith("fan: 4 of 9 steps in ")


def test_on_a_terminal_a_bar_stands_with_rate_and_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("fan phase1", 4, "step") as shown:
        shown.mention("compiling")
        assert "compiling" in capsys.readouterr().err
        shown.advance(4, "loss 1.00")
        say("a line between")
    err = capsys.readouterr().err
    assert "a line between\n" in err
    bar = err.rstrip("\n").split("\r")[-1]
    assert bar.startswith("fan phase1 4/4 ")
    assert "step/s" in bar
    assert "loss 1.00" in bar
    assert "in 0.0 s" not in err
