"""SIGTERM, Ctrl-C and their kind: an end at once where nothing would be lost, else once the dispatch is saved.

Batch systems give notice of a time limit by SIGUSR1, SIGUSR2 or SIGXCPU and send SIGTERM later; a terminal that is
closed sends SIGHUP. Each asks for the same end.

What is on disk survives a kill (an evaluation that was being written is at worst written anew), so that ending at
once is safe anywhere. A thread of its own hears the signals: the main thread may be in a compilation for minutes, and
Python calls no handler meanwhile.
"""

import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import sleep
from types import TracebackType
from typing import NoReturn, Self

from asdjax.errors import Stopped

IMPATIENT = (signal.SIGTERM, signal.SIGINT)
"""Signals that end the process at once when a second of them comes."""

NOTICES = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Signals that may come several times, SIGXCPU every second, and never end the process while it saves."""

SIGNALS = (*IMPATIENT, *NOTICES)
STOPPED = 75
"""Exit code: ended by a signal; the same command begins anew, or goes on where anything was saved (EX_TEMPFAIL)."""
AGAIN = "run the same command again"
GO_ON = f"{AGAIN} to go on"
ALL_IS_SAVED = f"stopped; all is saved; {GO_ON}"

_asked = False
"""Whether a signal came while there was work to save, or `ask` was called."""

_heard = False
"""Whether the main thread has handled a signal that came while there was work to save."""

_saving: set["GracefulShutdown"] = set()
"""Those that have work to save; there may be one a thread."""

_leaving = threading.Lock()
"""Held to see who has work to save and ask them, and to take one's leave and see whether one was asked: otherwise a
signal could be left to somebody who has just gone."""


class GracefulShutdown:
    """Between `begin` and the end of the `with` block the first signal only makes `asked` true: there is work to save.

    A block that ends after a signal ends with Stopped. A second signal ends the process at once.
    """

    @property
    def stop_requested(self) -> bool:
        """Whether a signal came, whoever noticed it first: the listener or, as it may be late, the main thread."""
        return stop_requested()

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """From here on."""
        _saving.add(self)

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Within it there is nothing to save: a signal ends the process at once, and one that came ends the block."""
        if self._leave():
            raise Stopped(ALL_IS_SAVED)
        yield
        self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._leave() and kind is None:
            raise Stopped(ALL_IS_SAVED)

    def _leave(self) -> bool:
        """Have no work to save any more; whether a signal came until then."""
        with _leaving:
            _saving.discard(self)
            return _asked


def stop_requested() -> bool:
    """Whether a signal came while there was work to save, or `ask` was called."""
    return _asked


def request_stop() -> None:
    """Ask everything that has work to save to save it and end, as a signal would."""
    global _asked
    _asked = True


def end_when_saved() -> None:
    """Wait for whoever has work to save, then end the process at once, whatever other threads are in the middle of."""
    while _saving:
        sleep(0.05)
    _end(ALL_IS_SAVED)


def end_at_once() -> None:
    """From here on, until they are `watched`, signals end the process."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: _end(f"stopped; {AGAIN}"))


@contextmanager
def handle_signals() -> Iterator[None]:
    """Within it signals are heard. Main thread only. A signal that was ignored before, as in a job put into the
    background, stays so."""
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    wakeup_before = signal.set_wakeup_fd(sending)
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _heard_by_main) for number in heeded}
    listener = threading.Thread(target=_listen, args=(receiving,), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(sending)
        listener.join()
        reset()


def reset() -> None:
    """What was asked has been done."""
    global _asked, _heard
    _asked = _heard = False


def _heard_by_main(number: int, _: object) -> None:
    """Handle a signal in the main thread, as soon as it is back in Python."""
    global _heard
    if number == signal.SIGHUP:
        _leave_lost_terminal()
    if _saving:
        _heard = True
        request_stop()


def _listen(receiving: int) -> None:
    """Act on signals until the other end is closed."""
    signals = impatient = 0
    while heard := os.read(receiving, 1):
        if heard[0] not in SIGNALS:
            continue
        if heard[0] == signal.SIGHUP:
            _leave_lost_terminal()
        signals += 1
        impatient += heard[0] in IMPATIENT
        with _leaving:
            at_work = bool(_saving) or _heard  # the main thread may have heard it first, and saved by now
            if at_work:
                request_stop()
        if impatient > 1 or not at_work:
            _end(f"stopped; {AGAIN}")
        if signals == 1:
            at_once = "a second signal" if impatient else "Ctrl-C twice"
            _tell(f"stopping as soon as this is saved; {at_once} ends at once")
    os.close(receiving)


def _end(line: str) -> NoReturn:
    _tell(line)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(STOPPED)


def _tell(line: str) -> None:
    """Write a line by os.write, as the main thread may be in the middle of printing; nobody may be there to read it."""
    with suppress(OSError):
        rest_of_line = "\x1b[K" if os.isatty(2) else ""  # of what stood below a progress bar
        os.write(2, f"\nasdjax: {line}{rest_of_line}\n".encode())


def _leave_lost_terminal() -> None:
    """Send nowhere what is printed to a terminal that is gone: an error in printing would end the saving."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(nowhere, stream)
    os.close(nowhere)
