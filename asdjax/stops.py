"""SIGTERM and Ctrl-C: an end at once where nothing would be lost, else once the dispatch in flight is saved.

Everything on disk survives a kill, so that ending at once is safe anywhere. A thread of its own hears the signals:
the main thread may be in a compilation for minutes, and Python calls no handler meanwhile.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOPPED = 75
"""Exit code: ended by a signal, and the same command goes on from what is saved (EX_TEMPFAIL)."""


class Deferral:
    """Between `begin` and the end of the `with` block the first signal only sets `asked`: there is work to save.

    A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self.heard = 0

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """From here on."""
        global _deferral
        _deferral = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _deferral
        _deferral = None


_deferral: Deferral | None = None


@contextmanager
def watched(command: str) -> Iterator[None]:
    """Within it signals are heard; `command` is what the message on standard error begins with. Main thread only."""
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    handlers = {number: signal.signal(number, _ask) for number in SIGNALS}
    wakeup_before = signal.set_wakeup_fd(sending)
    listener = threading.Thread(target=_listen, args=(receiving, command), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(sending)
        listener.join()


def _ask(*_: object) -> None:
    """In the main thread, as soon as it is back in Python."""
    if _deferral is not None:
        _deferral.asked = True


def _listen(receiving: int, command: str) -> None:
    """Until the other end is closed. os.write, as the main thread may be in the middle of printing."""
    while heard := os.read(receiving, 1):
        if heard[0] not in SIGNALS:
            continue
        deferral = _deferral
        if deferral is None or deferral.heard:
            os.write(2, f"\nasdjax {command}: stopped; run the same command again to go on\n".encode())
            sys.stdout.flush()
            os._exit(STOPPED)
        deferral.heard += 1
        os.write(2, b"\nstopping as soon as this is saved; a second signal ends at once\n")
    os.close(receiving)
