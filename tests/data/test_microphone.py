"""The microphone, with a driver that is made up: none of these machines has a sound card."""

import sys
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asdjax.data import microphone
from asdjax.data.microphone import Microphone
from asdjax.data.sound_stream import Gap
from asdjax.errors import InputError

RATE_HZ = 16_000


class Driver:
    """What sounddevice offers: a stream that is opened with a callback."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self) -> None:
        self.opened: dict[str, Any] = {}

    def RawInputStream(self, **options: Any) -> SimpleNamespace:  # noqa: N802
        if options["device"] == "broken":
            raise self.PortAudioError("Invalid sample rate")
        self.opened = options
        self.stream = SimpleNamespace(start=lambda: None, active=True)
        return self.stream

    def play(self, samples: np.ndarray, *, overflow: bool = False) -> None:
        status = SimpleNamespace(input_overflow=True) if overflow else None
        self.opened["callback"](samples.tobytes(), len(samples), None, status)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setitem(sys.modules, "sounddevice", made)  # pyright: ignore[reportArgumentType]
    return made


def test_blocks_come_in_order_with_gaps_where_some_were_lost(driver: Driver):
    heard = iter(Microphone("3", RATE_HZ))
    blocks = [np.full(4000, value, np.int16) for value in range(3)]
    assert (driver.opened["device"], driver.opened["samplerate"], driver.opened["channels"]) == (3, RATE_HZ, 1)
    driver.play(blocks[0])
    np.testing.assert_array_equal(next(heard), blocks[0])
    driver.play(blocks[1], overflow=True)
    assert next(heard) == Gap("gap", 0.25)
    np.testing.assert_array_equal(next(heard), blocks[1])


def test_blocks_that_nobody_takes_are_lost_and_counted(driver: Driver, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(microphone, "_MOST_BLOCKS", 2)
    heard = iter(Microphone(None, RATE_HZ))
    for value in range(5):
        driver.play(np.full(4000, value, np.int16))
    assert [next(heard)[0], next(heard)[0]] == [0, 1]
    driver.play(np.full(4000, 5, np.int16))
    assert next(heard) == Gap("gap", 0.75)
    assert next(heard)[0] == 5


def test_a_silent_driver_is_reported(driver: Driver, monkeypatch: pytest.MonkeyPatch):
    """Once, and as a gap when sound is back; a device that has stopped is an error."""
    monkeypatch.setattr(microphone, "GAP_S", 0.05)
    heard = iter(Microphone(None, RATE_HZ))
    assert next(heard) == Gap("waiting", 0.05)
    threading.Timer(0.2, lambda: driver.play(np.ones(4000, np.int16))).start()
    gap = next(heard)
    assert isinstance(gap, Gap)
    assert gap.kind == "gap"
    assert gap.seconds > 0.2
    assert next(heard)[0] == 1
    driver.stream.active = False
    with pytest.raises(InputError, match="microphone: expected sound, got none any more"):
        next(heard)


def test_a_device_that_cannot_be_opened_is_refused(driver: Driver):
    with pytest.raises(InputError, match="microphone broken: expected one with 16000 Hz, got Invalid sample rate"):
        Microphone("broken", RATE_HZ)


def test_without_sounddevice_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(InputError, match="pip install sounddevice, and PortAudio"):
        Microphone(None, RATE_HZ)
