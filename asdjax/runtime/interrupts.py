"""Signals that end the process: at once if nothing would be lost, else when the current dispatch is saved.

SIGTERM and Ctrl-C ask for the end. A closed terminal does so by SIGHUP. A batch system gives notice of a time limit by
SIGUSR1, SIGUSR2 or SIGXCPU, and sends SIGTERM later.

The files on disk survive a kill at any moment, so that it is safe to end at once. A thread listens for signals, as
Python calls no handler while the main thread is in a compilation, which can take minutes.
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

from asdjax.errors import Interrupted

#: Signals of which a second one ends the process at once.
IMPATIENT = (signal.SIGTERM, signal.SIGINT)

#: Signals that may arrive several times (SIGXCPU every second) and never end the process while it saves.
NOTICES = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)

SIGNALS = (*IMPATIENT, *NOTICES)

#: Exit code after a signal (EX_TEMPFAIL); the same command starts again, or resumes if anything was saved.
STOPPED = 75

AGAIN = "run the same command again"
GO_ON = f"{AGAIN} to go on"
ALL_IS_SAVED = f"stopped; all is saved; {GO_ON}"

_stop_requested = False  # a signal arrived while there was work to save, or `request_stop` was called
_handled_by_main = False  # the main thread has handled a signal that arrived while there was work to save
_saving: set["GracefulShutdown"] = set()  # those with work to save, at most one per thread

# Held to find who has work to save and request the stop, and to leave `_saving` and read the request. Otherwise a
# signal could be left to a block that has just ended.
_leaving = threading.Lock()


class GracefulShutdown:
    """Block with work to save: from `begin` to the end of the `with` block a signal only sets `stop_requested`.

    A block that ends after a signal raises Interrupted, unless several processes have to agree on that first (not
    `alone`). A second signal ends the process at once.
    """

    def __init__(self, *, alone: bool = True) -> None:
        self._alone = alone

    @property
    def stop_requested(self) -> bool:
        """Return True after a signal, whether the listener or the main thread noticed it first."""
        return stop_requested()

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Mark that there is work to save from now on."""
        _saving.add(self)

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Mark that there is nothing to save within the block; raise Interrupted if a signal arrived before."""
        if self._alone and self._leave():
            raise Interrupted(ALL_IS_SAVED)
        yield
        self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._leave() and kind is None and self._alone:
            raise Interrupted(ALL_IS_SAVED)

    def _leave(self) -> bool:
        """Mark that there is nothing to save any more; return True if a signal arrived until then."""
        with _leaving:
            _saving.discard(self)
            return _stop_requested


def stop_requested() -> bool:
    """Return True if a signal arrived while there was work to save, or `request_stop` was called."""
    return _stop_requested


def request_stop() -> None:
    """Ask everything that has work to save to save it and end, as a signal does."""
    global _stop_requested
    _stop_requested = True


def end_when_saved() -> None:
    """Wait until all work is saved, then end the process at once, whatever its other threads do."""
    while _saving:
        sleep(0.05)
    _end(ALL_IS_SAVED)


def end_at_once() -> None:
    """Let signals end the process at once, until `handle_signals` handles them."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: _end(f"stopped; {AGAIN}"))


@contextmanager
def handle_signals() -> Iterator[None]:
    """Handle signals within the block, which the main thread runs.

    A signal that was ignored before, as in a job in the background, stays ignored.
    """
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    wakeup_before = signal.set_wakeup_fd(sending)
    handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _handle_in_main) for number in handled}
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


def ignore_signals() -> None:
    """Ignore signals from now on, because the process ends by itself at once."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def reset() -> None:
    """Clear the request to stop."""
    global _stop_requested, _handled_by_main
    _stop_requested = _handled_by_main = False


def _handle_in_main(number: int, _: object) -> None:
    """Handle a signal in the main thread, when it is back in Python."""
    global _handled_by_main
    if number == signal.SIGHUP:
        _leave_lost_terminal()
    if _saving:
        _handled_by_main = True
        request_stop()


def _listen(receiving: int) -> None:
    """Act on signals until the other end of the pipe is closed."""
    signals = impatient = 0
    while byte := os.read(receiving, 1):
        if byte[0] not in SIGNALS:
            continue
        if byte[0] == signal.SIGHUP:
            _leave_lost_terminal()
        signals += 1
        impatient += byte[0] in IMPATIENT
        with _leaving:
            has_work = bool(_saving) or _handled_by_main  # the main thread may have saved its work by now
            if has_work:
                request_stop()
        if impatient > 1 or not has_work:
            lost = "; the steps since the last checkpoint are lost" if has_work else ""
            _end(f"stopped{lost}; {AGAIN}")
        if signals == 1:
            ends_at_once = "a second signal" if impatient else "Ctrl-C twice"
            _write_line(f"stopping as soon as this is saved; {ends_at_once} ends at once")
    os.close(receiving)


def _end(line: str) -> NoReturn:
    _write_line(line)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(STOPPED)


def _write_line(line: str) -> None:
    """Write a line to standard error by os.write, as the main thread may be printing; ignore a closed stream."""
    with suppress(OSError):
        rest_of_line = "\x1b[K" if os.isatty(2) else ""  # clears a note below a progress bar
        os.write(2, f"\nasdjax: {line}{rest_of_line}\n".encode())


def _leave_lost_terminal() -> None:
    """Discard what is printed to a terminal that is closed, as an error in printing would end the saving."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(nowhere, stream)
    os.close(nowhere)
