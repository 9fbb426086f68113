"""SIGTERM and Ctrl-C: finish the dispatch in flight, save, and end with exit code 75."""

import os
import signal
from types import FrameType, TracebackType
from typing import Self

from asdjax.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Within it the first signal only sets `asked`, and says so; a second one does what it did before."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()
        os.write(2, b"\nstopping; a second signal ends at once\n")  # not print, which may be what was interrupted

    def obey(self, where: str) -> None:
        """Raise Stopped if a signal came: for places where nothing has to be saved."""
        if self.asked:
            raise Stopped(f"stopped {where}; run the same command again to go on")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
