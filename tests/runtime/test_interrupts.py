"""Tests of signals: the process ends at once if nothing would be lost, else when its work is saved."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from asdjax.cli import main
from asdjax.errors import InputError
from asdjax.runtime import interrupts

ALL_SAVED = "stopped; all is saved; run the same command again to go on\n"
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
NOTICES = pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU])

BUSY = """
import hashlib
from asdjax.runtime.interrupts import handle_signals

with handle_signals():
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # takes minutes, in which Python calls no handler
"""

EARLY = """
import time
from asdjax.runtime import interrupts

interrupts.end_at_once()
print("busy", flush=True)
time.sleep(600)
"""

SAVING = """
import sys, time
from asdjax.errors import Interrupted
from asdjax.runtime.interrupts import GracefulShutdown, handle_signals

try:
    with handle_signals(), GracefulShutdown() as stop:
        stop.begin()
        print("busy", flush=True)
        while not stop.stop_requested:
            time.sleep(0.01)
        print("saving", flush=True)
        sys.stdin.read()
        print("saved", flush=True)
except Interrupted as stopped:
    print(stopped)
"""

OVERLOOKED = """
import sys
from asdjax.errors import Interrupted
from asdjax.runtime.interrupts import GracefulShutdown, handle_signals

try:
    with handle_signals(), GracefulShutdown() as stop:
        stop.begin()
        print("busy", flush=True)
        sys.stdin.read()
except Interrupted as stopped:
    print(stopped)
"""

LEAVING = """
import threading
from asdjax.runtime import interrupts
from asdjax.errors import Interrupted
from asdjax.runtime.interrupts import GracefulShutdown, handle_signals

begun, looked, left = (threading.Event() for _ in range(3))

class Saving(set):
    def __bool__(self):  # called by the listener alone
        at_work = len(self) > 0
        looked.set()
        left.wait(1)
        return at_work

def work():
    try:
        with GracefulShutdown() as stop:
            stop.begin()
            begun.set()
            looked.wait(60)
        print("not stopped", flush=True)
    except Interrupted as stopped:
        print(stopped, flush=True)
    left.set()

interrupts._saving = Saving()
interrupts._handle_in_main = lambda *_: None  # late
with handle_signals():
    worker = threading.Thread(target=work)
    worker.start()
    begun.wait(60)
    print("busy", flush=True)
    worker.join()
"""


FAILED = """
import hashlib
from asdjax.runtime import interrupts
from asdjax.runtime.interrupts import handle_signals

with handle_signals():
    interrupts.request_stop()  # as a failed job does, while another one, with nothing to save yet, compiles
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


LATE = """
import threading, time
from asdjax.runtime import interrupts
from asdjax.errors import Interrupted
from asdjax.runtime.interrupts import GracefulShutdown, handle_signals

saved, listen = threading.Event(), interrupts._listen
interrupts._listen = lambda receiving: saved.wait(60) and listen(receiving)
try:
    with handle_signals():
        try:
            with GracefulShutdown() as stop:
                stop.begin()
                print("busy", flush=True)
                while not stop.stop_requested:
                    time.sleep(0.01)
        finally:
            saved.set()
except Interrupted as stopped:
    print(stopped)
"""


# in the background or under nohup, the tests may ignore Ctrl-C or SIGHUP, which the programs would inherit
DEFAULT_HANDLERS = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
)


def running(code: str, first: str = "") -> subprocess.Popen:
    """Start a program that begins with the code `first`, and return it when it has printed "busy"."""
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", DEFAULT_HANDLERS + first + code]
    process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    return process


@SIGNALS
@pytest.mark.parametrize("code", [EARLY, BUSY, FAILED], ids=["not watched yet", "busy", "asked to end"])
def test_where_nothing_would_be_lost_it_ends_at_once(code: str, number: signal.Signals):
    with running(code) as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err == "\nasdjax: stopped; run the same command again\n"


@SIGNALS
def test_what_is_to_be_saved_is_saved(number: signal.Signals):
    with running(SAVING) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"saving\nsaved\n{ALL_SAVED}")
    assert err == "\nasdjax: stopping as soon as this is saved; a second signal ends at once\n"


def test_a_signal_that_nobody_looked_at_is_not_forgotten():
    with running(OVERLOOKED) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert "stopping" in process.stderr.readline() + process.stderr.readline()
        out, _ = process.communicate(timeout=60)
    assert out == ALL_SAVED


def test_a_signal_at_the_moment_at_which_work_ends_is_not_forgotten():
    """A thread ends its work just after the listener has seen it at work."""
    with running(LEAVING) as process:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert out == ALL_SAVED


def test_a_listener_that_comes_when_all_is_saved_leaves_the_end_to_the_main_thread():
    with running(LATE) as process:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, ALL_SAVED)


def test_signals_are_heard_though_nobody_reads_the_messages():
    with running(SAVING) as process:
        assert process.stderr is not None
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 75


def test_a_second_signal_ends_at_once():
    with running(SAVING) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert process.returncode == 75
        assert process.stdout.read() == ""
        assert process.stderr is not None
        assert "stopped; the steps since the last checkpoint are lost; run the same" in process.stderr.read()


@NOTICES
@pytest.mark.parametrize("code", [EARLY, BUSY], ids=["not watched yet", "busy"])
def test_a_notice_of_a_batch_system_or_terminal_ends_what_loses_nothing(code: str, number: signal.Signals):
    with running(code) as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err == "\nasdjax: stopped; run the same command again\n"


@NOTICES
def test_notices_however_many_and_a_signal_after_them_wait_for_the_saving(number: signal.Signals):
    """Batch systems send SIGXCPU every second, and SIGTERM some time after a notice."""
    with running(SAVING) as process:
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.readline() == "saving\n"
        for later in (number, number, signal.SIGTERM):
            process.send_signal(later)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"saved\n{ALL_SAVED}")


@pytest.mark.parametrize("code", [EARLY, BUSY], ids=["not watched yet", "busy"])
def test_what_was_started_by_nohup_outlives_its_terminal(code: str):
    with running(code, "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n") as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75


CHATTY = SAVING.replace("sys.stdin.read()", "time.sleep(1)\n        print('x' * 10, file=sys.stderr, flush=True)")


def test_work_is_saved_though_its_terminal_was_closed(tmp_path):
    ours, theirs = pty.openpty()
    code = CHATTY + f"open({str(tmp_path / 'saved')!r}, 'w').close()\n"
    with subprocess.Popen(
        [sys.executable, "-c", DEFAULT_HANDLERS + code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        assert os.read(ours, 100).startswith(b"busy")
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        process.wait(60)
    assert (tmp_path / "saved").exists()


def test_what_breaks_after_a_signal_ends_with_the_code_of_a_stop(monkeypatch: pytest.MonkeyPatch, capsys):
    def work(options):
        interrupts.request_stop()
        raise InputError("the disk is gone")

    monkeypatch.setattr("asdjax.cli.commands_data._check", work)
    assert main.main(["check", "--config", "dcase2021"]) == 75
    assert "stopped; the disk is gone; run the same command again" in capsys.readouterr().err
