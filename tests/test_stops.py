"""Signals: an end at once where nothing would be lost, whatever the main thread is busy with, else when it is saved."""

import signal
import subprocess
import sys

import pytest

ALL_SAVED = "stopped; all is saved; run the same command again to go on\n"
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])

BUSY = """
import hashlib
from asdjax.stops import watched

with watched():
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes, in which Python calls no handler
"""

EARLY = """
import time
from asdjax import stops

stops.end_at_once()
print("busy", flush=True)
time.sleep(600)
"""

SAVING = """
import sys, time
from asdjax.errors import Stopped
from asdjax.stops import Deferral, watched

try:
    with watched(), Deferral() as stop:
        stop.begin()
        print("busy", flush=True)
        while not stop.asked:
            time.sleep(0.01)
        print("saving", flush=True)
        sys.stdin.read()
        print("saved", flush=True)
except Stopped as stopped:
    print(stopped)
"""

OVERLOOKED = """
import sys
from asdjax.errors import Stopped
from asdjax.stops import Deferral, watched

try:
    with watched(), Deferral() as stop:
        stop.begin()
        print("busy", flush=True)
        sys.stdin.read()
except Stopped as stopped:
    print(stopped)
"""

LEAVING = """
import threading
from asdjax import stops
from asdjax.errors import Stopped
from asdjax.stops import Deferral, watched

begun, looked, left = (threading.Event() for _ in range(3))

class Saving(set):
    def __bool__(self):  # asked by the listener alone
        at_work = len(self) > 0
        looked.set()
        left.wait(1)
        return at_work

def work():
    try:
        with Deferral() as stop:
            stop.begin()
            begun.set()
            looked.wait(60)
        print("not stopped", flush=True)
    except Stopped as stopped:
        print(stopped, flush=True)
    left.set()

stops._saving = Saving()
stops._heard_by_main = lambda *_: None  # late
with watched():
    worker = threading.Thread(target=work)
    worker.start()
    begun.wait(60)
    print("busy", flush=True)
    worker.join()
"""


FAILED = """
import hashlib
from asdjax import stops
from asdjax.stops import watched

with watched():
    stops.ask()  # as for a job that failed, while another, which has nothing to save yet, compiles
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


LATE = """
import threading, time
from asdjax import stops
from asdjax.errors import Stopped
from asdjax.stops import Deferral, watched

saved, listen = threading.Event(), stops._listen
stops._listen = lambda receiving: saved.wait(60) and listen(receiving)
try:
    with watched():
        try:
            with Deferral() as stop:
                stop.begin()
                print("busy", flush=True)
                while not stop.asked:
                    time.sleep(0.01)
        finally:
            saved.set()
except Stopped as stopped:
    print(stopped)
"""


# where this runs in the background Ctrl-C may be ignored, which programs would inherit
HEEDING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def running(code: str) -> subprocess.Popen:
    """A program that has said that it is busy."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", HEEDING + code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
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
    """A thread at work takes its leave just after the listener saw that it is there."""
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
